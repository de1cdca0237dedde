"""The door to aiokafka: settings in, clients out, each as the part of the flow that asks for it needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.producer import sender

from streams import connections
from streams.topics import MAX_RECORD_BYTES, Topic

# How long aiokafka waits while the broker still writes the previous transaction's markers. Its own 20 ms are
# most of a small transaction's 25 ms; at 1 ms a transaction takes 4 to 6 (measured on one node).
sender.BACKOFF_OVERRIDE = 0.001
connections.mend()

# Room for the largest record that Kafka lets in, and its headers.
MAX_REQUEST_BYTES = MAX_RECORD_BYTES + (1 << 20)
# How long new topics may take to become known.
CREATED_S = 30.0


def transactional_producer(
    clients: Mapping[str, Any], name: str, timeout_ms: int, batch_bytes: int
) -> AIOKafkaProducer:
    """A producer whose transactional id is `name`; starting it fences every other one of that name."""
    return AIOKafkaProducer(
        **clients,
        transactional_id=name,
        acks="all",
        linger_ms=0,
        max_batch_size=batch_bytes,
        max_request_size=MAX_REQUEST_BYTES,
        transaction_timeout_ms=timeout_ms,
        request_timeout_ms=30_000,
    )


def fatal_error(producer: AIOKafkaProducer) -> BaseException | None:
    """What ended a transactional producer for good: mostly, that it was fenced. Its calls say only that it is not in
    a transaction.
    """
    manager = producer._txn_manager  # noqa: SLF001 - nothing public tells
    if manager is None or not manager.is_fatal_error():
        return None
    error: BaseException | None = manager.wait_for_transaction_end().exception()
    return error


def plain_producer(clients: Mapping[str, Any]) -> AIOKafkaProducer:
    """An idempotent producer for what stands outside a lane: publishers, reviewers, redrive."""
    return AIOKafkaProducer(
        **clients,
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        max_batch_size=256 << 10,
        max_request_size=MAX_REQUEST_BYTES,
        compression_type="lz4",
    )


@asynccontextmanager
async def reader(
    clients: Mapping[str, Any], partitions: Sequence[TopicPartition]
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group that reads `partitions`, committed records only, from the beginning."""
    consumer = AIOKafkaConsumer(
        **clients,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=64 << 20,
        fetch_max_wait_ms=100,
    )
    try:
        await consumer.start()
        consumer.assign(list(partitions))
        await consumer.seek_to_beginning(*partitions)
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def admin(clients: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client."""
    client = AIOKafkaAdminClient(**clients)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def create_topics(
    clients: Mapping[str, Any], prefix: str, wanted: Sequence[Topic], partitions: int, replication: int
) -> list[str]:
    """Create those of `wanted` that do not exist yet; returns the names of the new ones.

    Raises:
        aiokafka.errors.KafkaError: the cluster refused one.
        TimeoutError: they are made, but the broker has not heard of them.
    """
    new = [
        NewTopic(f"{prefix}.{topic.role}", partitions, replication, topic_configs=dict(topic.config))
        for topic in wanted
    ]
    made = []
    async with admin(clients) as client:
        existing = set(await client.list_topics())
        missing = [topic for topic in new if topic.name not in existing]
        if missing:
            response = await client.create_topics(missing)
            for name, code, *detail in response.topic_errors:
                error = for_code(code)
                if code == 0:
                    made.append(name)
                elif error is not TopicAlreadyExistsError:
                    raise error(f"{name}: {detail[0] if detail else ''}")
            # The controller has them; clients see them when the brokers have heard of it.
            async with asyncio.timeout(CREATED_S):
                while not set(made) <= set(await client.list_topics()):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
    return made


async def cluster_id(clients: Mapping[str, Any]) -> str:
    """The cluster's own id: local databases of one cluster are of no use to another."""
    async with admin(clients) as client:
        found = await client.describe_cluster()
    return str(found["cluster_id"])


async def grow_topics(clients: Mapping[str, Any], names: Sequence[str], partitions: int) -> None:
    """Give topics more partitions, and wait until that is known.

    Raises:
        aiokafka.errors.KafkaError: the cluster refused one.
        TimeoutError: they are made, but the broker has not heard of them.
    """
    async with admin(clients) as client:
        response = await client.create_partitions({name: NewPartitions(partitions) for name in names})
    for name, code, *detail in response.topic_errors:
        if code:
            raise for_code(code)(f"{name}: {detail[0] if detail else ''}")
    async with asyncio.timeout(CREATED_S):
        while set((await partition_counts(clients, names)).values()) != {partitions}:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


def offset_to_commit(
    topic: str, partition: int, offset: int, metadata: str
) -> tuple[TopicPartition, OffsetAndMetadata]:
    """One entry of what a transaction commits for its group."""
    return TopicPartition(topic, partition), noted(offset, metadata)


def noted(offset: int, metadata: str) -> OffsetAndMetadata:
    """An offset with what is said beside it."""
    # confluent-kafka reads metadata up to the next zero byte, wherever that is; so there is one at the end.
    return OffsetAndMetadata(offset, f"{metadata}\0" if metadata else "")


async def committed_offsets(
    clients: Mapping[str, Any], group: str
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Partition → the offset that `group` has committed for it, with what is said beside it."""
    async with admin(clients) as client:
        found: dict[TopicPartition, Any] = await client.list_consumer_group_offsets(group)
    return {
        tp: OffsetAndMetadata(at.offset, at.metadata.rstrip("\0"))
        for tp, at in found.items()
        if at.offset >= 0
    }


async def commit_offsets(
    clients: Mapping[str, Any], group: str, places: Mapping[tuple[str, int], tuple[int, str]]
) -> None:
    """Commit (topic, partition) → (offset, metadata) for `group`, which must have no members.

    Raises:
        aiokafka.errors.CommitFailedError: it has some.
    """
    consumer = AIOKafkaConsumer(**clients, group_id=group, enable_auto_commit=False)
    offsets = {TopicPartition(*place): noted(*at) for place, at in places.items()}
    try:
        await consumer.start()
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    finally:
        await consumer.stop()


async def partition_counts(clients: Mapping[str, Any], names: Sequence[str]) -> dict[str, int]:
    """Topic → number of partitions, for those of `names` that exist."""
    async with admin(clients) as client:
        existing = set(await client.list_topics())
        described = await client.describe_topics([name for name in names if name in existing])
    return {str(topic["topic"]): len(topic["partitions"]) for topic in described}
