"""A lane's rows from its changelogs: the local database and a partition come in, a whole committed prefix goes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from streams.kafka import reader
from streams.metrics import Metrics
from tables.store import Store, StoreError

# Records taken from the client at once; the last value per key of each goes into one WriteBatch.
RESTORE_RECORDS = 50_000


async def restore(
    clients: Mapping[str, Any],
    store: Store,
    changelogs: Sequence[str],
    partition: int,
    stuck_s: float,
    metrics: Metrics,
) -> dict[str, int]:
    """Bring `store` up to the end of its changelogs; returns changelog topic → next offset.

    1 where the database stands, 2 where the changelogs end (`read_committed`: the last stable offset), 3 the rest.

    Raises:
        StoreError: the database is ahead of its changelog, so they do not belong together.
        TimeoutError: no progress for `stuck_s`.
    """
    # 1. Where the database stands.
    stored = store.offsets()
    tps = {topic: TopicPartition(topic, partition) for topic in changelogs}
    async with reader(clients, list(tps.values())) as consumer:
        # 2. Where the changelogs begin and end.
        first = await consumer.beginning_offsets(list(tps.values()))
        last = await consumer.end_offsets(list(tps.values()))
        for topic, tp in tps.items():
            at = stored.get(topic, 0)
            if at > last[tp]:
                raise StoreError(
                    f"{store.folder} holds {topic} up to offset {at}, but the topic ends at {last[tp]}: it was deleted "
                    f"or made anew. Delete the folder to restore from the topic."
                )
            consumer.seek(tp, max(at, first[tp]))
        # 3. The rest, the newest value of each key once per chunk.
        missing = {topic for topic, tp in tps.items() if stored.get(topic, 0) < last[tp]}
        count, started = 0, time.monotonic()
        while missing:
            async with asyncio.timeout(stuck_s):
                chunk = await consumer.getmany(timeout_ms=200, max_records=RESTORE_RECORDS)
            for tp, batch in chunk.items():
                rows = {record.key: (record.value, due_of(record.headers)) for record in batch}
                store.restore(rows, {tp.topic: batch[-1].offset + 1})
                count += len(batch)
            for topic in list(missing):
                # The position also moves over control records, which end every changelog.
                if await consumer.position(tps[topic]) >= last[tps[topic]]:
                    missing.discard(topic)
                    stored[topic] = last[tps[topic]]
        metrics.restored(count, time.monotonic() - started)
    return {topic: stored.get(topic, 0) for topic in changelogs}


def due_of(headers: Sequence[tuple[str, bytes]]) -> int | None:
    """When the row's next timer is due: a header, so that a restore need not read the row."""
    for name, value in headers:
        if name == "ms_due":
            return int(value)
    return None
