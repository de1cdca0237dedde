"""A pipeline's topics get more partitions, and what is kept of each entity goes where its key belongs from then on.

A plan, a cluster and a number come in. Rows, open reviews, unread events and the number itself move in one
transaction, so that a migration that is cut off has not happened and can be started again. Until it has, workers
refuse to start (streams/partitions.py). History (`changes`, `decisions`, `actions`, `audit`, events that have been
read) stays where it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from schemas.event import CLOCK
from schemas.keys import entity_key, partition_of
from schemas.record import Placed
from schemas.review import ReviewRecord
from streams import cluster, kafka, partitions, topics
from streams.plan import Plan
from streams.signatures import PipelineError

# Brokers allow no longer transaction unless told so (`transaction.max.timeout.ms`).
TRANSACTION_TIMEOUT_MS = 900_000
WIRE_BATCH_BYTES = 900_000
# Sends that are waited for together.
IN_FLIGHT = 2_000
# Workers with fixed names are members of their group for half a minute after they have stopped.
STOPPED_S = 45.0


@dataclass(frozen=True)
class Repartitioned:
    """What a migration did."""

    before: int
    after: int
    rows: int
    reviews: int
    # Unread events that were written anew, at the end.
    events: int


class Move:
    """One migration."""

    def __init__(self, clients: Mapping[str, Any], plan: Plan, before: int, after: int) -> None:
        """Move `plan` from `before` to `after` partitions."""
        self.clients, self.plan, self.before, self.after = clients, plan, before, after
        self.producer = kafka.transactional_producer(
            clients, f"{plan.name}.repartition", TRANSACTION_TIMEOUT_MS, WIRE_BATCH_BYTES
        )
        self._waiting: list[asyncio.Future[Any]] = []

    def _place(self, key: bytes, at: int) -> int | None:
        """Where `key`, found on partition `at`, goes; None when it stays, or was left there by an earlier move."""
        if partition_of(key, self.before) != at:
            return None
        new = partition_of(key, self.after)
        return None if new == at else new

    async def run(self) -> Repartitioned:
        """All of it in one transaction."""
        async with self.producer:
            await self.producer.begin_transaction()
            rows = sum(
                [await self._move(topics.changelog(name), entity_of_row) for name in self.plan.entities]
            )
            reviews = await self._move(topics.REVIEWS, entity_of_review)
            events, offsets = await self._requeue()
            await self._settle()
            await self.producer.send_offsets_to_transaction(offsets, self.plan.name)
            await self.producer.commit_transaction()
        return Repartitioned(self.before, self.after, rows, reviews, events)

    async def _move(self, role: str, owner: Callable[[Placed], bytes | None]) -> int:
        """Copy the records of a compacted topic whose entity belongs elsewhere, then delete them where they were."""
        topic = topics.topic_name(self.plan, role)
        # Key → where it was, and where it goes.
        gone: dict[bytes, tuple[int, int]] = {}
        for number in range(self.before):
            async for record in cluster.scan(self.clients, [topic], partition=number):
                key = record.key or b""
                if key not in gone:
                    entity = owner(record)
                    place = None if entity is None else self._place(entity, number)
                    if place is None:
                        continue
                    gone[key] = number, place
                await self._append(topic, gone[key][1], key, record.value, list(record.headers))
        for key, (number, _) in gone.items():
            await self._append(topic, number, key, None, [])
        return len(gone)

    async def _requeue(self) -> tuple[int, dict[Any, Any]]:
        """Write unread events anew where their keys belong; returns how many, and the offsets from which to read on.

        All of them or none: those that were written with the old number of partitions come first, so that the order of
        every key is kept.
        """
        topic = topics.topic_name(self.plan, topics.EVENTS)
        committed = await kafka.committed_offsets(self.clients, self.plan.name)
        said = {
            (tp.topic, tp.partition): (at.offset, at.metadata)
            for tp, at in committed.items()
            if tp.topic in (topic, topics.topic_name(self.plan, topics.RAW))
        }
        for span in await cluster.spans(self.clients, [topic]):
            said.setdefault((topic, span.partition), (span.first, ""))
        start = {where: offset for where, (offset, _) in said.items() if where[0] == topic}
        count, ends = 0, dict(start)
        if await self._any_elsewhere(topic, start):
            ends = {(s.topic, s.partition): s.last for s in await cluster.spans(self.clients, [topic])}
            for old in (True, False):
                async for record in cluster.scan(self.clients, [topic], start=start):
                    if self._is_old(record) is old and record.offset < ends[topic, record.partition]:
                        place = self._events_place(record)
                        await self._append(topic, place, record.key, record.value, list(record.headers))
                        count += 1
        return count, dict(
            kafka.offset_to_commit(*where, ends.get(where, offset), remarked(metadata, self.after))
            for where, (offset, metadata) in said.items()
        )

    async def _any_elsewhere(self, topic: str, start: Mapping[tuple[str, int], int]) -> bool:
        """Whether an unread event stands on a partition that is not its key's any more."""
        async with aclosing(cluster.scan(self.clients, [topic], start=start)) as unread:
            async for record in unread:
                if self._events_place(record) != record.partition:
                    return True
        return False

    def _events_place(self, record: Placed) -> int:
        """Where an unread event belongs. A clock is a partition's own."""
        if record.key is None or is_clock(record):
            return record.partition
        return partition_of(record.key, self.after)

    def _is_old(self, record: Placed) -> bool:
        """Whether an unread event was written with the old number of partitions."""
        if record.key is None or is_clock(record):
            return True
        return partition_of(record.key, self.before) == record.partition

    async def _append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: list[Any]
    ) -> None:
        future = await self.producer.send(topic, value, key=key, headers=headers, partition=partition)
        self._waiting.append(future)
        if len(self._waiting) >= IN_FLIGHT:
            await self._settle()

    async def _settle(self) -> None:
        """Wait until Kafka has what was sent. What it refuses ends the migration, and nothing has happened."""
        await asyncio.gather(*self._waiting)
        self._waiting.clear()


def is_clock(record: Placed) -> bool:
    """Whether a record of `events` says how far time has come."""
    return dict(record.headers).get("ce_type") == CLOCK.encode()


def entity_of_row(record: Placed) -> bytes | None:
    """A row's key names its entity."""
    return record.key


def entity_of_review(record: Placed) -> bytes | None:
    """A review is kept where its entity is; a record that deletes one does not say."""
    if record.value is None:
        return None
    review = ReviewRecord.model_validate_json(record.value)
    return entity_key(review.entity, review.key).encode()


def remarked(metadata: str, after: int) -> str:
    """The metadata of a committed offset, with the new number of partitions and all else that it said."""
    rest = [word for word in metadata.split() if not word.startswith(partitions.MARK)]
    return " ".join([partitions.mark(after), *rest])


async def repartition(
    clients: Mapping[str, Any], plan: Plan, after: int, notice: Callable[[str], None]
) -> Repartitioned:
    """Give `events` and everything behind it `after` partitions, and move what is kept of each entity.

    1 nobody runs, 2 nobody who wakes up can commit any more, 3 the topics grow, 4 one transaction moves the rest.

    Raises:
        PipelineError: workers run, a topic is missing, or has more partitions already.
        KafkaError, TimeoutError: the cluster refused something, or fell silent; nothing has moved.
    """
    found = await partitions.counts(clients, plan)
    made = await partitions.made_with(clients, plan)
    before = found[topics.EVENTS] if made is None else made
    behind = {topics.topic_name(plan, role): count for role, count in found.items() if role != topics.RAW}
    most = max((before, *behind.values()))
    if after < most:
        raise PipelineError(
            f"{plan.name} has {most} partitions; Kafka cannot take any away, so --partitions must be at least {most}."
        )
    if after == before and set(behind.values()) == {after}:
        return Repartitioned(before, after, 0, 0, 0)
    # 1. Nobody runs.
    await nobody(clients, plan, notice)
    # 2. A worker that was only asleep finds its producers fenced.
    await fence(clients, plan, {topics.RAW: found[topics.RAW], topics.EVENTS: before})
    # 3. From here on until the end, workers refuse to start.
    grown = [name for name, count in behind.items() if count < after]
    if grown:
        notice(f"giving {len(grown)} topics {after} partitions")
        await kafka.grow_topics(clients, grown, after)
    # 4. Rows, reviews, unread events and the number.
    notice(f"moving rows from {before} partitions to {after}")
    return await Move(clients, plan, before, after).run()


async def nobody(clients: Mapping[str, Any], plan: Plan, notice: Callable[[str], None]) -> None:
    """Wait until no worker is in the group.

    Raises:
        PipelineError: there still are some.
    """
    deadline, told = time.monotonic() + STOPPED_S, False
    while members := (await cluster.group(clients, plan.name)).members:
        if time.monotonic() > deadline:
            raise PipelineError(
                f"{members} workers of {plan.name} run. Stop them first: rows cannot be moved under them."
            )
        if not told:
            notice(f"{members} workers are still members of the group; waiting up to {STOPPED_S:.0f} s")
            told = True
        await asyncio.sleep(1.0)


async def fence(clients: Mapping[str, Any], plan: Plan, lanes: Mapping[str, int]) -> None:
    """Take over the producer of every lane, so that whoever had it can commit nothing any more."""
    for role, count in lanes.items():
        for number in range(count):
            producer = kafka.transactional_producer(
                clients, f"{plan.name}.{role}.{number}", TRANSACTION_TIMEOUT_MS, WIRE_BATCH_BYTES
            )
            await producer.start()
            await producer.stop()
