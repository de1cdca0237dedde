"""streams/lanes.py on a real broker, without Faust: who may hand over what, and when."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from streams.lanes import Lanes
from streams.metrics import Metrics
from streams.settings import KafkaSettings
from tests.support.bank import Books, moves
from tests.support.chunks import chunk
from tests.support.lanes import PARTITIONS, lane_config, made, now, standing

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Lanes take the cyclic collector into their own hands, for the whole process."""
    yield
    gc.unfreeze()
    gc.enable()


def held(*places: tuple[str, int]) -> Any:
    return lambda: places


async def test_lanes_take_polls_of_their_own_epoch_only(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka)
    lanes = Lanes(lane_config(kafka, name, tmp_path), Metrics())
    raw = f"{name}.raw"
    batch = standing(moves(10, duplicates=0), raw)
    await lanes.assign(held((raw, 0)))
    # 1. Before the seek: nothing is taken, whatever number it carries.
    await lanes.submit(0, chunk(batch))
    # 2. After it: what was polled since.
    lanes.sought(1)
    await lanes.submit(0, chunk(batch))
    await lanes.submit(1, chunk(batch[:5]))
    # 3. A new assignment: the old epoch is over, also before the next seek.
    await lanes.assign(held((raw, 0)))
    await lanes.submit(1, chunk(batch[5:]))
    lanes.sought(2)
    await lanes.submit(1, chunk(batch[5:]))
    await lanes.submit(2, chunk(batch[5:9]))
    await lanes.revoke()
    await lanes.submit(2, chunk(batch[9:]))
    assert len(await now(kafka, f"{name}.events")) == 9


async def test_a_partition_that_was_taken_away_is_not_read(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka)
    lanes = Lanes(lane_config(kafka, name, tmp_path), Metrics())
    raw = f"{name}.raw"
    await lanes.assign(held((raw, 0), (raw, 1), (f"{name}.events", 0), ("somebody.else", 0)))
    assert set(lanes.open_lanes) == {(raw, 0), (raw, 1), (f"{name}.events", 0)}
    await lanes.assign(held((raw, 1)))
    assert set(lanes.open_lanes) == {(raw, 1)}
    lanes.sought(1)
    await lanes.submit(1, chunk(standing(moves(10, duplicates=0), raw, 0)))
    await lanes.revoke()
    assert lanes.open_lanes == {}
    assert await now(kafka, f"{name}.events") == []


async def test_an_assignment_that_was_overtaken_opens_nothing(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka)
    lanes = Lanes(lane_config(kafka, name, tmp_path), Metrics())
    place = (f"{name}.events", 0)
    holding = [True]
    first = asyncio.create_task(lanes.assign(lambda: [place] if holding[0] else []))
    await asyncio.sleep(0)
    assert lanes.turning
    # While it opens, the partitions are taken away, and an assignment from before is still to come.
    holding[0] = False
    taking, late = (
        asyncio.create_task(lanes.revoke()),
        asyncio.create_task(lanes.assign(lambda: [place] if holding[0] else [])),
    )
    async with asyncio.timeout(20):
        await asyncio.gather(first, taking, late)
    assert lanes.open_lanes == {}
    assert not lanes.turning


async def test_lanes_of_one_worker_come_and_go_with_their_databases(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    name = await made(kafka)
    lanes = Lanes(lane_config(kafka, name, tmp_path), Metrics())
    places = [
        (f"{name}.{role}", number) for role in (topics.RAW, topics.EVENTS) for number in range(PARTITIONS)
    ]
    books, records = Books(name), list(moves(200))
    books.enter(records)
    started = time.monotonic()
    for epoch in (1, 2, 3):
        await lanes.assign(held(*places))
        lanes.sought(epoch)
        if epoch == 1:
            await lanes.submit(1, chunk(standing(records, f"{name}.raw")))
        await lanes.revoke()
    assert time.monotonic() - started < 20
    assert len(await now(kafka, f"{name}.events")) == len(records)
