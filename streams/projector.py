"""The committed topics of a pipeline come in, one DuckDB file of them goes out: whole, at a cut, again and again.

The cut is taken first: an offset for every partition, between two transactions of its lane. Then everything before it
is read, and nothing after it. A run that is killed continues from what its working database holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams import kafka, topics
from streams.cluster import partitions_of
from streams.cut import between_transactions
from streams.plan import Plan
from tables.snapshot import Cut, Snapshot, Source

# Records taken from the client at once; they enter the database in one transaction.
CHUNK_RECORDS = 25_000
# Kafka may drop a tombstone this long after it was written (`delete.retention.ms`, 24 h unless set), less a margin:
# who was away longer reads compacted topics from their beginning, or would keep what was deleted meanwhile.
TOMBSTONES_KEPT_MS = 20 * 3600 * 1000
# A lane under full load is between two transactions about half of the time: it is looked for so long.
PATIENCE_S = 2.0
# No partition moved for so long although there is something to read.
STUCK_S = 60.0

# (offsets read, offsets to read)
Progress = Callable[[int, int], None]
Offsets = Mapping[TopicPartition, int]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did."""

    cut: Cut
    # Records read, and the rows that each table has now.
    records: int
    rows: Mapping[str, int]
    # What was read anew, and why.
    notes: Sequence[str]
    published: bool
    seconds: float
    publish_seconds: float


async def project(
    clients: Mapping[str, Any], plan: Plan, working: Path, out: Path, progress: Progress | None = None
) -> Pass:
    """One pass: bring the working database up to the cut, and publish it.

    Raises:
        NoTopicError: a topic of the pipeline does not exist.
        SnapshotError: a file cannot be used.
        KafkaError, TimeoutError: Kafka cannot be reached, or stops answering.
    """
    snapshot = Snapshot(working, source(plan))
    try:
        return await one_pass(clients, snapshot, out, progress, always=True)
    finally:
        snapshot.close()


async def follow(
    clients: Mapping[str, Any],
    plan: Plan,
    working: Path,
    out: Path,
    every_s: float,
    tell: Callable[[Pass], None],
    trouble: Callable[[str], None],
    progress: Progress | None = None,
) -> None:
    """Pass after pass, with `every_s` between them, until cancelled; what is published stays complete.

    When nothing new has come the published file stays as it is. `tell` hears of every pass; once the first has
    succeeded, `trouble` hears when Kafka is away, and the next one tries again.

    Raises:
        as `project`.
    """
    snapshot = Snapshot(working, source(plan))
    try:
        # What was read before a run was killed, or before Kafka went away, may not be published yet.
        tell(await one_pass(clients, snapshot, out, progress, always=True))
        broken_off = False
        while not ending():
            await asyncio.sleep(every_s)
            try:
                tell(await one_pass(clients, snapshot, out, progress, always=broken_off))
                broken_off = False
            except (KafkaError, TimeoutError) as error:
                broken_off = True
                trouble(str(error) or type(error).__name__)
        raise asyncio.CancelledError
    finally:
        snapshot.close()


def ending() -> bool:
    """Whether this task was cancelled. A client that is being closed may have swallowed the exception (1 in 100)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def source(plan: Plan) -> Source:
    """What the snapshot of `plan` is made of."""
    roles = [topics.changelog(name) for name in plan.entities]
    roles += [
        topics.CHANGES,
        topics.DECISIONS,
        topics.ACTIONS,
        topics.REVIEWS,
        topics.QUARANTINE,
        topics.AUDIT,
    ]
    return Source(
        plan.name,
        plan.version,
        {role: topics.topic_name(plan, role) for role in roles},
        {name: entity.state for name, entity in plan.entities.items()},
        {name: entity.rules.order for name, entity in plan.entities.items()},
    )


async def one_pass(
    clients: Mapping[str, Any], snapshot: Snapshot, out: Path, progress: Progress | None, *, always: bool
) -> Pass:
    """Bring `snapshot` up to a new cut, then publish it: if there is news, or `always`."""
    began = time.monotonic()
    cut, records, notes = await catch_up(clients, snapshot, progress)
    publishing = time.monotonic()
    published = await in_thread(snapshot, publish, snapshot, out, always or bool(records or notes))
    now = time.monotonic()
    return Pass(cut, records, snapshot.rows(), notes, published, now - began, now - publishing)


async def catch_up(
    clients: Mapping[str, Any], snapshot: Snapshot, progress: Progress | None
) -> tuple[Cut, int, list[str]]:
    """1 the partitions, 2 the cut, 3 what must be read anew, 4 the records up to the cut.

    Returns the cut, how many records were read, and what was read anew.
    """
    # 1. The partitions.
    tps = await partitions_of(clients, list(snapshot.source.topics.values()))
    async with kafka.reader(clients, tps) as consumer:
        # 2. The cut.
        cut, ends = await take_cut(clients, consumer, tps, snapshot.source.topics[topics.QUARANTINE])
        firsts = await consumer.beginning_offsets(tps)
        # 3. What the working database holds and no longer belongs to these topics.
        notes = [f"{name}: its columns have changed; it was read anew" for name in snapshot.renewed]
        snapshot.renewed.clear()
        notes += await in_thread(snapshot, refresh, snapshot, cut, ends)
        # 4. The records.
        known = snapshot.offsets()
        starts = {tp: max(known.get((tp.topic, tp.partition), 0), firsts[tp]) for tp in tps}
        records = await read(consumer, snapshot, cut, starts, ends, progress)
    return cut, records, notes


async def take_cut(
    clients: Mapping[str, Any], consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition], loose: str
) -> tuple[Cut, dict[TopicPartition, int]]:
    """The cut and its offsets. Topic `loose` is written by several lanes, and nothing in the others refers to it."""
    cluster, now = await kafka.cluster_id(clients), datetime.now(UTC)
    lanes: dict[int, list[TopicPartition]] = {}
    for tp in tps:
        if tp.topic != loose:
            lanes.setdefault(tp.partition, []).append(tp)
    uncommitted = AIOKafkaConsumer(**clients, group_id=None, isolation_level="read_uncommitted")
    try:
        await uncommitted.start()
        # So it knows all topics at once, and fetches nothing.
        uncommitted.assign(list(tps))
        uncommitted.pause(*tps)
        ends, torn = await between_transactions(
            lanes, lambda: consumer.end_offsets(tps), lambda: uncommitted.end_offsets(tps), PATIENCE_S
        )
    finally:
        await uncommitted.stop()
    return Cut(cluster, now, torn), {tp: ends[tp] for tp in tps}


def refresh(snapshot: Snapshot, cut: Cut, ends: Offsets) -> list[str]:
    """Empty the tables that do not belong to their topics any more; returns what was emptied, and why."""
    everything = list(snapshot.tables)
    known, last_ms = snapshot.cluster(), snapshot.last_cut_ms()
    if known not in (None, cut.cluster):
        snapshot.forget(everything)
        return [f"the working file was made from cluster {known}, this is {cut.cluster}: all was read anew"]
    notes = []
    ahead = {
        topic
        for (topic, number), offset in snapshot.offsets().items()
        if offset > ends.get(TopicPartition(topic, number), -1)
    }
    if ahead:
        snapshot.forget([topic for topic in everything if topic in ahead])
        notes += [f"{topic}: it was deleted or made anew; it was read anew" for topic in sorted(ahead)]
    if last_ms is not None and cut.at.timestamp() * 1000 - last_ms > TOMBSTONES_KEPT_MS:
        compacted = [topic for topic, table in snapshot.tables.items() if table.key is not None]
        snapshot.forget(compacted)
        notes.append("the last pass was long ago: entities and reviews were read anew, to miss no deletion")
    return notes


async def read(
    consumer: AIOKafkaConsumer,
    snapshot: Snapshot,
    cut: Cut,
    starts: Offsets,
    ends: Offsets,
    progress: Progress | None,
) -> int:
    """Bring every record from `starts` up to, not including, `ends` into `snapshot`; returns how many."""
    at = dict(starts)
    for tp, offset in starts.items():
        consumer.seek(tp, offset)
    missing = {tp for tp in ends if at[tp] < ends[tp]}
    consumer.pause(*(ends.keys() - missing))
    whole = sum(ends[tp] - at[tp] for tp in missing)
    held = Held()
    moved_s = time.monotonic()
    while missing:
        polled = await consumer.getmany(timeout_ms=200, max_records=CHUNK_RECORDS)
        for tp, batch in polled.items():
            held.add(tp.topic, [record for record in batch if record.offset < ends[tp]])
        for tp in list(missing):
            # The position also moves over control records, which end every transaction.
            position = min(await consumer.position(tp), ends[tp])
            if position > at[tp]:
                at[tp], moved_s = position, time.monotonic()
            if position == ends[tp]:
                missing.discard(tp)
                consumer.pause(tp)
        if held.count >= CHUNK_RECORDS:
            await in_thread(snapshot, snapshot.apply, held.take(), named(at), cut)
        if time.monotonic() - moved_s > STUCK_S:
            tp = min(missing)
            where = f"{tp.topic}[{tp.partition}] stays at offset {at[tp]} of {ends[tp]}"
            raise TimeoutError(f"{where}: nothing came for {STUCK_S:.0f} s")
        if progress is not None:
            progress(whole - sum(ends[tp] - at[tp] for tp in missing), whole)
    await in_thread(snapshot, snapshot.apply, held.take(), named(ends), cut)
    return held.total


class Held:
    """Records between Kafka and the database: a transaction for each poll would cost more than its rows."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.count = self.total = 0
        self._records: dict[str, list[Any]] = {}

    def add(self, topic: str, records: Sequence[Any]) -> None:
        """Hold `records` of one partition of `topic`."""
        self._records.setdefault(topic, []).extend(records)
        self.count += len(records)

    def take(self) -> dict[str, list[Any]]:
        """Everything held, by topic; nothing is held then."""
        records, self._records = self._records, {}
        self.total, self.count = self.total + self.count, 0
        return records


def named(offsets: Offsets) -> dict[tuple[str, int], int]:
    """Offsets as the database has them."""
    return {(tp.topic, tp.partition): offset for tp, offset in offsets.items()}


def publish(snapshot: Snapshot, out: Path, news: bool) -> bool:
    """Publish if there is news, or no file; returns whether it did."""
    if not news and out.exists():
        return False
    snapshot.publish(out)
    return True


async def in_thread(snapshot: Snapshot, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` beside the loop. When cancelled, stop DuckDB and wait: nobody may close it under a query."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        snapshot.interrupt()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise
