"""streams/opening.py on a real broker: a lane's database is whole, or set aside and restored."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from schemas.record import Given
from streams import kafka as door
from streams.heads import ChangelogError
from streams.metrics import Metrics
from streams.opening import Opening, look_at_source
from streams.settings import KafkaSettings
from streams.topics import Topic
from tables.store import Store
from tests.support.loss import damage
from tests.support.topics import publish
from tests.support.workers import unique

pytestmark = pytest.mark.broker


async def made(kafka: KafkaSettings, folder: Path, rows: int = 3000, metadata: str = "") -> Opening:
    """A lane with a changelog of `rows` rows and a committed offset."""
    name, clients = unique("opening"), kafka.client_options()
    wanted = [Topic("events", "", "", ""), Topic("cat.changelog", "", "", "", {"cleanup.policy": "compact"})]
    await door.create_topics(clients, name, wanted, 1, 1)
    records = [Given("", 0, 0, 0, b"cat:%05d" % n, b"%05d" % n * 60) for n in range(rows)]
    await asyncio.to_thread(publish, kafka, f"{name}.cat.changelog", records)
    await asyncio.to_thread(publish, kafka, f"{name}.events", records[:1])
    await door.commit_offsets(clients, name, {(f"{name}.events", 0): (1, metadata)})
    source = TopicPartition(f"{name}.events", 0)
    changelogs = {f"{name}.cat.changelog": "cat"}
    return Opening(
        clients, name, source, changelogs, folder / "events-0", f"{name}.events.0", 30.0, Metrics()
    )


async def rows_of(opening: Opening) -> int:
    """Open, count, close."""
    opened = await opening.opened()
    count = len(list(opened.store.rows()))
    opened.store.close()
    return count


async def test_a_new_disk_is_filled_from_the_changelog(kafka: KafkaSettings, tmp_path: Path) -> None:
    opening = await made(kafka, tmp_path, metadata="partitions=1 heads=cat:3000 life=8f3a")
    opened = await opening.opened()
    assert opened.offsets == {next(iter(opening.changelogs)): 3000}
    assert dict(opened.heads.ends) == {"cat": 3000}
    assert opened.store.life() == "8f3a"
    assert len(list(opened.store.rows())) == 3000
    opened.store.close()


async def test_damage_that_is_found_on_the_way_is_set_aside(
    kafka: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opening = await made(kafka, tmp_path)
    assert await rows_of(opening) == 3000
    # The offsets stand in the same tables: they cannot be read, which is not the same as not being there.
    damage(opening.folder)
    store = Store(opening.folder)
    store.close()
    for file in opening.folder.glob("MANIFEST-*"):
        file.write_bytes(b"")
    assert await rows_of(opening) == 3000
    told = capsys.readouterr().err
    assert told.startswith(
        f"midstream: lane {opening.lane}: cannot open the lane's database {opening.folder}: "
    )
    assert told.endswith(f"What is damaged is kept in {tmp_path / 'damaged-events-0'}\n")
    assert len(told.splitlines()) == 1


async def test_a_database_of_another_life_is_not_gone_on_with(
    kafka: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opening = await made(kafka, tmp_path, rows=10)
    assert await rows_of(opening) == 10
    committed = {(opening.source.topic, 0): (1, "heads=cat:10 life=8f3a")}
    await door.commit_offsets(opening.clients, opening.group, committed)
    stale = Store(opening.folder)
    stale.restore({b"cat:stale": (b"1", None)}, {})
    stale.close()
    assert await rows_of(opening) == 10
    assert "is from before its changelogs were taken as they are" in capsys.readouterr().err
    # It knows of its life now.
    assert await rows_of(opening) == 10
    assert capsys.readouterr().err == ""


async def test_rows_without_a_committed_offset_are_not_begun_again(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    opening = await made(kafka, tmp_path, rows=10)
    other = Opening(**{**vars(opening), "group": unique("nobody")})
    with pytest.raises(
        ChangelogError, match=r"has no offset for .* partition 0: the topic was made anew, or all"
    ):
        await other.opened()
    # Its database is free again.
    assert await rows_of(opening) == 10


async def test_a_source_that_lost_its_offsets_is_told_of(
    kafka: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opening = await made(kafka, tmp_path, rows=1)
    raw = TopicPartition(next(iter(opening.changelogs)), 0)
    await look_at_source(opening.clients, opening.group, raw, "lane")
    assert f"{raw.topic} has no committed offset, but 1 partitions behind it have" in capsys.readouterr().err
    await look_at_source(opening.clients, opening.group, opening.source, "lane")
    await look_at_source(opening.clients, unique("nobody"), raw, "lane")
    assert capsys.readouterr().err == ""
