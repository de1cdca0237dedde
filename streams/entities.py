"""What is known now: the changelogs of a pipeline come in; the row of one entity, or who is stale, goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any, TypeVar

from pydantic_core import from_json

from schemas.keys import entity_key, partition_of
from schemas.row import Row, State
from schemas.times import rfc3339
from streams import cluster, kafka
from streams.cluster import Seen
from streams.past import Past
from streams.plan import EntityPlan, Plan
from streams.topics import EVENTS, changelog, topic_name
from tables.entity import row_codec

T = TypeVar("T")


class UnknownEntityError(Exception):
    """The pipeline declares no such entity, or nothing has been heard of the one with that key."""


@dataclass(frozen=True, slots=True)
class Heard:
    """When an entity was last heard of (event time), and the event that its row last took in."""

    key: str
    as_of_ms: int
    event_id: str | None
    event_type: str | None
    source: str | None


@dataclass(slots=True)
class Freshness:
    """How current the entities of one kind are at an instant."""

    entity: str
    # After so long without an event a row counts as stale; None: nobody has said.
    stale_after_ms: int | None
    rows: int = 0
    stale: int = 0
    newest_ms: int | None = None
    # Source → the newest event that is still the last one of some row.
    sources: dict[str, int] = field(default_factory=dict)
    # Those that have been silent for longest, the first one longest of all.
    stalest: list[Heard] = field(default_factory=list)


async def row_of(
    clients: Mapping[str, Any], plan: Plan, entity: str, key: str, seen: Seen | None = None
) -> Row[State]:
    """The row of `entity:key` as it was committed last.

    Raises:
        UnknownEntityError: there is none.
        NoTopicError: the pipeline has no topics.
    """
    declared = entity_of(plan, entity)
    topic, row_key = topic_name(plan, changelog(entity)), entity_key(entity, key).encode()
    partitions = (await kafka.partition_counts(clients, [topic])).get(topic, 1)
    value: bytes | None = None
    records = cluster.scan(clients, [topic], partition=partition_of(row_key, partitions), seen=seen)
    async with aclosing(records) as found:
        async for record in found:
            if record.key == row_key:
                value = record.value
    if value is None:
        raise UnknownEntityError(f"{entity}:{key}: nothing has been heard of it")
    row: Row[State] = row_codec(declared.state).validate_json(value)
    return row


async def row_as_of(
    clients: Mapping[str, Any], plan: Plan, entity: str, key: str, at_ms: int, seen: Seen | None = None
) -> Row[State]:
    """The row that the events of `entity:key` up to `at_ms` (event time) make: see `streams.past`.

    Raises:
        UnknownEntityError: there is none.
        NoTopicError: the pipeline has no topics.
    """
    entity_of(plan, entity)
    topic, row_key = topic_name(plan, EVENTS), entity_key(entity, key).encode()
    partitions = (await kafka.partition_counts(clients, [topic])).get(topic, 1)
    partition = partition_of(row_key, partitions)
    past = Past(plan, partitions, partition, entity, key, at_ms)
    records = cluster.scan(clients, [topic], partition=partition, seen=seen)
    async with aclosing(records) as found:
        async for record in found:
            past.hear(record)
    row = past.row()
    if row is None:
        raise UnknownEntityError(f"{entity}:{key}: nothing had been heard of it by {rfc3339(at_ms)}")
    return row


def entity_of(plan: Plan, entity: str) -> EntityPlan:
    """The entity that the pipeline declares under that name.

    Raises:
        UnknownEntityError: there is none.
    """
    if entity not in plan.entities:
        raise UnknownEntityError(
            f"{plan.name} declares no entity {entity!r}: it has {', '.join(plan.entities)}"
        )
    return plan.entities[entity]


async def freshness(
    clients: Mapping[str, Any], plan: Plan, at_ms: int, limit: int, seen: Seen | None = None
) -> list[Freshness]:
    """How current every kind of entity is at `at_ms`; of each, the `limit` rows that have been silent for longest.

    Raises:
        NoTopicError: the pipeline has no topics.
    """
    heard = await last_rows(clients, plan, heard_of, seen)
    return [judged(entity, heard[name].values(), at_ms, limit) for name, entity in plan.entities.items()]


async def last_rows(
    clients: Mapping[str, Any], plan: Plan, read: Callable[[str, bytes], T], seen: Seen | None
) -> dict[str, dict[str, T]]:
    """Entity → key → what `read` makes of the key and the row as it was committed last.

    Raises:
        NoTopicError: the pipeline has no topics.
    """
    names = {topic_name(plan, changelog(name)): name for name in plan.entities}
    found: dict[str, dict[str, T]] = {name: {} for name in plan.entities}
    async with aclosing(cluster.scan(clients, list(names), seen=seen)) as records:
        async for record in records:
            name = names[record.topic]
            key = (record.key or b"").decode().removeprefix(f"{name}:")
            if record.value is None:
                found[name].pop(key, None)
            else:
                found[name][key] = read(key, record.value)
    return found


def heard_of(key: str, value: bytes) -> Heard:
    """When a stored row was last heard of."""
    row = from_json(value)
    cause = row["cause"] or (None, None, None)
    return Heard(key, row["as_of_ms"], *cause[:3])


def judged(entity: EntityPlan, heard: Iterable[Heard], at_ms: int, limit: int) -> Freshness:
    """How current the rows of one kind are at `at_ms`."""
    known = list(heard)
    found = Freshness(entity.name, entity.stale_after_ms, len(known))
    found.newest_ms = max((each.as_of_ms for each in known), default=None)
    for each in known:
        if each.source is not None:
            found.sources[each.source] = max(found.sources.get(each.source, each.as_of_ms), each.as_of_ms)
    if entity.stale_after_ms is not None:
        horizon_ms = at_ms - entity.stale_after_ms
        stale = [each for each in known if each.as_of_ms < horizon_ms]
        found.stale = len(stale)
        found.stalest = nsmallest(limit, stale, key=lambda each: (each.as_of_ms, each.key))
    return found
