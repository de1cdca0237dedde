"""Questions to a real cluster: what is committed is seen, what is open or aborted is not, and the end is the end."""

import asyncio
import uuid
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaProducer

from schemas.record import Out
from streams import cluster
from streams.kafka import create_topics
from streams.plan import Plan
from streams.settings import KafkaSettings
from streams.topics import Topic
from tests.support.desk import Desk

pytestmark = pytest.mark.broker


@pytest.fixture
async def topic(kafka: KafkaSettings) -> str:
    """A new topic with two partitions."""
    prefix = f"cluster-{uuid.uuid4().hex[:8]}"
    await make(kafka, prefix)
    return f"{prefix}.raw"


async def make(settings: KafkaSettings, prefix: str) -> None:
    await create_topics(settings.client_options(), prefix, [Topic("raw", "", "", "")], 2, 1)


async def transact(settings: KafkaSettings, topic: str, values: list[bytes], commit: bool) -> None:
    async with AIOKafkaProducer(**settings.client_options(), transactional_id=uuid.uuid4().hex) as producer:
        await producer.begin_transaction()
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
        await (producer.commit_transaction() if commit else producer.abort_transaction())


async def read(settings: KafkaSettings, topic: str, **options: object) -> list[bytes | None]:
    scan = cluster.scan(settings.client_options(), [topic], **options)  # type: ignore[arg-type]
    return [record.value async for record in scan]


async def test_a_scan_sees_what_is_committed_and_ends_where_it_ended(
    kafka: KafkaSettings, topic: str
) -> None:
    await transact(kafka, topic, [b"1", b"2"], commit=True)
    await transact(kafka, topic, [b"lost"], commit=False)
    await transact(kafka, topic, [b"3"], commit=True)
    progress: list[tuple[int, int]] = []

    values = await read(kafka, topic, seen=lambda done, total: progress.append((done, total)))

    assert values == [b"1", b"2", b"3"]
    # Offsets, and so the ends of the three transactions, too.
    assert progress[-1] == (7, 7)
    assert await read(kafka, topic, start={(topic, 0): 3}) == [b"3"]
    assert await read(kafka, topic, partition=1) == []


async def test_a_topic_that_is_not_there_is_named(kafka: KafkaSettings) -> None:
    with pytest.raises(cluster.NoTopicError, match=r"no topic nowhere\.raw\. Create it"):
        await read(kafka, "nowhere.raw")


async def test_what_is_behind_is_told_by_records_not_by_offsets(kafka: KafkaSettings, topic: str) -> None:
    await transact(kafka, topic, [b"1", b"2"], commit=True)
    clients = kafka.client_options()

    assert await cluster.behind(clients, {(topic, 0): 1, (topic, 1): 0}) == {(topic, 0)}
    # Two records end at 2; the end of their transaction stands there.
    assert await cluster.behind(clients, {(topic, 0): 2}) == set()
    assert await cluster.behind(clients, {}) == set()


async def test_an_open_transaction_holds_readers_back(kafka: KafkaSettings, topic: str) -> None:
    clients = kafka.client_options()
    async with AIOKafkaProducer(**clients, transactional_id=uuid.uuid4().hex) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=0)
        await producer.send_and_wait(topic, b"open", partition=0)

        held = await cluster.held_back(clients, await cluster.spans(clients, [topic]))

        assert held == {(topic, 0): 2}
        assert await read(kafka, topic) == []
        await producer.abort_transaction()
    assert await cluster.held_back(clients, await cluster.spans(clients, [topic])) == {}


async def test_following_goes_on_where_it_was_told_to(kafka: KafkaSettings, topic: str) -> None:
    await transact(kafka, topic, [b"1", b"2"], commit=True)
    following = cluster.follow(kafka.client_options(), {(topic, 0): 1})
    async with aclosing(following), asyncio.timeout(30):
        first = await anext(following)
        await transact(kafka, topic, [b"3"], commit=True)
        second = await anext(following)

    assert (first.value, second.value) == (b"2", b"3")


async def test_offsets_by_time(kafka: KafkaSettings, topic: str) -> None:
    await transact(kafka, topic, [b"1"], commit=True)
    scan = cluster.scan(kafka.client_options(), [topic])
    async with aclosing(scan):
        at_ms = (await anext(scan)).timestamp

    assert await cluster.since(kafka.client_options(), topic, at_ms) == {(topic, 0): 0, (topic, 1): 0}
    assert await cluster.since(kafka.client_options(), topic, at_ms + 60_000) == {
        (topic, 0): 2,
        (topic, 1): 0,
    }


async def test_a_trial_transaction_leaves_nothing(kafka: KafkaSettings, topic: str) -> None:
    await cluster.try_transaction(kafka.client_options(), topic, 0)

    assert await read(kafka, topic) == []
    assert (await cluster.group(kafka.client_options(), "midstream-doctor")).committed == {}


async def test_the_cluster_tells_of_itself(kafka: KafkaSettings, topic: str) -> None:
    clients = kafka.client_options()
    found = await cluster.brokers(clients)

    assert found.brokers == 1
    assert found.cluster_id
    assert found.at_least.startswith("4.")
    assert (await cluster.topic_configs(clients, [topic]))[topic]["cleanup.policy"] == "delete"
    nobody = await cluster.group(clients, "nobody")
    assert (nobody.members, nobody.committed) == (0, {})


def test_sending_says_where_each_record_stands(
    kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    desk = Desk(kafka, tmp_path_factory.mktemp("send"))
    plan: Plan = desk.plan
    asyncio.run(make(kafka, plan.name))

    written = asyncio.run(
        cluster.send(
            desk.clients, plan, [Out("raw", b"k", b"1", [], 1), Out("raw", b"k", b"2", [("h", b"x")], 1)]
        )
    )

    assert written == [(1, 0), (1, 1)]
