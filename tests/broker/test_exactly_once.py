"""Exactly once on a real broker with real processes: killed, frozen, moved, robbed of their disk and of their broker.

Each test ends with `verify`: every key once and just the right ones, every row that of a run in memory, no record
skipped, the audit chains whole, no transaction open.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import Broker
from streams.settings import KafkaSettings
from tests.support.bank import bank, moves
from tests.support.topics import Watcher, ends, publish, wait_until
from tests.support.verify import Load, verify, verify_databases, wait_idle
from tests.support.workers import Worker, create, sleep_while, unique

pytestmark = [
    pytest.mark.broker,
    pytest.mark.chaos,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("brokers"),
]

PARTITIONS = 3
# Kafka's shortest: how long a member may be silent before its partitions move on.
SESSION_S = 6.0


class Bank:
    """A bank on a broker: its load and its workers."""

    def __init__(self, kafka: KafkaSettings, home: Path, rate: int) -> None:
        """Make its topics and begin the load."""
        self.kafka, self.home, self.name = kafka, home, unique("bank")
        asyncio.run(create(kafka, bank(self.name), PARTITIONS))
        self.load = Load(kafka, self.name, rate).start()
        self.workers: list[Worker] = []

    def worker(self, place: str, instance: str | None = None, pause_s: float = 0.0) -> Worker:
        """One more worker, started, with a database of its own."""
        made = Worker(
            self.kafka,
            self.home / place,
            f"tests.support.bank:bank({self.name!r})",
            instance=instance,
            session_s=SESSION_S,
            pause_s=pause_s,
        )
        self.workers.append(made)
        return made.start()

    def committed(self) -> int:
        """How many raw records have been read for good."""
        watcher = Watcher(self.kafka, self.name, f"{self.name}.raw")
        try:
            return sum(max(0, place.offset) for place in watcher.committed())
        finally:
            watcher.close()

    def wait_committed(self, more: int, within_s: float = 40.0) -> None:
        """Wait until that many more raw records have been read for good."""
        before = self.committed()
        wait_until(
            lambda: self.committed() >= before + more, f"{more} more records to be committed", within_s
        )

    def wait_transaction(self) -> None:
        """Wait until a transaction is open: its records are there and not yet committed."""
        topics = [f"{self.name}.{role}" for role in ("events", "account.changelog")]

        def is_open() -> bool:
            return any(
                ends(self.kafka, topic, committed=False) != ends(self.kafka, topic) for topic in topics
            )

        wait_until(is_open, "an open transaction")

    def end(self) -> None:
        """Leave nothing running."""
        for worker in self.workers:
            worker.end()


@pytest.fixture
def banks(kafka: KafkaSettings, tmp_path: Path) -> Iterator[Bank]:
    made = Bank(kafka, tmp_path, rate=800)
    try:
        yield made
    finally:
        made.end()


def test_kill_9_in_the_middle_of_a_transaction_again_and_again(banks: Bank) -> None:
    for _ in range(3):
        # A fixed name: the group need not wait until the dead one is given up.
        worker = banks.worker("one", instance="one")
        banks.wait_committed(200)
        banks.wait_transaction()
        worker.kill()
        # Whatever the instant: on disk is a committed prefix, perhaps an empty one, and never more.
        verify_databases(banks.kafka, banks.name, banks.home)
    worker = banks.worker("one", instance="one")
    records = banks.load.stop()
    wait_idle(banks.kafka, banks.name)
    assert worker.stop() == 0
    verify(banks.kafka, banks.name, records)
    # 200 accounts and the lanes themselves; a clean stop leaves nothing behind the changelog.
    assert verify_databases(banks.kafka, banks.name, banks.home) >= 200


def test_two_workers_of_which_one_is_killed_and_one_is_stopped(banks: Bank) -> None:
    one, two = banks.worker("one"), banks.worker("two")
    banks.wait_committed(500)
    banks.wait_transaction()
    one.kill()
    three = banks.worker("three")
    # Its partitions move to the others when it has been silent for long enough.
    sleep_while([two, three], SESSION_S + 3)
    banks.wait_committed(500)
    assert two.stop() == 0
    banks.wait_committed(500)
    records = banks.load.stop()
    wait_idle(banks.kafka, banks.name)
    three.check()
    verify(banks.kafka, banks.name, records)
    assert three.stop() == 0


def test_workers_that_come_and_go_lose_nothing(kafka: KafkaSettings, tmp_path: Path) -> None:
    # A slow trickle: polls that wait for data are under way whenever the partitions move. And a pause between the
    # seek and the flow, so that what a poll brings meanwhile would be lost if nobody waited for it.
    banks = Bank(kafka, tmp_path, rate=150)
    try:
        one = banks.worker("one", pause_s=0.7)
        banks.wait_committed(20)
        for _ in range(2):
            two = banks.worker("two", pause_s=0.7)
            sleep_while([one, two], 3.0)
            two.stop()
        # A rebalance within a rebalance.
        crowd = [banks.worker(place) for place in ("two", "three")]
        sleep_while([one, *crowd], 3.0)
        for worker in crowd:
            worker.stop()
        sleep_while([one], 2.0)
        records = banks.load.stop()
        wait_idle(kafka, banks.name)
        verify(kafka, banks.name, records)
        assert one.stop() == 0
    finally:
        banks.end()


def test_a_zombie_ends_itself_and_has_changed_nothing(banks: Bank) -> None:
    zombie = banks.worker("one")
    banks.wait_committed(300)
    banks.wait_transaction()
    zombie.send(signal.SIGSTOP)
    two = banks.worker("two")
    banks.wait_committed(500)
    zombie.send(signal.SIGCONT)
    assert zombie.wait(30) == 70
    last = zombie.text().strip().splitlines()[-1]
    assert last.startswith(f"midstream: stopped: lane {banks.name}.")
    assert "ProducerFenced" in last
    records = banks.load.stop()
    wait_idle(banks.kafka, banks.name)
    two.check()
    verify(banks.kafka, banks.name, records)
    assert two.stop() == 0


def test_a_lost_disk_is_restored_from_the_changelog(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = unique("bank")
    asyncio.run(create(kafka, bank(name), PARTITIONS))
    records = list(moves(3000))
    publish(kafka, f"{name}.raw", records)
    worker = Worker(kafka, tmp_path, f"tests.support.bank:bank({name!r})", instance="one").start()
    try:
        wait_idle(kafka, name)
        assert worker.stop() == 0
        before = verify_databases(kafka, name, tmp_path)
        for folder in tmp_path.glob(f"*/{name}"):
            shutil.rmtree(folder)
        # The last events again: only a row that has come back knows them.
        again = records[-20:]
        publish(kafka, f"{name}.raw", again)
        worker.start()
        wait_idle(kafka, name)
        assert worker.stop() == 0
        assert verify_databases(kafka, name, tmp_path) == before
        verify(kafka, name, [*records, *again])
    finally:
        worker.end()


@pytest.mark.slow
def test_a_broker_that_dies_and_comes_back_costs_only_time(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka", heap="-Xmx512m")
    broker.start(attached=True)
    banks: Bank | None = None
    try:
        banks = Bank(broker.settings(), tmp_path, rate=500)
        worker = banks.worker("one", instance="one")
        banks.wait_committed(300)
        banks.wait_transaction()
        record = broker.folder.record()
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        wait_until(lambda: broker.status().state != "running", "the broker's end")
        time.sleep(2)
        broker = Broker(tmp_path / "kafka", heap="-Xmx512m", port=int(record.bootstrap.rpartition(":")[2]))
        broker.start(attached=True)
        # It goes on, or has ended with a line that says why, and then a new one goes on.
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and worker.running.poll() is None:
            time.sleep(0.1)
        if worker.running.poll() is not None:
            assert worker.running.returncode == 70
            assert worker.text().strip().splitlines()[-1].startswith("midstream: stopped: ")
            worker = banks.worker("one", instance="one")
        banks.wait_committed(300, within_s=60)
        records = banks.load.stop()
        wait_idle(banks.kafka, banks.name)
        worker.check()
        verify(banks.kafka, banks.name, records)
        assert worker.stop() == 0
    finally:
        if banks is not None:
            banks.end()
        broker.stop()
