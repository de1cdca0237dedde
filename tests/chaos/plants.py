"""Bugs, planted into a worker's process on purpose: the checker must find each of them.

Each breaks one rule of `streams.lane`, by wrapping what the lanes call.
"""

import uuid
from typing import Any

from aiokafka import AIOKafkaProducer, OffsetAndMetadata

from streams import kafka, lane
from streams.chunks import Chunk
from streams.lane import Lane
from streams.partitions import mark
from tables.entity import ChangedRow, Rows
from tables.store import Store


class Early(AIOKafkaProducer):  # type: ignore[misc] # aiokafka has no types
    """A producer whose transactions neither failpoints nor other plants see."""

    begin_transaction = AIOKafkaProducer.begin_transaction
    send_offsets_to_transaction = AIOKafkaProducer.send_offsets_to_transaction
    commit_transaction = AIOKafkaProducer.commit_transaction


def offsets_first() -> None:
    """The source offset is committed when a batch is handed over, before any output is sent."""
    submit = Lane.submit
    producers: dict[str, Early] = {}

    async def committing(lane: Lane, chunk: Chunk) -> None:
        if lane.name not in producers:
            producers[lane.name] = Early(**lane.config.clients, transactional_id=f"{lane.name}.early")
            await producers[lane.name].start()
        early = producers[lane.name]
        await early.begin_transaction()
        place = OffsetAndMetadata(chunk.next_offset, mark(lane.config.partitions))
        await early.send_offsets_to_transaction({lane.source: place}, lane.config.group)
        await early.commit_transaction()
        await submit(lane, chunk)

    async def nothing(*args: Any, **kwargs: Any) -> None:
        return

    Lane.submit = committing  # type: ignore[method-assign,assignment] # the point
    AIOKafkaProducer.send_offsets_to_transaction = nothing


def rows_first() -> None:
    """Rows are in RocksDB before their transaction is committed."""
    encode = Rows.changed

    def writing(rows: Rows) -> list[ChangedRow]:
        changed = encode(rows)
        store = getattr(rows._read, "__self__", None)
        assert isinstance(store, Store), "a lane's rows are read from its store"
        store.write(changed, {})
        # As it would be one day: a crash takes with it what is in the buffers.
        store._db.flush()
        return changed

    Rows.changed = writing  # type: ignore[method-assign,assignment] # the point


def no_fencing() -> None:
    """Every process has transactional ids of its own: nobody is ever fenced."""
    producer = kafka.transactional_producer

    def unfenced(clients: Any, name: str, *rest: Any, **options: Any) -> AIOKafkaProducer:
        return producer(clients, f"{name}.{uuid.uuid4().hex}", *rest, **options)

    lane.transactional_producer = unfenced  # type: ignore[attr-defined] # where it is called from


PLANTS = {"offsets first": offsets_first, "rows first": rows_first, "no fencing": no_fencing}
