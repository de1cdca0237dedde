"""Data that is lost, damaged or has no room, with real workers: they stop with one line, or restore and say so.

What happens to a database costs nothing, because the changelog has it all; what happens to Kafka's own records is for a
person to decide.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from schemas.record import Given
from streams import kafka as door
from streams.settings import KafkaSettings
from tables.store import Store
from tests.support.bank import bank, moves
from tests.support.loss import cut, damage, delete_before, make_anew
from tests.support.topics import consumer, publish, read, wait_until
from tests.support.verify import verify, verify_databases, wait_idle
from tests.support.workers import ROOT, Worker, create, unique

pytestmark = [
    pytest.mark.broker,
    pytest.mark.chaos,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("brokers"),
]

# All of it in one lane, so that the lane under test is the one with the rows.
PARTITIONS = 1
# Its database writes a file soon. A database goes on with the buffers that it was made with.
SMALL_BUFFERS = "from tables import store; store.WRITE_BUFFER_BYTES = 1 << 18\n"
# Every file of a worker ends here: RocksDB meets EFBIG where a full disk says ENOSPC.
SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"


class Desk:
    """A bank with a worker, and what has been published for it."""

    def __init__(self, kafka: KafkaSettings, home: Path) -> None:
        """Make its topics."""
        self.kafka, self.home, self.name = kafka, home, unique("bank")
        asyncio.run(create(kafka, bank(self.name), PARTITIONS))
        self.expression = f"tests.support.bank:bank({self.name!r})"
        self.published: list[Given] = []
        self.workers: list[Worker] = []

    def publish(self, number: int, accounts: int = 200) -> None:
        """So many moves more."""
        start = len(self.published)
        more = list(moves(number, start=start, seed=start, duplicates=0.0, accounts=accounts))
        publish(self.kafka, f"{self.name}.raw", more)
        self.published += more

    def start(self, patch: str = "", place: str = "one") -> Worker:
        """A worker."""
        made = Worker(
            self.kafka, self.home / place, self.expression, instance=place, session_s=6.0, patch=patch
        )
        self.workers.append(made)
        return made.start()

    def run(self, patch: str = "", place: str = "one") -> Worker:
        """A worker, until it has read all and has been stopped."""
        worker = self.start(patch, place)
        wait_idle(self.kafka, self.name)
        assert worker.stop() == 0
        return worker

    def refused(self, patch: str = "", place: str = "one") -> tuple[int, str]:
        """A worker that ends by itself: its exit code and last line."""
        worker = self.start(patch, place)
        return worker.wait(60), last_line(worker)

    def folder(self, place: str = "one") -> Path:
        """The database of the lane with the rows."""
        (found,) = (self.home / place).glob(f"*/{self.name}/events-0")
        return found

    def changelog(self) -> str:
        """The topic of its rows."""
        return f"{self.name}.account.changelog"

    def committed(self, role: str) -> TopicPartition:
        """What the group has committed for a source."""
        reader = consumer(self.kafka, group=self.name)
        try:
            return reader.committed([TopicPartition(f"{self.name}.{role}", 0)], timeout=10)[0]
        finally:
            reader.close()

    def check(self) -> None:
        """Everything is exactly once and no less, also on disk."""
        verify(self.kafka, self.name, self.published)
        assert verify_databases(self.kafka, self.name, self.home) > 0

    def midstream(self, command: str, *options: str) -> tuple[int, str]:
        """`midstream offsets …` on this bank: exit code and output."""
        file = self.home / "pipeline_file.py"
        file.write_text(f"from tests.support.bank import bank\n\npipeline = bank({self.name!r})\n")
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", "offsets", command, str(file), *options],
            env=os.environ | {"KAFKA_BOOTSTRAP": str(self.kafka.bootstrap), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


def last_line(worker: Worker) -> str:
    """The last thing that a worker said."""
    return worker.text().strip().splitlines()[-1]


@pytest.fixture
def desk(kafka: KafkaSettings, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(kafka, tmp_path)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.end()


# The database: it comes back.


def test_a_database_that_is_damaged_when_it_is_opened_is_restored_and_that_is_said(desk: Desk) -> None:
    desk.publish(2000)
    desk.run()
    folder = desk.folder()
    (folder / "CURRENT").write_bytes(b"\xff" * 16)
    desk.publish(100)
    worker = desk.run()
    aside = folder.with_name("damaged-events-0")
    told = [line for line in worker.text().splitlines() if "damaged" in line]
    assert len(told) == 1
    assert told[0].startswith(
        f"midstream: lane {desk.name}.events.0: cannot open the lane's database {folder}: "
    )
    assert told[0].endswith(f"the lane restores it from its changelog. What is damaged is kept in {aside}")
    assert (aside / "CURRENT").read_bytes() == b"\xff" * 16
    shutil.rmtree(aside)
    desk.check()


def test_damage_that_shows_while_it_runs_ends_the_worker_and_the_next_one_restores(desk: Desk) -> None:
    # Many rows, so that there is a block for the damage to be in.
    desk.publish(4000, accounts=3000)
    desk.run()
    folder = desk.folder()
    damage(folder)
    desk.publish(3000, accounts=3000)
    # A lane would find it when it looks for its timers; here it is to find it in the middle of a batch.
    blind = "from tables.store import Store; Store.timers = lambda store: iter(())"
    code, line = desk.refused(blind)
    assert code == 70
    assert line.startswith(
        f"midstream: stopped: lane {desk.name}.events.0: cannot read the lane's database {folder}: "
    )
    aside = folder.with_name("damaged-events-0")
    assert line.endswith(f"What is damaged is kept in {aside}")
    assert not folder.exists()
    desk.run()
    shutil.rmtree(aside)
    desk.check()


def test_a_full_disk_ends_the_worker_and_loses_nothing(desk: Desk) -> None:
    desk.publish(300)
    desk.run(SMALL_BUFFERS)
    worker = desk.start(SMALL_BUFFERS + SMALL_FILES)
    # A buffer is brought to disk by the first write that finds it full.
    deadline = time.monotonic() + 60
    while worker.running.poll() is None and time.monotonic() < deadline:
        desk.publish(500, accounts=3000)
        time.sleep(0.3)
    code, line = worker.wait(10), last_line(worker)
    assert code == 70
    assert line.startswith(
        f"midstream: stopped: lane {desk.name}.events.0: cannot write the lane's database "
    )
    assert str(desk.folder()) in line
    assert "File too large. The disk has " in line
    assert line.endswith("start again: what is missing comes from the changelog, nothing is lost.")
    # Whatever could be written is a committed prefix.
    verify_databases(desk.kafka, desk.name, desk.home)
    desk.publish(100)
    desk.run()
    desk.check()


def test_a_disk_that_is_full_during_a_restore_ends_the_worker_too(desk: Desk) -> None:
    desk.publish(6000, accounts=5000)
    desk.run()
    code, line = desk.refused(SMALL_BUFFERS + SMALL_FILES, place="two")
    assert code == 70
    assert "cannot write the lane's database " in line
    assert "nothing is lost" in line
    desk.publish(100)
    desk.run(place="two")
    desk.check()


# The changelog: a person decides.


def test_an_emptied_changelog_is_noticed_with_and_without_the_database(desk: Desk) -> None:
    desk.publish(500)
    desk.run()
    make_anew(desk.kafka, desk.changelog(), PARTITIONS)
    for place in ("one", "two"):
        code, line = desk.refused(place=place)
        assert code == 78
        assert line.startswith(
            f"midstream: stopped: lane {desk.name}.events.0: {desk.changelog()} partition 0 ends at offset 0, but the "
            f"lane's last transaction wrote up to "
        )
        assert "--to keep --partition events:0" in line
    code, told = desk.midstream("show")
    assert code == 1
    assert "the changelog of account ends at 0, and went on to " in told


def test_a_changelog_that_is_taken_as_it_is_begins_a_new_life(desk: Desk) -> None:
    desk.publish(500)
    desk.run()
    rows = len(list_rows(desk))
    make_anew(desk.kafka, desk.changelog(), PARTITIONS)
    assert desk.refused()[0] == 78
    wait_no_members(desk)
    assert desk.midstream("reset", "--to", "keep")[0] == 1
    code, told = desk.midstream("reset", "--to", "keep", "--yes")
    assert (code, "events:0  stays at " in told) == (0, True)
    assert desk.midstream("show")[0] == 0
    desk.publish(5)
    # The database of before has more rows than the changelog: it must not be gone on with.
    worker = desk.run()
    assert "is from before its changelogs were taken as they are" in worker.text()
    shutil.rmtree(desk.folder().with_name("damaged-events-0"))
    assert 0 < verify_databases(desk.kafka, desk.name, desk.home) < rows


def list_rows(desk: Desk) -> list[tuple[bytes, bytes]]:
    """The rows of the database."""
    store = Store(desk.folder())
    try:
        return list(store.rows())
    finally:
        store.close()


def test_a_changelog_that_has_lost_its_head_is_no_loss_while_the_database_is_there(desk: Desk) -> None:
    desk.publish(500)
    desk.run()
    cut(desk.kafka, desk.changelog(), 0, 100)
    desk.publish(100)
    worker = desk.run()
    assert (
        f"{desk.changelog()} partition 0 has lost its records before offset 100. {desk.folder()}"
        in worker.text()
    )
    code, line = desk.refused(place="two")
    assert code == 78
    assert "begins at offset 100, but is needed from 0 on: it was emptied, cut or made anew" in line


def test_a_changelog_made_anew_while_the_lane_runs_ends_it_without_a_commit(desk: Desk) -> None:
    desk.publish(500)
    worker = desk.start()
    wait_idle(desk.kafka, desk.name)
    before = desk.committed("events")
    make_anew(desk.kafka, desk.changelog(), PARTITIONS)
    desk.publish(50)
    assert worker.wait(60) in (70, 78)
    assert last_line(worker).startswith(f"midstream: stopped: lane {desk.name}.events.0: ")
    after = desk.committed("events")
    assert after.offset == before.offset
    assert read(desk.kafka, desk.changelog()) == []
    assert desk.refused()[0] == 78


# The source: a person decides.


def test_records_deleted_before_they_were_read_are_not_skipped(desk: Desk) -> None:
    desk.publish(300)
    desk.run()
    at = desk.committed("raw").offset
    desk.publish(400)
    delete_before(desk.kafka, f"{desk.name}.raw", 0, at + 150)
    code, line = desk.refused()
    assert code == 78
    assert line.startswith(
        f"midstream: stopped: {desk.name}.raw partition 0: the next record to read is at offset {at}, "
        f"Kafka has {at + 150} to {at + 400}: up to 150 records were deleted before they were read."
    )
    assert "midstream offsets reset PIPELINE --to earliest --partition raw:0" in line
    assert desk.committed("raw").offset == at
    wait_no_members(desk)
    code, told = desk.midstream("show")
    assert code == 1
    assert f"raw:0 {at} {at + 150} {at + 400} up to 150 records were deleted" in " ".join(told.split())
    assert desk.midstream("reset", "--to", "earliest", "--yes") == (0, f"raw:0  {at} → {at + 150}\n")
    desk.run()
    del desk.published[300 : 300 + 150]
    desk.check()


def test_events_made_anew_are_not_read_as_if_nothing_had_been(desk: Desk) -> None:
    desk.publish(300)
    desk.run()
    make_anew(desk.kafka, f"{desk.name}.events", PARTITIONS)
    code, line = desk.refused()
    assert code == 78
    assert line.startswith(
        f"midstream: stopped: lane {desk.name}.events.0: it has rows, but the group {desk.name} has no offset for "
        f"{desk.name}.events partition 0: the topic was made anew, or "
    )
    wait_no_members(desk)
    assert desk.midstream("reset", "--to", "earliest", "--partition", "events:0", "--yes")[0] == 0
    desk.publish(100)
    desk.run()


def test_raw_made_anew_is_read_from_its_first_record_and_that_is_said(desk: Desk) -> None:
    desk.publish(300)
    desk.run()
    make_anew(desk.kafka, f"{desk.name}.raw", PARTITIONS)
    desk.publish(100)
    worker = desk.run()
    said = (
        f"lane {desk.name}.raw.0: {desk.name}.raw has no committed offset, but 1 partitions behind it have."
    )
    assert said in worker.text()
    desk.check()


def test_an_offset_behind_the_end_is_not_gone_on_from(desk: Desk) -> None:
    desk.publish(300)
    desk.run()
    place = desk.committed("raw")
    commit = {(place.topic, 0): (place.offset + 50, "partitions=1")}
    wait_no_members(desk)
    asyncio.run(door.commit_offsets(desk.kafka.client_options(), desk.name, commit))
    code, line = desk.refused()
    assert code == 78
    assert (
        "it ends 49 before the next record to read" in line
        or "it ends 50 before the next record to read" in line
    )


def test_retention_that_overtakes_a_running_worker_is_noticed(desk: Desk) -> None:
    # It looks away for a while between two polls.
    slow = (
        "import asyncio\nfrom streams import transport\npoll = transport.fetched\n"
        "async def fetched(*arguments):\n    await asyncio.sleep(3)\n    return await poll(*arguments)\n"
        "transport.fetched = fetched\ntransport.POLL_BYTES = 4096"
    )
    for _ in range(6):
        # Each a batch of its own on the wire: a fetch brings one.
        desk.publish(300)
    worker = desk.start(slow)
    wait_until(lambda: desk.committed("raw").offset > 0, "a first commit")
    delete_before(desk.kafka, f"{desk.name}.raw", 0, 1700)
    assert worker.wait(90) == 78
    assert "records were deleted before they were read" in last_line(worker)


def wait_no_members(desk: Desk) -> None:
    """A worker that ended by itself is a member until its session is over."""
    wait_until(lambda: "workers run" not in desk.midstream("reset", "--to", "keep")[1], "an empty group", 30)


def test_offsets_are_not_changed_under_a_running_worker(desk: Desk) -> None:
    desk.publish(100)
    desk.start()
    wait_idle(desk.kafka, desk.name)
    before = desk.committed("raw").offset
    code, told = desk.midstream("reset", "--to", "earliest", "--partition", "raw:0", "--yes")
    assert code == 1
    assert told.startswith(f"midstream: {desk.name}: 1 workers run. Stop all of them first")
    assert desk.committed("raw").offset == before
