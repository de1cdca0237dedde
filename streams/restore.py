"""A lane's rows from its changelogs: the local database and a partition come in, a whole committed prefix goes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from aiokafka import TopicPartition

from streams.chunks import Chunk
from streams.exits import say
from streams.heads import ChangelogError, Heads
from streams.kafka import reader
from streams.metrics import Metrics
from streams.transport import fetched
from tables.store import Store

# How long one look at what has been fetched waits for more.
LOOK_S = 0.2
# Records that are decoded and written at once. More would fall out of the processor's cache between the two (measured:
# half the speed at 24,000).
SLICE_RECORDS = 1000


class Span:
    """What one changelog partition holds, what the database has of it, and what the lane's offset says of it."""

    def __init__(self, tp: TopicPartition, first: int, last: int, at: int, end: int, since: int) -> None:
        """Compare `first` and `last` (what Kafka has), `at` (the database), `end` and `since` (`Heads`)."""
        self.tp, self.first, self.last, self.at, self.end, self.since = tp, first, last, at, end, since

    @property
    def lost(self) -> str | None:
        """What is missing, if anything is."""
        if self.last < self.end:
            return f"ends at offset {self.last}, but the lane's last transaction wrote up to {self.end}"
        if self.at > self.last:
            return f"ends at offset {self.last}, but the local database holds it up to {self.at}"
        if self.first > max(self.at, self.since):
            return f"begins at offset {self.first}, but is needed from {max(self.at, self.since)} on"
        return None

    @property
    def beheaded(self) -> bool:
        """Whether rows are on this disk alone: Kafka has deleted their records (compaction never moves the first)."""
        return self.since < self.first <= self.at


async def restore(
    clients: Mapping[str, Any],
    store: Store,
    changelogs: Mapping[str, str],
    partition: int,
    lane: str,
    stuck_s: float,
    metrics: Metrics,
    heads: Heads,
) -> dict[str, int]:
    """Bring `store` up to the end of `changelogs` (topic → entity); returns changelog topic → next offset.

    1 where the database stands, 2 where the changelogs begin and end (`read_committed`: the last stable offset),
    3 whether they hold what `heads`, the metadata of the lane's committed offset, says, 4 what is missing.

    Raises:
        ChangelogError: a changelog was emptied, cut or made anew.
        StoreError: the database is damaged, or its disk full.
        TimeoutError: no progress for `stuck_s`.
    """
    # 1. Where the database stands.
    stored = store.offsets()
    tps = [TopicPartition(topic, partition) for topic in changelogs]
    async with reader(clients, tps) as consumer:
        # 2. Where the changelogs begin and end.
        first = await consumer.beginning_offsets(tps)
        last = await consumer.end_offsets(tps)
        # 3. Whether all is there.
        spans = []
        for tp in tps:
            name, at = changelogs[tp.topic], stored.get(tp.topic, 0)
            ends = heads.ends.get(name, 0), heads.since.get(name, 0)
            spans.append(Span(tp, first[tp], last[tp], at, *ends))
        check(spans, lane, store)
        # 4. What is missing.
        missing = {span.tp: span for span in spans if span.at < span.last}
        for span in missing.values():
            consumer.seek(span.tp, max(span.at, span.first))
        await copy(consumer, store, missing, lane, stuck_s, metrics)
    return {span.tp.topic: max(span.at, span.last) for span in spans}


def check(spans: Sequence[Span], lane: str, store: Store) -> None:
    """Refuse changelogs that have lost rows; say it when they have lost what the database still has.

    Raises:
        ChangelogError: see `restore`.
    """
    for span in spans:
        topic, partition = span.tp
        if span.lost is not None:
            raise ChangelogError(
                f"{topic} partition {partition} {span.lost}: it was emptied, cut or made anew, and rows are lost. "
                f"Restore topic and offsets from a backup; or read all events again under a new pipeline name; "
                f"or go on with what is left: midstream offsets reset PIPELINE --to keep --partition events:{partition}"
            )
        if span.beheaded:
            say(
                f"lane {lane}: {topic} partition {partition} has lost its records before offset {span.first}. "
                f"{store.folder} has their rows, so it goes on. Keep that folder: no other machine could restore "
                f"it. And set cleanup.policy=compact"
            )


async def copy(
    consumer: Any,
    store: Store,
    missing: dict[TopicPartition, Span],
    lane: str,
    stuck_s: float,
    metrics: Metrics,
) -> None:
    """Write what `consumer` reads of the `missing` changelogs, the newest value of each key once per slice."""
    if not missing:
        return
    started = moved = time.monotonic()
    at = {tp: max(span.at, span.first) for tp, span in missing.items()}
    total = sum(span.last - at[tp] for tp, span in missing.items())
    count = done = 0
    while missing:
        for chunk in (await fetched(consumer, set(missing), LOOK_S)).values():
            for seen, next_offset, rows in slices(chunk):
                store.restore(rows, {chunk.topic: next_offset})
                count += seen
            # Other lanes restore at the same time, and the group wants to hear from this process.
            await asyncio.sleep(0)
        for tp in list(missing):
            # The position also moves over control records, which end every changelog.
            now = min(await consumer.position(tp), missing[tp].last)
            if now > at[tp]:
                done, moved = done + now - at[tp], time.monotonic()
            at[tp] = now
            if now == missing[tp].last:
                del missing[tp]
        metrics.restoring(lane, done, total, time.monotonic() - started)
        if time.monotonic() - moved > stuck_s:
            raise TimeoutError(f"nothing came of {sorted(tp.topic for tp in missing)} for {stuck_s:g} s")
    metrics.restored(count, time.monotonic() - started)


def slices(chunk: Chunk) -> Iterator[tuple[int, int, dict[bytes, tuple[bytes | None, int | None]]]]:
    """A chunk's records, some at a time: how many, the offset after them, and key → (value, due time) of the last of
    each key.
    """
    records = iter(chunk.records)
    while waiting := list(islice(records, SLICE_RECORDS)):
        rows = {
            record.key: (record.value, due_of(record.headers) if record.headers else None)
            for record in {record.key: record for record in waiting}.values()
            if record.key is not None
        }
        yield len(waiting), waiting[-1].offset + 1, rows


def due_of(headers: Sequence[tuple[str, bytes]]) -> int | None:
    """When the row's next timer is due: a header, so that a restore need not read the row."""
    for name, value in headers:
        if name == "ms_due":
            return int(value)
    return None
