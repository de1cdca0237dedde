"""What the tests of lanes share: lanes on topics of their own, and records as they stand on one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas.record import Given
from schemas.times import to_ms
from streams import kafka as door
from streams import topics
from streams.lane import Lane, LaneConfig
from streams.leftovers import asking, last_end
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from tests.support.bank import START, bank
from tests.support.topics import Got, read
from tests.support.workers import unique

PARTITIONS = 2


def lane_config(kafka: KafkaSettings, name: str, folder: Path, **changes: Any) -> LaneConfig:
    given: dict[str, Any] = {"playback": True, **changes}
    return LaneConfig(
        compile_plan(changes.pop("pipeline", bank)(name)),
        kafka.client_options(),
        name,
        PARTITIONS,
        folder,
        **{key: value for key, value in given.items() if key != "pipeline"},
    )


async def made(kafka: KafkaSettings, pipeline: Any = bank) -> str:
    name = unique("lanes")
    plan = compile_plan(pipeline(name))
    await door.create_topics(kafka.client_options(), name, topics.topics(plan), PARTITIONS, 1)
    return name


def standing(records: Iterable[Given | Got], topic: str, partition: int = 0) -> list[Given]:
    """Records as they stand on a topic."""
    return [
        Given(topic, partition, offset, to_ms(START), record.key, record.value, record.headers)
        for offset, record in enumerate(records)
    ]


async def now(kafka: KafkaSettings, topic: str) -> list[Got]:
    return await asyncio.to_thread(read, kafka, topic)


async def begin(lane: Lane) -> None:
    """Open `lane`."""
    async with asking(lane.config.clients) as client:
        await lane.open(client)


async def ended(kafka_clients: Mapping[str, Any], transactional_id: str) -> str | None:
    """How the last transaction ended, once every partition knows."""
    async with asking(kafka_clients) as client:
        return await last_end(client, transactional_id)
