"""The kernel: one stage on one source partition with its own transactional producer; one poll, one batch, one
transaction. Batches of records come in; rows, outputs and the source offset go out together or not at all.

Exactly once rests on five rules:

1. Opening a lane fences whoever had it before: `InitProducerId` for `<pipeline>.<topic>.<partition>` bumps the
   producer epoch and ends the open transaction; what Kafka itself forgot to end is ended (`streams/leftovers.py`).
   Only then are the changelog and the committed offset read.
2. Everything a batch causes is in one transaction: outputs, changelog rows, the source offset.
3. Every send is awaited before the offsets are added; any failure ends the process without a commit.
4. RocksDB hears of a row only after the commit, together with the changelog offset: it is always a committed
   prefix, so a crash at any instant leaves at worst a database that is a little behind its changelog.
5. Between batches nothing is uncommitted, so a revoked lane only has to finish the batch in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from schemas.event import Clock
from schemas.lane import WALL
from schemas.record import Out, Record
from streams import records, topics
from streams.chunks import Chunk
from streams.exits import EXIT_DIED, EXIT_MISTAKE, die
from streams.heads import ChangelogError, Heads, moved
from streams.kafka import fatal_error, noted, transactional_producer
from streams.leftovers import COMMITTED, asking, coordinator_connection, last_end, settle
from streams.metrics import Metrics
from streams.opening import Opening, look_at_source
from streams.partitions import mark
from streams.plan import Plan
from streams.topology import EntityLane, Ingest, door_of
from streams.wires import WIRE_BATCH_BYTES, TooLargeError, Wires
from tables.entity import ChangedRow, Rows
from tables.store import DamagedError, Store, StoreError, set_aside
from tables.timers import Timers

# How much may wait for a lane, and how much it takes as one batch: all that has come while it was busy, up to about
# this. Small polls so become one transaction under load, and a busy lane does not hold up the polls of the others.
BATCH_BYTES = 4 << 20
# How often a lane with nothing to do looks whether its coordinator has been away.
LOOK_AROUND_S = 2.0


class Stage(Protocol):
    """What a lane runs: pure, records in, records out."""

    tally: Any
    # Whether it looks at the size of what each record makes, and refuses the record if that is too large.
    careful: bool

    def start_over(self, timers: Iterable[tuple[int, str, str]]) -> None:
        """Know again what is stored, and nothing of what came since; `timers` are the stored ones."""

    def step(self, record: Record) -> list[Out]:
        """What `record` becomes."""


@dataclass(frozen=True)
class LaneConfig:
    """What every lane of a worker shares."""

    plan: Plan
    clients: Mapping[str, Any]
    group: str
    # Partitions of `events` and every topic behind it.
    partitions: int
    folder: Path
    playback: bool
    transaction_timeout_ms: int = 60_000
    # A lane that has not finished its batch, or a restore its step, by then is stuck.
    stuck_s: float = 90.0


class Sent(NamedTuple):
    """A wire batch on its way: its topic, its number of records, and what Kafka will acknowledge."""

    topic: str
    records: int
    future: asyncio.Future[Any]


class Batch(NamedTuple):
    """What a lane does in one transaction: polls, and ticks between them."""

    items: list[Chunk | Clock]
    chunks: list[Chunk]


class Computed(NamedTuple):
    """What a batch makes: how many records it had, what is to be sent, which rows changed."""

    records: int
    wires: Wires
    changed: list[ChangedRow]


class Lane:
    """One stage on one source partition."""

    def __init__(self, config: LaneConfig, role: str, partition: int, metrics: Metrics) -> None:
        """Describe the lane; `open` starts it.

        Args:
            config: what the worker's lanes share.
            role: `topics.RAW` or `topics.EVENTS`.
            partition: the source partition.
            metrics: where what was committed is counted.
        """
        self.config, self.role, self.partition, self.metrics = config, role, partition, metrics
        self.name = f"{config.plan.name}.{role}.{partition}"
        self.source = TopicPartition(topics.topic_name(config.plan, role), partition)
        self.queue: asyncio.Queue[Chunk | Clock] = asyncio.Queue()
        self.waiting_bytes = 0
        self._room = asyncio.Event()
        self.store: Store | None = None
        # Changelog topic → entity, and the offset after the last record that the lane knows of.
        self.changelogs: dict[str, str] = {}
        self.offsets: dict[str, int] = {}
        self.heads = Heads()
        self.rows: Rows | None = None
        self.timers: Timers | None = None
        self.ticked_ms = 0
        # Behind the last record that was handed over.
        self.next_offset = 0
        # To the transaction coordinator.
        self.connection: object | None = None
        self._runner: asyncio.Task[None] | None = None

    async def open(self, client: Any) -> None:
        """1 fence, 2 restore, 3 run; `client` is for questions (`leftovers.asking`).

        The caller seeks the source to the committed offset afterwards.
        """
        # 1. How the predecessor ended; from the start of the producer on it can change nothing, if it still lives.
        state = await last_end(client, self.name)
        self.producer = transactional_producer(
            self.config.clients, self.name, self.config.transaction_timeout_ms, WIRE_BATCH_BYTES
        )
        await self.producer.start()
        if state is not None:
            await self._settle(client, state)
        # 2. The rows are the committed prefix, whatever the local database missed.
        self.stage: Stage = await self._stage()
        # 3. Batches may come.
        self._runner = asyncio.create_task(self._run(), name=self.name)
        self._runner.add_done_callback(self._ended)
        self.metrics.lane_state(self.name, "running")
        self._show_time()

    async def _settle(self, client: Any, state: str) -> None:
        """End what Kafka has left open of this lane's last transaction."""
        plan = self.config.plan
        names = [
            topics.topic_name(plan, topic.role) for topic in topics.topics(plan) if topic.role != topics.RAW
        ]
        await settle(self.producer, client, names, self.config.group, state)

    async def _stage(self) -> Stage:
        plan, partitions = self.config.plan, self.config.partitions
        if self.role == topics.RAW:
            await look_at_source(self.config.clients, self.config.group, self.source, self.name)
            return Ingest(plan, door_of(plan, self.config.playback), self.partition, partitions)
        self.metrics.lane_state(self.name, "restoring")
        self.changelogs = {
            topics.topic_name(plan, topics.changelog(name)): name for name in (*plan.entities, "lane")
        }
        folder = self.config.folder / f"{self.role}-{self.partition}"
        opening = Opening(
            self.config.clients,
            self.config.group,
            self.source,
            self.changelogs,
            folder,
            self.name,
            self.config.stuck_s,
            self.metrics,
        )
        try:
            self.store, self.timers, self.offsets, self.heads = await opening.opened()
        except (StoreError, ChangelogError) as error:
            die(f"lane {self.name}: {error}", code=exit_code(error))
        self.rows = Rows({name: entity.state for name, entity in plan.entities.items()}, self.store.get)
        return EntityLane(plan, self.partition, partitions, self.rows, self.timers, self.config.playback)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        error = None if runner.cancelled() else runner.exception()
        if error is not None:
            cause = fatal_error(self.producer) or error
            if isinstance(cause, DamagedError) and self.store is not None:
                # Open or not: the next one to open a database there begins with an empty one.
                cause = StoreError(f"{cause}. What is damaged is kept in {set_aside(self.store.folder)}")
            if isinstance(cause, (StoreError, ChangelogError)):
                die(f"lane {self.name}: {cause}", code=exit_code(cause))
            die(f"lane {self.name}: {type(cause).__name__}: {cause}", error)

    async def _run(self) -> None:
        while True:
            batch = self._taken(await self._next())
            started = time.monotonic()
            self.metrics.took(self.name, sum(item.next_offset - item.first for item in batch.chunks) or 1)
            try:
                async with asyncio.timeout(self.config.stuck_s):
                    await self._commit(batch)
                    await self._look_around()
            except TimeoutError as error:
                raise TimeoutError(f"a batch was not committed within {self.config.stuck_s:g} s") from error
            self.metrics.committed(self.name, time.monotonic() - started)
            for _ in batch.items:
                self.queue.task_done()

    def _taken(self, first: Chunk | Clock) -> Batch:
        """All that waits, from `first` on, up to the bound."""
        items, size_bytes = [first], 0
        while True:
            last = items[-1]
            size_bytes += 0 if isinstance(last, Clock) else last.size_bytes
            if size_bytes >= BATCH_BYTES or self.queue.empty():
                break
            items.append(self.queue.get_nowait())
        self.waiting_bytes -= size_bytes
        self._room.set()
        return Batch(items, [item for item in items if isinstance(item, Chunk)])

    async def _next(self) -> Chunk | Clock:
        """What is handed over next; while there is nothing, the lane looks around now and then."""
        while True:
            try:
                async with asyncio.timeout(LOOK_AROUND_S):
                    return await self.queue.get()
            except TimeoutError:
                await self._look_around()

    async def _look_around(self) -> None:
        """Settle when the coordinator has been away since the last look: what it forgot is of a commit."""
        connection = coordinator_connection(self.producer)
        if self.connection is not None and connection is not self.connection:
            try:
                async with asking(self.config.clients) as client:
                    await self._settle(client, COMMITTED)
            except KafkaConnectionError:
                # It still is: next time.
                return
        self.connection = coordinator_connection(self.producer)

    async def _commit(self, batch: Batch) -> None:
        """One batch, one transaction: 1 compute, 2 begin and send, 3 await, 4 offset, 5 commit, 6 store."""
        # 1. Pure: no await until everything is packed.
        computed = self._compute(batch)
        wires, changed = computed.wires, computed.changed
        # 2. Everything into one transaction.
        await self.producer.begin_transaction()
        sent = []
        for wire in wires.close():
            future = await self.producer.send_batch(wire.batch, wire.topic, partition=wire.partition)
            sent.append(Sent(wire.topic, wire.records, future))
        # 3. A send that fails ends the process: the transaction is never committed with a hole.
        acknowledged = await asyncio.gather(*(wire.future for wire in sent))
        # 4. The offset moves in the same transaction, and says how far the changelogs have come with it.
        heads = moved(self.offsets, self.partition, sent, acknowledged)
        if batch.chunks:
            ends = {name: heads[topic] for topic, name in self.changelogs.items()}
            said = f"{mark(self.config.partitions)} {replace(self.heads, ends=ends).written()}"
            offsets = {self.source: noted(batch.chunks[-1].next_offset, said.strip())}
            await self.producer.send_offsets_to_transaction(offsets, self.config.group)
        # 5. From here on it has happened.
        await self.producer.commit_transaction()
        # 6. Only now may the database know.
        if self.store is not None and changed:
            self.store.write(changed, heads)
            self.offsets = heads
        if batch.chunks:
            self.metrics.batch(self.role, computed.records, wires.told, self.stage.tally)
            self._show_time()

    def _show_time(self) -> None:
        if self.rows is not None:
            self.metrics.time_passed(self.name, self.rows.lane(str(self.partition)).now_ms)

    def _compute(self, batch: Batch) -> Computed:
        """What a batch makes; if a part is too large for Kafka, the batch once more with every record measured."""
        try:
            return self._pack(batch)
        except TooLargeError:
            if self.store is None:
                raise
        self.stage.start_over(self.store.timers())
        self.stage.careful = True
        try:
            return self._pack(batch)
        finally:
            self.stage.careful = False

    def _pack(self, batch: Batch) -> Computed:
        wires = Wires(self.config.plan, self.partition, self.config.partitions, self.producer.create_batch)
        step, add, count = self.stage.step, wires.add, 0
        for item in batch.items:
            if isinstance(item, Clock):
                add(records.clock(item, self.partition, item.at_ms))
                continue
            for record in item.records:
                count += 1
                for out in step(record):
                    add(out)
        if self.rows is None:
            return Computed(count, wires, [])
        changed = self.rows.changed()
        wires.add_rows(changed)
        self.rows.settle()
        return Computed(count, wires, changed)

    async def submit(self, chunk: Chunk) -> None:
        """Hand the lane what was read next; waits while much is waiting already (that is the back-pressure)."""
        if chunk.first < self.next_offset:
            die(f"lane {self.name}: offset {chunk.first} comes again, {self.next_offset} was expected")
        self.next_offset = chunk.next_offset
        while self.waiting_bytes and self.waiting_bytes + chunk.size_bytes > BATCH_BYTES:
            self._room.clear()
            await self._room.wait()
        self.waiting_bytes += chunk.size_bytes
        await self.queue.put(chunk)

    async def tick(self, now_ms: int) -> None:
        """Append a wall-clock record to the lane's own partition if a timer is due and none is on its way."""
        if self.timers is None or self.rows is None:
            return
        due_ms = self.timers.next_due_ms()
        heard_ms = self.rows.lane(str(self.partition)).now_ms.get(WALL, 0)
        if due_ms is None or due_ms > now_ms or self.ticked_ms > heard_ms:
            return
        self.ticked_ms = now_ms
        await self.queue.put(Clock(at_ms=now_ms, origin=f"wall/{self.partition}", origins=1, rank=WALL))

    async def close(self) -> None:
        """Finish what was handed over, then let go of producer and database."""
        if self._runner is not None:
            async with asyncio.timeout(self.config.stuck_s):
                await self.queue.join()
            self._runner.cancel()
        if hasattr(self, "producer"):
            await self.producer.stop()
        if self.store is not None:
            await asyncio.to_thread(self.store.close)
        self.metrics.lane_state(self.name, "closed")


def exit_code(error: Exception) -> int:
    """Whether starting again helps: a database comes back from its changelog, a changelog from nowhere."""
    return EXIT_MISTAKE if isinstance(error, ChangelogError) else EXIT_DIED
