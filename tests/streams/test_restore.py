"""streams/restore.py on a real broker: whatever the changelog holds, the database ends as its committed prefix."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams import kafka as door
from streams import restore as module
from streams.heads import ChangelogError, Heads
from streams.metrics import Metrics
from streams.restore import due_of, restore
from streams.settings import KafkaSettings
from streams.topics import Topic
from tables.store import Store
from tests.support.loss import cut
from tests.support.workers import unique

pytestmark = pytest.mark.broker

Clients = Mapping[str, Any]
NOTHING = Heads()


class Log:
    """Two changelogs of one lane, written as a lane writes them."""

    def __init__(self, clients: Clients, name: str, producer: AIOKafkaProducer, folder: Path) -> None:
        self.clients, self.producer, self.folder = clients, producer, folder
        self.cats, self.dogs = f"{name}.cat.changelog", f"{name}.dog.changelog"
        self.metrics = Metrics()

    async def write(
        self,
        topic: str,
        *rows: tuple[bytes, bytes | None, int | None],
        partition: int = 0,
        commit: bool = True,
    ) -> None:
        """One transaction."""
        await self.producer.begin_transaction()
        for key, value, due_ms in rows:
            headers = [] if due_ms is None else [("ms_due", b"%d" % due_ms)]
            await self.producer.send(topic, value, key=key, headers=headers, partition=partition)
        await self.producer.flush()
        await (self.producer.commit_transaction() if commit else self.producer.abort_transaction())

    async def restore(self, heads: Heads = NOTHING, stuck_s: float = 30.0) -> dict[str, int]:
        """Restore partition 0, as a lane does when it opens."""
        store = Store(self.folder)
        changelogs = {self.cats: "cat", self.dogs: "dog"}
        try:
            return await restore(
                self.clients, store, changelogs, 0, "pets.events.0", stuck_s, self.metrics, heads
            )
        finally:
            store.close()

    def rows(self) -> dict[bytes, bytes]:
        store = Store(self.folder)
        try:
            return dict(store.rows())
        finally:
            store.close()

    def timers(self) -> list[tuple[int, str, str]]:
        store = Store(self.folder)
        try:
            return sorted(store.timers())
        finally:
            store.close()

    @property
    def count(self) -> float:
        """How many records have been restored so far."""
        return self.metrics.registry.get_sample_value("midstream_restored_records_total") or 0.0


@asynccontextmanager
async def changelogs(kafka: KafkaSettings, folder: Path) -> AsyncIterator[Log]:
    name, clients = unique("restore"), kafka.client_options()
    wanted = [
        Topic(role, "", "", "", {"cleanup.policy": "compact"}) for role in ("cat.changelog", "dog.changelog")
    ]
    await door.create_topics(clients, name, wanted, 2, 1)
    producer = door.transactional_producer(clients, name, 60_000, 900_000)
    await producer.start()
    try:
        yield Log(clients, name, producer, folder / "db")
    finally:
        await producer.stop()


async def test_an_empty_changelog_is_an_empty_database(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        assert await log.restore() == {log.cats: 0, log.dogs: 0}
        assert log.rows() == {}


async def test_the_last_value_of_each_key_is_the_row(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, (b"cat:a", b"1", None), (b"cat:b", b"1", None), (b"cat:a", b"2", None))
        await log.write(log.cats, (b"cat:b", b"3", None))
        await log.write(log.dogs, (b"dog:a", b"9", None))
        # Three records and one, each with the mark of its transaction behind it.
        assert await log.restore() == {log.cats: 6, log.dogs: 2}
        assert log.rows() == {b"cat:a": b"2", b"cat:b": b"3", b"dog:a": b"9"}


async def test_what_was_rolled_back_never_happened(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, (b"cat:a", b"1", None))
        await log.write(log.cats, (b"cat:a", b"bad", None), (b"cat:b", b"bad", None), commit=False)
        started = time.monotonic()
        assert await log.restore() == {log.cats: 5, log.dogs: 0}
        assert log.rows() == {b"cat:a": b"1"}
        # Nothing but marks at the end: nobody waits for records that do not come.
        assert time.monotonic() - started < 10


async def test_an_open_transaction_is_not_waited_for(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, (b"cat:a", b"1", None))
        await log.producer.begin_transaction()
        await log.producer.send_and_wait(log.cats, b"later", key=b"cat:a", partition=0)
        assert await log.restore() == {log.cats: 2, log.dogs: 0}
        assert log.rows() == {b"cat:a": b"1"}
        await log.producer.abort_transaction()


async def test_a_deleted_row_is_gone(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, (b"cat:a", b"1", 5), (b"cat:b", b"1", None))
        await log.restore()
        await log.write(log.cats, (b"cat:a", None, None))
        await log.restore()
        assert log.rows() == {b"cat:b": b"1"}


async def test_only_what_is_missing_is_read(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, *((b"cat:%d" % n, b"1", None) for n in range(50)))
        await log.restore()
        assert log.count == 50
        await log.write(log.cats, (b"cat:0", b"2", None))
        await log.restore()
        assert log.count == 51
        await log.restore()
        assert log.count == 51
        assert log.rows()[b"cat:0"] == b"2"


async def test_another_partition_is_another_lanes(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, (b"cat:a", b"1", None))
        await log.write(log.cats, (b"cat:z", b"1", None), partition=1)
        await log.restore()
        assert log.rows() == {b"cat:a": b"1"}


async def test_timers_come_back_with_their_rows(kafka: KafkaSettings, tmp_path: Path) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, (b"cat:a", b"1", 1000), (b"cat:b", b"1", 2000), (b"cat:a:b", b"1", 3000))
        await log.write(log.cats, (b"cat:b", b"2", None))
        await log.restore()
        assert log.timers() == [(1000, "cat", "a"), (3000, "cat", "a:b")]


async def test_large_changelogs_come_in_chunks(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE_RECORDS", 7)
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, *((b"cat:%d" % (n % 40), b"%d" % n, None) for n in range(200)))
        await log.restore()
        assert log.rows() == {b"cat:%d" % (n % 40): b"%d" % n for n in range(160, 200)}
        assert log.count == 200


async def test_a_database_ahead_of_its_changelog_belongs_to_another(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with changelogs(kafka, tmp_path) as log:
        store = Store(log.folder)
        store.write([], {log.cats: 7})
        store.close()
        with pytest.raises(ChangelogError, match="ends at offset 0, but the local database holds it up to 7"):
            await log.restore()


async def test_a_restore_that_is_cut_off_goes_on_where_it_was(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Store.restore

    def cut_off(store: Store, rows: Any, offsets: Any) -> None:
        written(store, rows, offsets)
        if offsets[log.cats] > 3000:
            raise ZeroDivisionError

    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, *((b"cat:%d" % n, b"1", None) for n in range(5000)))
        monkeypatch.setattr(Store, "restore", cut_off)
        with pytest.raises(ZeroDivisionError):
            await log.restore()
        monkeypatch.undo()
        assert 3000 < len(log.rows()) < 5000
        await log.restore()
        assert len(log.rows()) == 5000
        # What had been written was not read once more.
        assert log.count < 2000


def test_a_due_time_is_read_from_the_header() -> None:
    assert due_of([("x", b"1"), ("ms_due", b"1234")]) == 1234
    assert due_of([]) is None


# What the lane's offset says of its changelogs.


async def test_a_changelog_that_ends_before_the_last_commit_has_lost_rows(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, (b"cat:a", b"1", None))
        assert await log.restore(Heads({"cat": 2, "dog": 0})) == {log.cats: 2, log.dogs: 0}
        with pytest.raises(
            ChangelogError, match="ends at offset 2, but the lane's last transaction wrote up to 3"
        ):
            await log.restore(Heads({"cat": 3}))
        with pytest.raises(ChangelogError, match=r"dog\.changelog partition 0 ends at offset 0"):
            await log.restore(Heads({"dog": 1}))


async def test_a_changelog_without_its_head_is_enough_for_a_database_that_has_it(
    kafka: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with changelogs(kafka, tmp_path) as log:
        await log.write(log.cats, *((b"cat:%d" % n, b"1", None) for n in range(20)))
        await log.restore()
        await asyncio.to_thread(cut, kafka, log.cats, 0, 10)
        await log.write(log.cats, (b"cat:0", b"2", None))
        await log.restore()
        assert len(log.rows()) == 20
        told = capsys.readouterr().err
        assert (
            f"{log.cats} partition 0 has lost its records before offset 10. {log.folder} has their rows"
            in told
        )
        shutil.rmtree(log.folder)
        with pytest.raises(ChangelogError, match="begins at offset 10, but is needed from 0 on"):
            await log.restore()
        # Unless somebody has accepted it.
        await log.restore(Heads(since={"cat": 10}))
        assert len(log.rows()) == 11


async def test_progress_is_shown_in_offsets(kafka: KafkaSettings, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    async with changelogs(kafka, tmp_path) as log:
        log.metrics.restoring = lambda lane, done, total, seconds: seen.append((lane, done, total))  # type: ignore[method-assign]
        await log.write(log.cats, *((b"cat:%d" % n, b"1", None) for n in range(20)))
        await log.restore()
    # Twenty records and the mark of their transaction.
    assert seen[-1] == ("pets.events.0", 21, 21)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
