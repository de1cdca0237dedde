"""Health of real workers: a function that never returns, a Kafka that goes and comes back, a database that is held."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streams.broker import Broker
from streams.settings import KafkaSettings
from tables.store import Store
from tests.support.bank import bank, moves
from tests.support.topics import publish, wait_until
from tests.support.verify import verify, wait_idle
from tests.support.workers import Worker, create, free_port, unique

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180), pytest.mark.xdist_group("brokers")]

# The judgement itself is tests/streams/test_health.py's; here it only has to come soon.
SOON = """
from streams import health
health.STALLED_S = 3.0
"""
SAYING = """
import functools, sys
from streams import worker
worker.WorkerConfig = functools.partial(
    worker.WorkerConfig, notice=lambda line: print(line, file=sys.stderr, flush=True)
)
"""


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Workers that are gone when the test is."""
    made: list[Worker] = []
    yield made
    for worker in made:
        worker.end()


def start(workers: list[Worker], kafka: KafkaSettings, name: str, home: Path, patch: str = "") -> Worker:
    expression = f"tests.support.bank:bank({name!r})"
    worker = Worker(
        kafka, home, expression, instance="one", metrics_port=free_port(), patch=SOON + dedent(patch)
    )
    workers.append(worker)
    return worker.start()


def told(worker: Worker, path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one of its pages; status 0 while it starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.metrics_port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


def test_a_function_that_does_not_return_is_told_while_it_hangs(
    kafka: KafkaSettings, tmp_path: Path, workers: list[Worker]
) -> None:
    name = unique("health")
    asyncio.run(create(kafka, bank(name), 2))
    hanging = """
        import time
        from streams import topology
        step = topology.EntityLane.step
        def stepping(self, record):
            time.sleep(3600)
        topology.EntityLane.step = stepping
    """
    worker = start(workers, kafka, name, tmp_path, hanging)
    wait_until(lambda: told(worker, "/readyz")[0] == 200, "ready")
    publish(kafka, f"{name}.raw", moves(100))
    wait_until(lambda: told(worker, "/healthz")[0] == 503, "the standstill", 30)
    status, said = told(worker, "/healthz")
    assert (status, said["status"]) == (503, "stalled")
    # The whole loop hangs, so any lane may be the one that is named.
    assert f"lane {name}." in said["reason"]
    assert "records wait" in said["reason"]
    assert told(worker, "/readyz")[0] == 503


@pytest.mark.chaos
@pytest.mark.slow
def test_kafka_that_goes_and_comes_back_is_two_lines_and_a_while_without_health(
    tmp_path: Path, workers: list[Worker]
) -> None:
    broker = Broker(tmp_path / "kafka", heap="-Xmx512m")
    broker.start(attached=True)
    try:
        kafka, name = broker.settings(), unique("health")
        asyncio.run(create(kafka, bank(name), 2))
        records = list(moves(500))
        publish(kafka, f"{name}.raw", records)
        worker = start(workers, kafka, name, tmp_path, SAYING)
        wait_idle(kafka, name)
        wait_until(lambda: told(worker, "/readyz")[0] == 200, "ready")
        record = broker.folder.record()
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        wait_until(lambda: told(worker, "/healthz")[0] == 503, "no health", 30)
        assert "no word from Kafka" in told(worker, "/healthz")[1]["reason"]
        time.sleep(3)
        broker = Broker(tmp_path / "kafka", heap="-Xmx512m", port=int(record.bootstrap.rpartition(":")[2]))
        broker.start(attached=True)
        wait_until(lambda: told(worker, "/readyz")[0] == 200, "ready again")
        wait_until(lambda: "Kafka answers again" in worker.text(), "its return to be told", 20)
        more = list(moves(500, start=10_000, seed=2))
        publish(kafka, f"{name}.raw", more)
        wait_idle(kafka, name)
        lines = worker.text().splitlines()
        assert len(lines) == 2, lines
        assert lines[0].startswith(f"{name}: Kafka does not answer (")
        assert lines[1].startswith(f"{name}: Kafka answers again after ")
        assert worker.stop() == 0
        verify(kafka, name, records + more)
    finally:
        broker.stop()


def test_a_database_that_somebody_holds_is_waited_for(
    kafka: KafkaSettings, tmp_path: Path, workers: list[Worker]
) -> None:
    name = unique("health")
    asyncio.run(create(kafka, bank(name), 1))
    worker = start(workers, kafka, name, tmp_path)
    worker.wait_running(2)
    assert worker.stop() == 0
    [folder] = tmp_path.glob(f"*/{name}/events-0")
    held = Store(folder)
    try:
        worker = start(workers, kafka, name, tmp_path)
        time.sleep(4)
        worker.check()
        assert told(worker, "/readyz")[0] == 503
    finally:
        held.close()
    worker.wait_running(2)
    assert worker.stop() == 0


def test_a_database_that_is_never_let_go_ends_it_with_the_reason(
    kafka: KafkaSettings, tmp_path: Path, workers: list[Worker]
) -> None:
    name = unique("health")
    asyncio.run(create(kafka, bank(name), 1))
    worker = start(workers, kafka, name, tmp_path)
    worker.wait_running(2)
    assert worker.stop() == 0
    [folder] = tmp_path.glob(f"*/{name}/events-0")
    held = Store(folder)
    try:
        patch = "from streams import opening; opening.HELD_S = 1.0"
        worker = start(workers, kafka, name, tmp_path, patch)
        assert worker.wait() == 70
    finally:
        held.close()
    last = worker.text().strip().splitlines()[-1]
    assert last.startswith("midstream: stopped: ")
    assert f"{name}/events-0" in last
