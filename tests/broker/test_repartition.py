"""More partitions on a real Kafka: refused while the state does not fit; moved with nothing lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from schemas.keys import partition_of
from schemas.record import Given
from streams import kafka as door
from streams import repartition as module
from streams import topics
from streams.plan import Plan, compile_plan
from streams.repartition import Repartitioned, remarked, repartition
from streams.settings import KafkaSettings
from streams.signatures import PipelineError
from tests.support.bank import Books, bank, moves
from tests.support.topics import publish, read
from tests.support.verify import wait_idle
from tests.support.workers import ROOT, Worker, create, unique

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

BEFORE = 2


class Case:
    """A bank with two partitions, its worker, and what was published."""

    def __init__(self, kafka: KafkaSettings, home: Path) -> None:
        self.kafka, self.home, self.name = kafka, home, unique("grown")
        self.plan: Plan = asyncio.run(create(kafka, bank(self.name), BEFORE))
        self.records: list[Given] = []
        self.workers: list[Worker] = []

    def publish(self, records: list[Given]) -> None:
        publish(self.kafka, f"{self.name}.raw", records)
        self.records += records

    def worker(self, patch: str = "") -> Worker:
        expression = f"tests.support.bank:bank({self.name!r})"
        made = Worker(self.kafka, self.home, expression, session_s=6.0, patch=dedent(patch))
        self.workers.append(made)
        return made.start()

    def run(self) -> None:
        """A worker until everything is read."""
        worker = self.worker()
        try:
            wait_idle(self.kafka, self.name)
        finally:
            worker.check()
        # All may have been read before: then it is told to stop before it listens.
        assert worker.stop() in (0, -signal.SIGTERM)

    def grow(self, after: int) -> Repartitioned:
        said: list[str] = []
        return asyncio.run(repartition(self.kafka.client_options(), self.plan, after, said.append))

    def check(self, partitions: int) -> None:
        """Every row once, where its key belongs, as an independent fold says; every action once."""
        books = Books(self.name)
        books.enter(self.records)
        last = {
            (got.partition, got.key): got.value for got in read(self.kafka, f"{self.name}.account.changelog")
        }
        rows = [(partition, key) for (partition, key), value in last.items() if value is not None]
        assert [place for place, key in rows] == [partition_of(key or b"", partitions) for _, key in rows]
        assert len({key for _, key in rows}) == len(rows) == len(books.balances)
        plan = compile_plan(bank(self.name))
        assert plan.entities
        codec = plan.entities["account"].state
        for (_, key), value in last.items():
            if value is not None:
                state = codec.model_validate_json(_state_of(value))
                account = (key or b"").decode().removeprefix("account:")
                assert state.model_dump()["balance"] == books.balances[account]
                assert state.model_dump()["moves"] == books.moves[account]
        actions = Counter((got.key or b"").decode() for got in read(self.kafka, f"{self.name}.actions"))
        assert set(actions.values()) == {1}
        assert set(actions) == books.actions
        assert read(self.kafka, f"{self.name}.quarantine") == []


def _state_of(row: bytes) -> bytes:
    return json.dumps(json.loads(row)["state"]).encode()


@pytest.fixture
def case(kafka: KafkaSettings, tmp_path: Path) -> Iterator[Case]:
    made = Case(kafka, tmp_path)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.end()


@pytest.mark.parametrize(("after", "disk"), [(4, "kept"), (5, "lost")])
def test_rows_move_to_where_their_keys_belong_and_everything_goes_on(
    case: Case, after: int, disk: str
) -> None:
    case.publish(list(moves(1500)))
    case.run()
    moved = case.grow(after)
    assert (moved.before, moved.after, moved.events) == (BEFORE, after, 0)
    assert 20 < moved.rows < 200
    if disk == "lost":
        for folder in case.home.glob(f"*/{case.name}"):
            shutil.rmtree(folder)
    # Old events again: only a row that has come along knows them.
    case.publish([*case.records[-30:], *moves(1500, start=10_000, seed=2)])
    case.run()
    case.check(after)
    # It is done: once more is nothing.
    assert case.grow(after) == Repartitioned(after, after, 0, 0, 0)


def test_events_that_nobody_has_read_go_along(case: Case) -> None:
    case.publish(list(moves(1500)))
    failing = """
        from streams import topology
        step, count = topology.EntityLane.step, []
        def stepping(self, record):
            count.append(record)
            if len(count) > 700:
                raise RuntimeError("broken")
            return step(self, record)
        topology.EntityLane.step = stepping
    """
    assert case.worker(failing).wait() == 70
    moved = case.grow(3)
    assert moved.events > 100
    case.publish(list(moves(500, start=10_000, seed=2)))
    case.run()
    case.check(3)


def test_topics_that_grow_under_a_worker_end_it_and_no_other_starts_until_the_rows_have_moved(
    case: Case,
) -> None:
    case.publish(list(moves(1000)))
    worker = case.worker("from streams import transport; transport.METADATA_MAX_AGE_MS = 1000")
    wait_idle(case.kafka, case.name)
    behind = [
        topics.topic_name(case.plan, topic.role)
        for topic in topics.topics(case.plan)
        if topic.role != topics.RAW
    ]
    asyncio.run(door.grow_topics(case.kafka.client_options(), behind, 4))
    # As the world does: it goes on.
    case.publish(list(moves(1000, start=10_000, seed=2)))
    assert worker.wait(60) == 78
    line = f"{case.name}.events has 4 partitions, but the state was made with 2: "
    assert line in worker.text().strip().splitlines()[-1]
    again = case.worker()
    assert again.wait() != 0
    assert line in again.text()
    moved = case.grow(4)
    assert moved.rows > 20
    case.run()
    case.check(4)


def test_a_topic_that_has_grown_alone_is_refused(case: Case) -> None:
    asyncio.run(door.grow_topics(case.kafka.client_options(), [f"{case.name}.account.changelog"], 3))
    worker = case.worker()
    assert worker.wait() != 0
    assert f"{case.name}.account.changelog has 3 partitions, {case.name}.events has 2." in worker.text()
    assert case.grow(3) == Repartitioned(2, 3, 0, 0, 0)
    case.publish(list(moves(300)))
    case.run()
    case.check(3)


def test_nothing_is_moved_under_a_worker_that_runs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOPPED_S", 1.0)
    case.publish(list(moves(100)))
    worker = case.worker()
    wait_idle(case.kafka, case.name)
    with pytest.raises(PipelineError, match=f"1 workers of {case.name} run. Stop them first"):
        case.grow(4)
    worker.check()
    assert asyncio.run(door.partition_counts(case.kafka.client_options(), [f"{case.name}.events"])) == {
        f"{case.name}.events": BEFORE
    }


def test_one_that_is_cut_off_has_not_happened(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.publish(list(moves(1000)))
    case.run()

    async def broken(*given: object) -> tuple[int, dict[object, object]]:
        raise ConnectionError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(module.Move, "_requeue", broken)
        with pytest.raises(ConnectionError, match="cut off"):
            case.grow(4)
    # The topics have grown, the rows have not moved: nobody may start.
    assert case.worker().wait() != 0
    assert case.grow(4).rows > 20
    case.publish([*case.records[-30:]])
    case.run()
    case.check(4)


def test_partitions_cannot_be_taken_away(case: Case) -> None:
    with pytest.raises(PipelineError, match="--partitions must be at least 2"):
        case.grow(1)


def test_a_mark_is_replaced_and_all_else_is_kept() -> None:
    assert remarked("partitions=4 heads=a:1 life=x", 8) == "partitions=8 heads=a:1 life=x"
    assert remarked("", 8) == "partitions=8"


def test_the_command_says_what_it_did(case: Case) -> None:
    pipe = case.home / "pipe.py"
    pipe.write_text(f"from tests.support.bank import bank\nmade = bank({case.name!r})\n")
    run = subprocess.run(
        [sys.executable, "-m", "streams.cli", "repartition", str(pipe), "--partitions", "3"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "KAFKA_BOOTSTRAP": str(case.kafka.bootstrap)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (
        0,
        f"{case.name} has 3 partitions (before: 2): 0 rows and 0 reviews moved, 0 unread events written anew\n",
    )
