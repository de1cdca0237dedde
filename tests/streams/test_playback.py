"""streams/playback.py on a real broker: what stands on the topic afterwards, and how long it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random

import pytest
from aiokafka.errors import KafkaError

from schemas.event import CLOCK, Clock, Headers
from streams import kafka as door
from streams.playback import AFTERWARDS_MS, Progress, play
from streams.settings import KafkaSettings
from streams.topics import Topic
from tests.support.topics import Got, read
from tests.support.workers import unique

pytestmark = pytest.mark.broker

MINUTE_MS = 60_000
STEP_MS = 30 * MINUTE_MS
START_MS = 1_360_281_600_000  # 2013-02-08T00:00:00Z, a full hour
PARTITIONS = 3


@dataclass(frozen=True)
class Note:
    """One record of a feed."""

    play_ms: int
    key: bytes = b"k"
    value: bytes = b"{}"

    @property
    def headers(self) -> Headers:
        return [("ce_id", b"%d" % self.play_ms)]


def notes(*minutes: float) -> list[Note]:
    """One note at each minute, spread over the partitions by their keys."""
    return [
        Note(START_MS + round(m * MINUTE_MS), key=b"k%d" % number, value=b"%d" % number)
        for number, m in enumerate(minutes)
    ]


async def topic(kafka: KafkaSettings, **config: str) -> str:
    name = unique("play")
    await door.create_topics(kafka.client_options(), name, [Topic("raw", "", "", "", config)], PARTITIONS, 1)
    return f"{name}.raw"


def split(got: Iterable[Got]) -> dict[int, list[Clock | bytes]]:
    """Partition → its notes (their values) and clocks, in order."""
    found: dict[int, list[Clock | bytes]] = {number: [] for number in range(PARTITIONS)}
    for record in got:
        value = record.value or b""
        is_clock = dict(record.headers).get("ce_type") == CLOCK.encode()
        found[record.partition].append(Clock.model_validate_json(value) if is_clock else value)
    return found


async def played(
    kafka: KafkaSettings, feed: Sequence[Note], speed: float = 0, **options: int
) -> tuple[str, Progress]:
    name = await topic(kafka)
    clients = kafka.client_options()
    return name, await play(
        clients, name, PARTITIONS, feed, speed=speed, clock_step_ms=options.get("step", STEP_MS)
    )


async def test_what_happened_before_a_clock_stands_before_it_and_nothing_else(kafka: KafkaSettings) -> None:
    feed = notes(*range(0, 200, 7))
    name, _ = await played(kafka, feed)
    for found in split(await asyncio.to_thread(read, kafka, name)).values():
        now_ms = START_MS
        for entry in found:
            if isinstance(entry, Clock):
                now_ms = entry.at_ms
            else:
                assert now_ms <= feed[int(entry)].play_ms < now_ms + STEP_MS


async def test_the_order_of_each_partition_is_that_of_the_feed(kafka: KafkaSettings) -> None:
    # Displaced records stand where the feed has them, whatever their event times.
    feed = notes(*range(500))
    name, done = await played(kafka, feed)
    found = split(await asyncio.to_thread(read, kafka, name))
    numbers = [[int(entry) for entry in entries if isinstance(entry, bytes)] for entries in found.values()]
    assert all(partition == sorted(partition) for partition in numbers)
    assert sorted(chain.from_iterable(numbers)) == list(range(500))
    assert (done.published, done.at_ms) == (500, START_MS + 499 * MINUTE_MS)


async def test_every_partition_hears_every_clock_under_its_own_name(kafka: KafkaSettings) -> None:
    name, _ = await played(kafka, notes(0, 95))
    for number, entries in split(await asyncio.to_thread(read, kafka, name)).items():
        clocks = [entry for entry in entries if isinstance(entry, Clock)]
        assert {(clock.origin, clock.origins, clock.rank) for clock in clocks} == {
            (f"raw/{number}", PARTITIONS, 1)
        }
        times = [clock.at_ms for clock in clocks]
        assert times == list(range(START_MS + STEP_MS, times[-1] + 1, STEP_MS))


@pytest.mark.parametrize("step_ms", [STEP_MS, 7 * MINUTE_MS, 5 * 60 * MINUTE_MS])
async def test_the_last_clock_is_final_and_late_enough(kafka: KafkaSettings, step_ms: int) -> None:
    feed = notes(0, 95)
    name, done = await played(kafka, feed, step=step_ms)
    for entries in split(await asyncio.to_thread(read, kafka, name)).values():
        clocks = [entry for entry in entries if isinstance(entry, Clock)]
        assert [clock.final for clock in clocks] == [False] * (len(clocks) - 1) + [True]
        assert entries[-1] == clocks[-1]
        assert clocks[-1].at_ms == done.final_ms
        assert clocks[-1].at_ms > feed[-1].play_ms + AFTERWARDS_MS - step_ms


async def test_an_empty_feed_says_nothing(kafka: KafkaSettings) -> None:
    name, done = await played(kafka, [])
    assert await asyncio.to_thread(read, kafka, name) == []
    assert (done.published, done.final_ms) == (0, None)


async def test_it_takes_as_long_as_its_speed_says(kafka: KafkaSettings) -> None:
    started = time.monotonic()
    # Two hours, an hour a second; before the last clocks there is nothing to wait for.
    await played(kafka, notes(0, 30, 60, 90, 120), speed=3600)
    assert 1.9 <= time.monotonic() - started <= 12.0


async def test_it_can_be_stopped_and_has_then_no_final_clock(kafka: KafkaSettings) -> None:
    name, progress = await topic(kafka), Progress()
    done = await play(
        kafka.client_options(),
        name,
        PARTITIONS,
        notes(*range(1000)),
        speed=0,
        progress=progress,
        stop=lambda: progress.published >= 100,
    )
    assert done is progress
    assert 100 <= done.published < 200
    assert done.final_ms is None
    found = split(await asyncio.to_thread(read, kafka, name))
    assert not any(entry.final for entries in found.values() for entry in entries if isinstance(entry, Clock))


async def test_a_record_that_kafka_does_not_take_is_no_success(kafka: KafkaSettings) -> None:
    name = await topic(kafka, **{"max.message.bytes": "1000"})
    # Not compressible, so too large on the wire, too.
    big = Note(START_MS, value=Random(1).randbytes(20_000))
    with pytest.raises(KafkaError, match="MessageSizeTooLarge"):
        await play(kafka.client_options(), name, PARTITIONS, [big], speed=0)
