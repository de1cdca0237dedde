"""streams/worker.py: real processes that start, show what they do, stop when asked and end when they must."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from streams import kafka as door
from streams import topics
from streams.memory import happened
from streams.metrics import by_label, scrape, total
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.signatures import PipelineError
from streams.worker import WorkerConfig, lane_config
from tests.support.bank import bank, moves
from tests.support.shop import Cancelled, Paid, Placed, shop
from tests.support.topics import publish, wait_until
from tests.support.verify import Load, verify, wait_idle
from tests.support.workers import ROOT, Worker, create, free_port, unique

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


# What it needs of the cluster.


async def test_a_missing_topic_is_named_with_the_way_out(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = unique("worker")
    plan = compile_plan(bank(name))
    wanted = [topic for topic in topics.topics(plan) if topic.role != topics.AUDIT]
    await door.create_topics(kafka.client_options(), name, wanted, 2, 1)
    with pytest.raises(
        PipelineError, match=f"no topic {name}.audit. Create them with: midstream topics create"
    ):
        await lane_config(plan, WorkerConfig(kafka.client_options(), tmp_path))


async def test_topics_behind_events_have_its_partitions(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = unique("worker")
    plan = compile_plan(bank(name))
    wanted = topics.topics(plan)
    await door.create_topics(
        kafka.client_options(), name, [t for t in wanted if t.role == topics.ACTIONS], 3, 1
    )
    await door.create_topics(kafka.client_options(), name, wanted, 2, 1)
    with pytest.raises(PipelineError, match=f"{name}.actions has 3 partitions, {name}.events has 2"):
        await lane_config(plan, WorkerConfig(kafka.client_options(), tmp_path))


async def test_raw_may_have_as_many_partitions_as_it_likes(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = unique("worker")
    plan = compile_plan(bank(name))
    wanted = topics.topics(plan)
    await door.create_topics(kafka.client_options(), name, [t for t in wanted if t.role == topics.RAW], 5, 1)
    await door.create_topics(kafka.client_options(), name, wanted, 2, 1)
    found = await lane_config(plan, WorkerConfig(kafka.client_options(), tmp_path))
    assert (found.partitions, found.group) == (2, name)
    # A database of one cluster is of no use to another.
    assert found.folder == tmp_path / await door.cluster_id(kafka.client_options()) / name


def test_a_broker_that_is_not_there_is_one_line_and_exit_code_69(tmp_path: Path) -> None:
    (tmp_path / "pipe.py").write_text("from tests.support.bank import bank\nthings = bank('nobody')\n")
    run = subprocess.run(
        [sys.executable, "-m", "streams.cli", "worker", str(tmp_path / "pipe.py")],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "MIDSTREAM_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (69, "")
    assert run.stderr.startswith("midstream: ")
    assert "127.0.0.1:1" in run.stderr
    assert run.stderr.count("\n") == 1


# How it stops.


@pytest.fixture
def name(kafka: KafkaSettings) -> str:
    """A bank with its topics."""
    made = unique("worker")
    asyncio.run(create(kafka, bank(made), 2))
    return made


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Workers that are gone when the test is."""
    made: list[Worker] = []
    yield made
    for worker in made:
        worker.end()


def start(workers: list[Worker], kafka: KafkaSettings, name: str, home: Path, patch: str = "") -> Worker:
    expression = f"tests.support.bank:bank({name!r})"
    worker = Worker(kafka, home, expression, instance="one", metrics_port=free_port(), patch=dedent(patch))
    workers.append(worker)
    return worker.start()


def test_it_stops_within_a_batch_under_load_and_goes_on_where_it_was(
    kafka: KafkaSettings, name: str, tmp_path: Path, workers: list[Worker]
) -> None:
    load = Load(kafka, name, rate=1500).start()
    worker = start(workers, kafka, name, tmp_path)
    for number in (signal.SIGTERM, signal.SIGINT):
        worker.wait_running(4)
        time.sleep(0.5)
        started = time.monotonic()
        worker.send(number)
        assert worker.wait() == 0
        assert time.monotonic() - started < 10
        worker = start(workers, kafka, name, tmp_path)
    records = load.stop()
    wait_idle(kafka, name)
    assert worker.stop() == 0
    assert "Traceback" not in worker.text()
    verify(kafka, name, records)


def test_a_second_signal_does_no_harm(
    kafka: KafkaSettings, name: str, tmp_path: Path, workers: list[Worker]
) -> None:
    publish(kafka, f"{name}.raw", moves(2000))
    worker = start(workers, kafka, name, tmp_path)
    worker.wait_running(4)
    worker.send(signal.SIGINT)
    worker.send(signal.SIGINT)
    assert worker.wait() == 0
    assert "Traceback" not in worker.text()


@pytest.mark.parametrize("after_s", [0.3, 1.0, 1.6])
def test_it_can_be_stopped_while_it_starts(
    kafka: KafkaSettings, name: str, tmp_path: Path, workers: list[Worker], after_s: float
) -> None:
    worker = start(workers, kafka, name, tmp_path)
    time.sleep(after_s)
    # Before it listens for signals there is nothing to be put in order: the signal itself ends it.
    assert worker.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in worker.text()


# How it ends when it must.

ENDS = {
    "a poll": (
        """
        from streams import transport
        async def poll(self, active_partitions, timeout):
            raise RuntimeError("broken")
        transport.BatchConsumer._getmany = poll
        """,
        "{name}: RuntimeError: broken",
    ),
    "the seek": (
        """
        from streams import transport
        async def seek(self):
            raise RuntimeError("broken")
        transport.BatchConsumer.perform_seek = seek
        """,
        "{name}: RuntimeError: broken",
    ),
    "opening the lanes": (
        """
        from streams import lane
        async def opening(self, client):
            raise RuntimeError("broken")
        lane.Lane.open = opening
        """,
        "{name}: a lane could not be opened: RuntimeError: broken",
    ),
    "closing the lanes": (
        """
        from streams import lanes
        async def closing(self):
            raise RuntimeError("broken")
        lanes.Lanes.revoke = closing
        """,
        "{name}: a lane could not be closed: RuntimeError: broken",
    ),
    "handing over": (
        """
        from streams import lanes
        async def submit(self, epoch, batch):
            raise RuntimeError("broken")
        lanes.Lanes.submit = submit
        """,
        "a batch could not be handed over: RuntimeError: broken",
    ),
    "the stage": (
        """
        from streams import topology
        def step(self, record):
            raise RuntimeError("broken")
        topology.Ingest.step = step
        """,
        "lane {name}.raw.",
    ),
    "the ticker": (
        """
        from streams import lane
        async def tick(self, now_ms):
            raise RuntimeError("broken")
        lane.Lane.tick = tick
        """,
        "{name}: ticker: RuntimeError: broken",
    ),
    "a poll that never ends": (
        """
        import asyncio
        from streams import transport, worker
        async def poll(self, active_partitions, timeout):
            await asyncio.sleep(3600)
        transport.BatchConsumer._getmany = poll
        watch = worker.watch
        async def watching(app, lanes, metrics, outage, stuck_s):
            await watch(app, lanes, metrics, outage, 1.5)
        worker.watch = watching
        """,
        "{name}: nothing was read for 1.5 s although ",
    ),
}


@pytest.mark.parametrize("what", ENDS)
def test_it_ends_with_a_line_that_says_why_when_something_breaks(
    kafka: KafkaSettings, name: str, tmp_path: Path, workers: list[Worker], what: str
) -> None:
    patch, line = ENDS[what]
    publish(kafka, f"{name}.raw", moves(10))
    worker = start(workers, kafka, name, tmp_path, patch)
    assert worker.wait() == 70
    last = worker.text().strip().splitlines()[-1]
    assert last.startswith("midstream: stopped: " + line.format(name=name))


def test_the_next_goes_on_where_one_that_ended_was(
    kafka: KafkaSettings, name: str, tmp_path: Path, workers: list[Worker]
) -> None:
    records = list(moves(200))
    publish(kafka, f"{name}.raw", records)
    patch = """
        from streams import topology
        step, count = topology.EntityLane.step, []
        def failing(self, record):
            count.append(record)
            if len(count) > 50:
                raise RuntimeError("broken")
            return step(self, record)
        topology.EntityLane.step = failing
    """
    assert start(workers, kafka, name, tmp_path, patch).wait() == 70
    worker = start(workers, kafka, name, tmp_path)
    wait_idle(kafka, name)
    assert worker.stop() == 0
    verify(kafka, name, records)


# What it shows.

NAMES = {
    "events": "midstream_events_total",
    "duplicates": "midstream_duplicates_total",
    "records": "midstream_records_total",
    "batch size": "midstream_batch_records_count",
    "commit time": "midstream_batch_seconds_count",
    "lane state": "midstream_lane_state",
    "progress": "midstream_lane_progress_timestamp_seconds",
    "clock": "midstream_clock_timestamp_seconds",
    "decisions by route": "midstream_decisions_total",
    "timers": "midstream_timers_total",
    "quarantine by reason": "midstream_quarantined_total",
    "end-to-end latency": "midstream_latency_seconds_count",
}


def test_a_scrape_shows_everything(kafka: KafkaSettings, tmp_path: Path, workers: list[Worker]) -> None:
    name, port = unique("worker"), free_port()
    asyncio.run(create(kafka, shop(name), 2))
    worker = Worker(kafka, tmp_path, f"tests.support.shop:shop({name!r})", metrics_port=port)
    workers.append(worker)
    worker.start()
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    good = [
        happened(Placed(order_id="o1", customer_id="c1", amount=5), long_ago, "e1"),
        happened(Paid(order_id="o1", customer_id="c1", amount=1500), long_ago, "e2"),
        happened(Cancelled(order_id="o1"), long_ago, "e3"),
    ]
    publish(kafka, f"{name}.raw", [*good, good[0], good[0]._replace(value=b"no", headers=[])])
    # The wall clock ticks: what was to settle three hours ago is due.
    wait_until(lambda: "midstream_timers_total{" in text(worker), "a timer", 40)
    wait_until(lambda: total(scrape(port), "midstream_lag_records") == 0, "no lag")
    samples = scrape(port)
    missing = [what for what, metric in NAMES.items() if total(samples, metric) <= 0]
    assert missing == []
    assert ("midstream_lag_records", frozenset({("lane", f"{name}.events.0")})) in samples
    assert total(samples, "midstream_lane_state", state="running") == 4
    assert total(samples, "midstream_duplicates_total", type="order.placed") == 1
    assert by_label(samples, "midstream_quarantined_total", "reason") == {"not_an_event": 1}
    assert total(samples, "midstream_decisions_total", decision="refund", route="rule", gate="proceed") == 1
    assert total(samples, "midstream_decisions_total", decision="watch", gate="review") == 1
    assert total(samples, "midstream_latency_seconds_count", topic="decisions") >= 2
    assert worker.stop() == 0


def text(worker: Worker) -> str:
    """A scrape, or nothing while it starts."""
    worker.check()
    try:
        return worker.metrics()
    except OSError:
        return ""
