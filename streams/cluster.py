"""Questions to a Kafka cluster from outside the lanes: topics, offsets, groups and records come out, nothing changes.

Everything reads committed records only, and up to the end as it was when the question was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import ApiVersionRequest

from schemas.record import Out, Placed
from streams.kafka import admin, plain_producer, reader, transactional_producer
from streams.plan import Plan
from streams.topics import topic_name

CHUNK_RECORDS = 10_000
# A scan that hears nothing for so long, although records are left, will not hear more.
SILENT_S = 30.0
# The protocol names no version: what brokers offer (API key, version), and the Kafka that was the first to.
SINCE = (((90, 0), "4.1"), ((26, 5), "4.0"), ((75, 0), "3.8"), ((68, 0), "3.7"), ((60, 0), "2.8"))

Seen = Callable[[int, int], None]
"""Called now and then during a scan with (records read, records in all)."""


class NoTopicError(Exception):
    """A topic that was asked for does not exist; the message says how to make it."""


@dataclass(frozen=True, slots=True)
class Span:
    """One partition: its first offset, and the offset after its last committed record."""

    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Brokers:
    """What a cluster tells of itself."""

    cluster_id: str
    brokers: int
    # The Kafka that has all that the brokers offer: they may be newer.
    at_least: str


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group: its members, and the offset it has committed for each (topic, partition)."""

    state: str
    members: int
    committed: dict[tuple[str, int], int]


async def brokers(clients: Mapping[str, Any]) -> Brokers:
    """Id, size and version of the cluster.

    Raises:
        KafkaError: it cannot be reached.
    """
    async with admin(clients) as client:
        found = await client.describe_cluster()
    offered = await api_versions(clients)
    since = (name for (key, version), name in SINCE if offered.get(key, -1) >= version)
    return Brokers(str(found["cluster_id"]), len(found["brokers"]), next(since, "2.7 or older"))


async def api_versions(clients: Mapping[str, Any]) -> dict[int, int]:
    """API key → the highest version that a broker offers."""
    client = AIOKafkaClient(**clients)
    try:
        await client.bootstrap()
        response = await client.send(client.get_random_node(), ApiVersionRequest())
    finally:
        await client.close()
    return {key: highest for key, _, highest in response.api_versions}


async def spans(clients: Mapping[str, Any], topics: Sequence[str]) -> list[Span]:
    """First and last offset of every partition of `topics`, all of which exist."""
    tps = await partitions_of(clients, topics)
    async with reader(clients, tps) as consumer:
        first = await consumer.beginning_offsets(tps)
        last = await consumer.end_offsets(tps)
    return [Span(tp.topic, tp.partition, first[tp], last[tp]) for tp in sorted(tps)]


async def topic_configs(clients: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic → its settings as the cluster has them."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    async with admin(clients) as client:
        responses = await client.describe_configs(wanted)
    found: dict[str, dict[str, str]] = {}
    for response in responses:
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(f"{name}: {message}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def group(clients: Mapping[str, Any], name: str) -> Group:
    """State, size and committed offsets of the consumer group `name`; "Dead" when there is none."""
    async with admin(clients) as client:
        (response,) = await client.describe_consumer_groups([name])
        described = response.to_object()["groups"][0]
        offsets = await client.list_consumer_group_offsets(name)
    committed = {(tp.topic, tp.partition): at.offset for tp, at in offsets.items() if at.offset >= 0}
    return Group(str(described["state"]), len(described["members"]), committed)


async def behind(
    clients: Mapping[str, Any], committed: Mapping[tuple[str, int], int]
) -> set[tuple[str, int]]:
    """Which of the (topic, partition) have a record at or after their `committed` offset.

    The difference of offsets does not tell: a transaction's end takes an offset of its own.
    """
    tps = {TopicPartition(*where): offset for where, offset in committed.items()}
    if not tps:
        return set()
    found = set()
    async with reader(clients, list(tps)) as consumer:
        first, last = await consumer.beginning_offsets(list(tps)), await consumer.end_offsets(list(tps))
        for tp, offset in tps.items():
            consumer.seek(tp, max(offset, first[tp]))
        waiting = {tp for tp, offset in tps.items() if offset < last[tp]}
        async with asyncio.timeout(SILENT_S):
            while waiting:
                polled = await consumer.getmany(*waiting, timeout_ms=200, max_records=CHUNK_RECORDS)
                found |= {(tp.topic, tp.partition) for tp in polled}
                waiting = {tp for tp in waiting - polled.keys() if await consumer.position(tp) < last[tp]}
    return found


async def held_back(clients: Mapping[str, Any], where: Sequence[Span]) -> dict[tuple[str, int], int]:
    """(topic, partition) → how many offsets an open transaction keeps from readers, where it is any."""
    tps = [TopicPartition(span.topic, span.partition) for span in where]
    if not tps:
        return {}
    found = {}
    async with reader(clients, tps) as consumer:
        for span, tp in zip(where, tps, strict=True):
            consumer.seek(tp, span.last)
        waiting = set(tps)
        async with asyncio.timeout(SILENT_S):
            while waiting:
                await consumer.getmany(timeout_ms=200, max_records=1)
                # Both are known after the first answer to a fetch.
                for tp in list(waiting):
                    stable, high = consumer.last_stable_offset(tp), consumer.highwater(tp)
                    if stable is not None and high is not None:
                        waiting.discard(tp)
                        if high > stable:
                            found[tp.topic, tp.partition] = high - stable
    return found


async def try_transaction(clients: Mapping[str, Any], topic: str, partition: int) -> None:
    """Run a transaction of a group's offset through both coordinators, and abort it: nothing is left of it.

    Raises:
        KafkaError, TimeoutError: the cluster cannot do transactions (now).
    """
    producer = transactional_producer(clients, "midstream-doctor", 10_000, 16_384)
    async with asyncio.timeout(SILENT_S):
        await producer.start()
        try:
            await producer.begin_transaction()
            offsets = {TopicPartition(topic, partition): 0}
            await producer.send_offsets_to_transaction(offsets, "midstream-doctor")
            await producer.abort_transaction()
        finally:
            await producer.stop()


async def scan(
    clients: Mapping[str, Any],
    topics: Sequence[str],
    *,
    partition: int | None = None,
    start: Mapping[tuple[str, int], int] | None = None,
    seen: Seen | None = None,
) -> AsyncGenerator[Placed, None]:
    """Every committed record of `topics` from their first one to the end as it is now.

    Args:
        clients: aiokafka options.
        topics: names; the records of one partition come in order, partitions in any.
        partition: only this one of each topic.
        start: (topic, partition) → where to begin instead of at the first record.
        seen: hears of the progress, in offsets.

    Raises:
        NoTopicError: a topic does not exist.
        TimeoutError: the cluster has fallen silent.
    """
    tps = [tp for tp in await partitions_of(clients, topics) if partition in (None, tp.partition)]
    async with reader(clients, tps) as consumer:
        first, last = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        begin = {tp: max(first[tp], (start or {}).get((tp.topic, tp.partition), 0)) for tp in tps}
        for tp, offset in begin.items():
            consumer.seek(tp, offset)
        waiting = {tp for tp in tps if begin[tp] < last[tp]}
        total = sum(last[tp] - begin[tp] for tp in waiting)
        while waiting:
            async with asyncio.timeout(SILENT_S):
                polled = await consumer.getmany(*waiting, timeout_ms=200, max_records=CHUNK_RECORDS)
            for tp, batch in polled.items():
                for record in batch:
                    if record.offset < last[tp]:
                        yield record
            # The position also moves over the ends of transactions, which are no records.
            at = {tp: await consumer.position(tp) for tp in waiting}
            waiting = {tp for tp in waiting if at[tp] < last[tp]}
            if seen is not None:
                seen(total - sum(last[tp] - at[tp] for tp in waiting), total)


async def since(clients: Mapping[str, Any], topic: str, time_ms: int) -> dict[tuple[str, int], int]:
    """(topic, partition) → the first offset that reached Kafka at or after `time_ms`; the end if there is none."""
    tps = await partitions_of(clients, [topic])
    async with reader(clients, tps) as consumer:
        last = await consumer.end_offsets(tps)
        found = await consumer.offsets_for_times(dict.fromkeys(tps, time_ms))
    return {(tp.topic, tp.partition): last[tp] if found[tp] is None else found[tp].offset for tp in tps}


async def follow(
    clients: Mapping[str, Any], start: Mapping[tuple[str, int], int]
) -> AsyncGenerator[Placed, None]:
    """The committed records of (topic, partition) from the offsets in `start` on, without end."""
    tps = {TopicPartition(*where): offset for where, offset in start.items()}
    async with reader(clients, list(tps)) as consumer:
        for tp, offset in tps.items():
            consumer.seek(tp, offset)
        while True:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                for record in batch:
                    yield record


async def partitions_of(clients: Mapping[str, Any], topics: Sequence[str]) -> list[TopicPartition]:
    """Every partition of `topics`."""
    async with admin(clients) as client:
        missing = sorted(set(topics) - set(await client.list_topics()))
        if missing:
            raise NoTopicError(f"no topic {missing[0]}. Create it with: midstream topics create PIPELINE")
        described = await client.describe_topics(list(topics))
    return [
        TopicPartition(str(topic["topic"]), number)
        for topic in described
        for number in range(len(topic["partitions"]))
    ]


async def send(clients: Mapping[str, Any], plan: Plan, outs: Sequence[Out]) -> list[tuple[int, int]]:
    """Append `outs` to the topics of `plan`, in order; returns partition and offset of each."""
    async with plain_producer(clients) as producer:
        futures = [
            await producer.send(
                topic_name(plan, out.topic),
                out.value,
                key=out.key,
                headers=out.headers,
                partition=out.partition,
            )
            for out in outs
        ]
        written = await asyncio.gather(*futures)
    return [(at.partition, at.offset) for at in written]
