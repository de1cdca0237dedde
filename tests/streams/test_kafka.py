"""streams/kafka.py on a real broker: each client does what the part of the flow that asks for it needs."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced
from aiokafka.producer import sender

from streams import kafka as door
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.topics import Topic, topics
from tests.support.bank import bank
from tests.support.topics import ends, read
from tests.support.workers import unique

pytestmark = pytest.mark.broker

ONE = [Topic("one", "", "", ""), Topic("two", "", "", "", {"cleanup.policy": "compact"})]


async def topic(kafka: KafkaSettings) -> str:
    name = unique("door")
    await door.create_topics(kafka.client_options(), name, ONE[:1], 1, 1)
    return f"{name}.one"


async def test_topics_are_made_once_with_their_settings(kafka: KafkaSettings) -> None:
    name, clients = unique("door"), kafka.client_options()
    assert await door.create_topics(clients, name, ONE, 2, 1) == [f"{name}.one", f"{name}.two"]
    assert await door.create_topics(clients, name, [*ONE, Topic("three", "", "", "")], 5, 1) == [
        f"{name}.three"
    ]
    counts = await door.partition_counts(
        clients, [f"{name}.one", f"{name}.two", f"{name}.three", f"{name}.four"]
    )
    assert counts == {f"{name}.one": 2, f"{name}.two": 2, f"{name}.three": 5}


async def test_a_topic_that_kafka_refuses_is_named(kafka: KafkaSettings) -> None:
    name = unique("door")
    with pytest.raises(KafkaError, match=f"{name}.one.*replication"):
        await door.create_topics(kafka.client_options(), name, ONE, 1, 3)


async def test_a_cluster_says_who_it_is(kafka: KafkaSettings) -> None:
    assert (
        await door.cluster_id(kafka.client_options()) == await door.cluster_id(kafka.client_options()) != ""
    )


async def test_a_broker_that_is_not_there_is_said_so() -> None:
    nobody = KafkaSettings.plaintext("127.0.0.1:1").client_options()
    started = time.monotonic()
    with pytest.raises(KafkaConnectionError, match="Unable to bootstrap from"):
        await door.cluster_id(nobody)
    assert time.monotonic() - started < 10


def lane(kafka: KafkaSettings, name: str) -> AIOKafkaProducer:
    return door.transactional_producer(kafka.client_options(), name, 60_000, 900_000)


async def test_the_second_producer_of_a_name_fences_the_first_and_ends_its_transaction(
    kafka: KafkaSettings,
) -> None:
    name = await topic(kafka)
    first, second = lane(kafka, name), lane(kafka, name)
    await first.start()
    await first.begin_transaction()
    await first.send_and_wait(name, b"never", key=b"k")
    await second.start()
    try:
        with pytest.raises(ProducerFenced):
            await first.commit_transaction()
        async with second.transaction():
            await second.send_and_wait(name, b"good", key=b"k")
        got = await asyncio.to_thread(read, kafka, name)
        assert [record.value for record in got] == [b"good"]
        assert await asyncio.to_thread(ends, kafka, name) == await asyncio.to_thread(
            ends, kafka, name, committed=False
        )
    finally:
        await second.stop()
        await first.stop()


async def test_a_transaction_is_quick(kafka: KafkaSettings) -> None:
    name = await topic(kafka)
    producer = lane(kafka, name)
    await producer.start()
    try:
        took = []
        for _ in range(30):
            started = time.monotonic()
            async with producer.transaction():
                await producer.send(name, b"v", key=b"k")
            took.append(time.monotonic() - started)
        # aiokafka alone would wait 20 ms for the markers of each.
        assert sender.BACKOFF_OVERRIDE <= 0.002
        assert min(took) < 0.020
    finally:
        await producer.stop()


async def test_a_reader_begins_at_the_beginning_and_sees_what_is_committed(kafka: KafkaSettings) -> None:
    name = await topic(kafka)
    producer = lane(kafka, name)
    await producer.start()
    try:
        for value, good in ((b"one", True), (b"never", False), (b"two", True)):
            await producer.begin_transaction()
            await producer.send_and_wait(name, value, key=b"k")
            await (producer.commit_transaction() if good else producer.abort_transaction())
        place = TopicPartition(name, 0)
        async with door.reader(kafka.client_options(), [place]) as reader:
            last = (await reader.end_offsets([place]))[place]
            values: list[bytes | None] = []
            while await reader.position(place) < last:
                for records in (await reader.getmany(timeout_ms=200)).values():
                    values += [record.value for record in records]
        assert values == [b"one", b"two"]
        # Three records and the marks of three transactions.
        assert last == 6
    finally:
        await producer.stop()


async def test_an_open_transaction_ends_what_a_reader_can_see(kafka: KafkaSettings) -> None:
    name = await topic(kafka)
    producer = lane(kafka, name)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(name, b"one")
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"waits")
        place = TopicPartition(name, 0)
        async with door.reader(kafka.client_options(), [place]) as reader:
            assert (await reader.end_offsets([place]))[place] == 2
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_a_plain_producer_keeps_the_order_of_a_key(kafka: KafkaSettings) -> None:
    name = await topic(kafka)
    async with door.plain_producer(kafka.client_options()) as producer:
        await asyncio.gather(*[await producer.send(name, b"%d" % n, key=b"k") for n in range(500)])
    got = await asyncio.to_thread(read, kafka, name)
    assert [int(record.value or b"") for record in got] == list(range(500))


async def test_every_topic_of_a_pipeline_takes_a_large_record(kafka: KafkaSettings) -> None:
    name = unique("door")
    plan = compile_plan(bank(name))
    await door.create_topics(kafka.client_options(), name, topics(plan), 1, 1)
    large = os.urandom(5 << 20)
    async with door.plain_producer(kafka.client_options()) as producer:
        for one in topics(plan):
            done = await producer.send_and_wait(f"{name}.{one.role}", large, key=b"k")
            assert done.offset == 0, one.role
