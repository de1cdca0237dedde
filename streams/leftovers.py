"""Transactions that Kafka has ended, but not everywhere: a lane's transactional id comes in, nothing open comes out.

A transaction is ended in two steps: its coordinator writes down the end, then sends a marker to every partition. A
coordinator that begins while a partition has no leader takes it for deleted and leaves its marker out for good (Kafka
4.3.1, KAFKA-20734: a single node that crashes between the two steps does that to itself, every time). The coordinator
then says that all is done, but the records and the offset are still open. Whoever fences the producer now reads the
rows and the offset of before, does the work once more, and the marker of that transaction counts for both.

So a lane asks how its predecessor's last transaction ended before it fences it, and ends an empty one in the same way
on all that is still open.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

# How long between two questions to a coordinator that is busy, or away.
RETRY_S = 0.02
NOT_FOUND = 105
COMMITTED = "CompleteCommit"
ENDING = ("PrepareCommit", "PrepareAbort", "PrepareEpochFence")
# Of ListOffsets: the last one, and of which records.
LAST_OFFSET = -1
ALL_READS, COMMITTED_READS = 0, 1


class DescribeTransactionsResponse(Response):  # type: ignore[misc] # aiokafka has no types
    """DescribeTransactions, version 0 (KIP-664)."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeTransactionsStruct(RequestStruct):  # type: ignore[misc]
    """What is sent."""

    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION: ClassVar[bool] = True
    RESPONSE_TYPE = DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(CompactString("utf-8"))), ("tags", TaggedFields))


class DescribeTransactions(Request[DescribeTransactionsStruct]):  # type: ignore[misc]
    """The state of one transactional id, asked of its coordinator."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        """Ask for `transactional_id`."""
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[DescribeTransactionsStruct]) -> DescribeTransactionsStruct:
        """As it is sent."""
        return request_struct_class([self._transactional_id], {})


@asynccontextmanager
async def asking(clients: Mapping[str, Any]) -> AsyncIterator[AIOKafkaClient]:
    """A connection for the questions below: one for all lanes that are opened together."""
    client = AIOKafkaClient(**clients)
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()


async def last_end(client: AIOKafkaClient, transactional_id: str) -> str | None:
    """The state of `transactional_id` as Kafka names it, once nothing is being ended; None if it is not known.

    Raises:
        aiokafka.errors.KafkaError: the coordinator refuses to say.
    """
    while True:
        found = await _asked(client, transactional_id)
        if found not in ("", *ENDING):
            return found
        await asyncio.sleep(RETRY_S)


async def _asked(client: AIOKafkaClient, transactional_id: str) -> str | None:
    """The state, None if the id is not known, "" if the coordinator cannot say at the moment."""
    try:
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        response = await client.send(node, DescribeTransactions(transactional_id))
    except KafkaError as error:
        if not error.retriable:
            raise
        await client.force_metadata_update()
        return ""
    code, _, state, *_ = response.states[0]
    if code == NOT_FOUND:
        return None
    if code == 0:
        return str(state)
    refusal = for_code(code)
    if not refusal.retriable:
        raise refusal(f"the state of {transactional_id}")
    return ""


async def settle(
    producer: AIOKafkaProducer, client: AIOKafkaClient, names: Sequence[str], group: str, state: str
) -> None:
    """End what the last transaction of `producer` left open on the topics `names` and in `group`, as `state` says.

    Args:
        producer: started, between two transactions.
        client: for questions.
        names: all topics that the producer writes to.
        group: the consumer group whose offsets it commits.
        state: how that transaction ended: `last_end` before the producer was started. What is not a commit is an abort.
    """
    # Some may be open because other producers write to them just now; a marker more does not harm them.
    open_now = await _open(client, names)
    manager, sender = producer._txn_manager, producer._sender  # noqa: SLF001 - a transaction without records
    await producer.begin_transaction()
    # The group has no offset of its own to be added: only the marker is wanted.
    while not await sender._do_add_offsets_to_txn(group):  # noqa: SLF001
        pass
    for tp in open_now:
        manager.maybe_add_partition_to_txn(tp)
    await (producer.commit_transaction() if state == COMMITTED else producer.abort_transaction())
    await last_end(client, manager.transactional_id)


async def _open(client: AIOKafkaClient, names: Sequence[str]) -> list[TopicPartition]:
    """The partitions of `names` on which some transaction is open, once all of them have leaders that say so."""
    await client.set_topics(names)
    while True:
        at: dict[int, list[TopicPartition]] = defaultdict(list)
        for name in names:
            # Other lanes may just be asking for the same; what is not known yet is asked for again.
            for number in client.cluster.partitions_for_topic(name) or {-1}:
                tp = TopicPartition(name, number)
                leader = client.cluster.leader_for_partition(tp)
                at[-1 if leader is None else leader].append(tp)
        if -1 not in at:
            stable, last = [await _ends(client, at, isolation) for isolation in (COMMITTED_READS, ALL_READS)]
            tps = [tp for known in at.values() for tp in known]
            if stable.keys() & last.keys() == set(tps):
                return sorted(tp for tp in tps if stable[tp] < last[tp])
        await client.force_metadata_update()
        await asyncio.sleep(RETRY_S)


async def _ends(
    client: AIOKafkaClient, at: Mapping[int, Sequence[TopicPartition]], isolation: int
) -> dict[TopicPartition, int]:
    """Partition → the offset after its last record, or after the last whose fate is known, as their leaders say."""
    found: dict[TopicPartition, int] = {}
    for node, tps in at.items():
        asked: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for tp in tps:
            asked[tp.topic].append((tp.partition, LAST_OFFSET))
        try:
            response = await client.send(node, OffsetRequest(-1, isolation, list(asked.items())))
        except KafkaError as error:
            if not error.retriable:
                raise
            continue
        for topic, told in response.topics:
            found |= {TopicPartition(topic, number): offset for number, code, _, offset in told if not code}
    return found


def coordinator_connection(producer: AIOKafkaProducer) -> object | None:
    """What `producer` is connected to its transaction coordinator with: another object when that was interrupted, None
    while it is.
    """
    node = producer._sender._coordinators.get(CoordinationType.TRANSACTION)  # noqa: SLF001 - nothing public tells
    found = producer.client._conns.get((node, ConnectionGroup.COORDINATION))  # noqa: SLF001
    return found if found is not None and found.connected() else None
