"""streams/leftovers.py on a real broker: what Kafka forgot to end is ended as it was meant, and nothing else changes.

The broker of these tests believes that a partition is part of a transaction without asking its coordinator
(`transaction.partition.verification.enable`), so that a coordinator can be made to leave markers out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from schemas.record import Given
from streams import kafka as door
from streams import topics
from streams.broker import Broker
from streams.chunks import Chunk
from streams.lane import Lane
from streams.leftovers import COMMITTED, asking, coordinator_connection, settle
from streams.metrics import Metrics
from streams.settings import KafkaSettings
from streams.topics import Topic
from tests.support.chunks import chunk
from tests.support.lanes import begin, ended, lane_config, made
from tests.support.topics import ends, read
from tests.support.workers import unique

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("brokers")]


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker that verifies nothing."""
    properties = {"transaction.partition.verification.enable": "false"}
    broker = Broker(tmp_path_factory.mktemp("trusting"), heap="-Xmx512m", properties=properties)
    broker.start(attached=True)
    try:
        yield broker.settings()
    finally:
        broker.stop()


@pytest.fixture
async def name(trusting: KafkaSettings) -> str:
    """A pipeline with two topics of two partitions."""
    given = unique("left")
    wanted = [Topic("events", "", "", ""), Topic("actions", "", "", "")]
    await door.create_topics(trusting.client_options(), given, wanted, 2, 1)
    return given


def names(name: str) -> list[str]:
    return [f"{name}.events", f"{name}.actions"]


@asynccontextmanager
async def producer(kafka: KafkaSettings, name: str) -> AsyncIterator[AIOKafkaProducer]:
    started = door.transactional_producer(kafka.client_options(), f"{name}.raw.0", 60_000, 1 << 20)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


def keep_from_coordinator(producer: AIOKafkaProducer, group: str, *forgotten: TopicPartition) -> None:
    """Take partitions and group for known to the coordinator: it will leave their markers out."""
    manager: Any = producer._txn_manager
    manager._txn_partitions.update(forgotten)
    manager.consumer_group_added(group)


async def leave(made: AIOKafkaProducer, name: str, *, commit: bool) -> None:
    """End a transaction of one record on each of two topics and one offset; only actions 0 hears of it."""
    source, heard, forgotten = (
        TopicPartition(f"{name}.events", 0),
        TopicPartition(f"{name}.actions", 0),
        TopicPartition(f"{name}.events", 1),
    )
    await made.begin_transaction()
    keep_from_coordinator(made, name, forgotten)
    for tp in (heard, forgotten):
        await made.send_and_wait(tp.topic, b"x", partition=tp.partition)
    await made.send_offsets_to_transaction({source: door.noted(7, "")}, name)
    await (made.commit_transaction() if commit else made.abort_transaction())


async def predecessor(kafka: KafkaSettings, name: str, *, commit: bool) -> None:
    """One that left something, and is gone."""
    async with producer(kafka, name) as made:
        await leave(made, name, commit=commit)


async def settled(made: AIOKafkaProducer, clients: dict[str, Any], name: str, state: str) -> None:
    """End what was left."""
    async with asking(clients) as client:
        await settle(made, client, names(name), name, state)


async def open_partitions(kafka: KafkaSettings, name: str) -> list[str]:
    """Where a transaction is open."""
    found = []
    for topic in names(name):
        stable, last = [
            await asyncio.to_thread(ends, kafka, topic, committed=committed) for committed in (True, False)
        ]
        found += [f"{topic.rpartition('.')[2]}-{number}" for number in last if stable[number] < last[number]]
    return found


async def values(kafka: KafkaSettings, name: str) -> list[int]:
    """How many committed records each topic has."""
    return [len(await asyncio.to_thread(read, kafka, topic)) for topic in names(name)]


@pytest.mark.parametrize(
    ("commit", "offsets", "records"),
    [(True, {("events", 0): 7}, [1, 1]), (False, {}, [0, 0])],
    ids=["commit", "abort"],
)
async def test_what_was_left_open_ends_as_the_transaction_did(
    trusting: KafkaSettings, name: str, commit: bool, offsets: dict[tuple[str, int], int], records: list[int]
) -> None:
    clients = trusting.client_options()
    await predecessor(trusting, name, commit=commit)
    state = await ended(clients, f"{name}.raw.0")
    assert state == ("CompleteCommit" if commit else "CompleteAbort")
    # The coordinator says that it is done.
    assert await open_partitions(trusting, name) == ["events-1"]
    assert await door.committed_offsets(clients, name) == {}
    async with producer(trusting, name) as made:
        # The fence does not help.
        assert await open_partitions(trusting, name) == ["events-1"]
        await settled(made, clients, name, state)
        assert await open_partitions(trusting, name) == []
        found = await door.committed_offsets(clients, name)
        assert {(tp.topic.rpartition(".")[2], tp.partition): at.offset for tp, at in found.items()} == offsets
        # What comes next is a transaction of its own.
        await made.begin_transaction()
        await made.send_and_wait(f"{name}.events", b"y", partition=1)
        await made.abort_transaction()
        await ended(clients, f"{name}.raw.0")
    assert await values(trusting, name) == [records[0], records[1]]


async def test_unsettled_the_next_commit_would_have_counted_for_both(
    trusting: KafkaSettings, name: str
) -> None:
    """What Kafka does: if this fails, it no longer does, and there is less to settle."""
    await predecessor(trusting, name, commit=False)
    async with producer(trusting, name) as made:
        await made.begin_transaction()
        await made.send_and_wait(f"{name}.events", b"y", partition=1)
        await made.commit_transaction()
        await ended(trusting.client_options(), f"{name}.raw.0")
    # The aborted one, and the committed one.
    assert await values(trusting, name) == [2, 0]


async def test_nobody_and_nothing_open(trusting: KafkaSettings, name: str) -> None:
    clients = trusting.client_options()
    assert await ended(clients, f"{name}.raw.0") is None
    async with producer(trusting, name) as made:
        assert await ended(clients, f"{name}.raw.0") == "Empty"
        await settled(made, clients, name, COMMITTED)
        connection = coordinator_connection(made)
        await settled(made, clients, name, COMMITTED)
        # Nobody was away.
        assert coordinator_connection(made) is connection is not None
    # Not one marker on the topics.
    assert {
        offset for topic in names(name) for offset in ends(trusting, topic, committed=False).values()
    } == {0}


async def test_a_transaction_that_is_under_way_is_no_end(trusting: KafkaSettings, name: str) -> None:
    async with producer(trusting, name) as made:
        await made.begin_transaction()
        await made.send_and_wait(f"{name}.events", b"x", partition=0)
        assert await ended(trusting.client_options(), f"{name}.raw.0") == "Ongoing"
        await made.abort_transaction()


async def test_a_lane_goes_on_behind_what_was_committed(trusting: KafkaSettings, tmp_path: Path) -> None:
    name = await made(trusting)
    await predecessor(trusting, name, commit=True)
    async with lane(trusting, name, tmp_path):
        assert await open_partitions(trusting, name) == []
        assert await values(trusting, name) == [1, 1]
        found = await door.committed_offsets(trusting.client_options(), name)
        assert {tp.partition: at.offset for tp, at in found.items()} == {0: 7}


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
async def test_a_lane_that_lived_on_settles(trusting: KafkaSettings, tmp_path: Path, busy: bool) -> None:
    name = await made(trusting)
    async with lane(trusting, name, tmp_path) as opened:
        await opened.submit(batch(name, 0))
        await opened.queue.join()
        assert opened.connection is not None
        await leave(opened.producer, name, commit=True)
        before: Any = coordinator_connection(opened.producer)
        before.close()
        if busy:
            # Nothing for events 1, whose marker is missing.
            await opened.submit(batch(name, 1))
        async with asyncio.timeout(20):
            while await open_partitions(trusting, name):  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.05)
        assert await values(trusting, name) == [1, 1]


async def test_a_lane_whose_coordinator_is_away_waits(
    trusting: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await made(trusting)
    async with lane(trusting, name, tmp_path) as opened:
        await opened.submit(batch(name, 0))
        await opened.queue.join()
        before = opened.connection
        # From here on it looks when we say so.
        assert opened._runner is not None
        opened._runner.cancel()
        with monkeypatch.context() as away:
            # Nobody answers there.
            away.setitem(opened.config.clients, "bootstrap_servers", "127.0.0.1:1")
            connection: Any = before
            connection.close()
            await opened._look_around()
            assert opened.connection is before
        await opened._look_around()
        assert opened.connection not in (None, before)


def batch(name: str, offset: int) -> Chunk:
    """A poll of one record, which is refused."""
    return chunk([Given(f"{name}.raw", 0, offset, 0, b"k", None)])


@asynccontextmanager
async def lane(kafka: KafkaSettings, name: str, folder: Path) -> AsyncIterator[Lane]:
    """The lane of raw 0."""
    opened = Lane(lane_config(kafka, name, folder), topics.RAW, 0, Metrics())
    await begin(opened)
    yield opened
    await opened.close()
