"""Where a pipeline's consumer group stands on its sources: offsets as they are, and the deliberate way to change them.

A lane goes on from the offset that it has committed with its rows. If Kafka no longer has the record that stands there,
it stops instead of skipping; how it goes on is decided here, by a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from schemas.lane import ENTITY
from streams import kafka, topics
from streams.cluster import Span, group, spans
from streams.heads import Heads, read_heads
from streams.partitions import mark, marked
from streams.plan import Plan

SOURCES = (topics.RAW, topics.EVENTS)

To = Literal["earliest", "keep"] | int
"""The first record that Kafka still has; where it stands, with the changelogs as they are now; or an offset."""


class OffsetsError(Exception):
    """The offsets cannot be changed like this; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Position:
    """One source partition: what the group has committed, what Kafka has, and what is wrong."""

    role: str
    partition: int
    # None: nothing has been committed yet; the lane begins at the first record.
    committed: int | None
    first: int
    last: int
    metadata: str
    # In words; empty when the lane can go on.
    trouble: str

    @property
    def name(self) -> str:
        """As `--partition` takes it."""
        return f"{self.role}:{self.partition}"


@dataclass(frozen=True, slots=True)
class Move:
    """What a reset does to one partition."""

    name: str
    before: int | None
    after: int
    metadata: str


def missing(offset: int, first: int, last: int) -> str:
    """What is wrong when a group's next record has `offset` and Kafka has `first` to `last`; empty if nothing is."""
    if offset < first:
        return f"up to {first - offset} records were deleted before they were read"
    if offset > last:
        return (
            f"the topic was emptied, cut or made anew: it ends {offset - last} before the next record to read"
        )
    return ""


def out_of_range(topic: str, partition: int, offset: int, first: int, last: int) -> str:
    """The line with which a worker ends that cannot read on."""
    role = topic.rpartition(".")[2]
    return (
        f"{topic} partition {partition}: the next record to read is at offset {offset}, Kafka has {first} to {last}: "
        f"{missing(offset, first, last)}. Restore the topic from a backup; or go on without them: stop the workers, "
        f"midstream offsets reset PIPELINE --to earliest --partition {role}:{partition}. "
        f"See retention.ms and retention.bytes of the topic"
    )


async def positions(clients: Mapping[str, Any], plan: Plan) -> list[Position]:
    """Every source partition of `plan`, in flow order.

    Raises:
        NoTopicError: a source topic does not exist.
    """
    names = {topics.topic_name(plan, role): role for role in SOURCES}
    committed = {
        (tp.topic, tp.partition): at for tp, at in (await kafka.committed_offsets(clients, plan.name)).items()
    }
    logs = {
        (span.topic, span.partition): span
        for span in await spans(
            clients, [topics.topic_name(plan, topics.changelog(name)) for name in named(plan)]
        )
    }
    found = []
    for span in await spans(clients, list(names)):
        role, at = names[span.topic], committed.get((span.topic, span.partition))
        trouble = "" if at is None else missing(at.offset, span.first, span.last)
        if at is not None and role == topics.EVENTS and not trouble:
            trouble = lost(plan, read_heads(at.metadata), span.partition, logs)
        found.append(
            Position(
                role,
                span.partition,
                None if at is None else at.offset,
                span.first,
                span.last,
                "" if at is None else at.metadata,
                trouble,
            )
        )
    return sorted(found, key=lambda position: (SOURCES.index(position.role), position.partition))


def named(plan: Plan) -> list[str]:
    """Whose changelogs a lane has: every entity, and the lane itself."""
    return [*plan.entities, ENTITY]


def lost(plan: Plan, heads: Heads, partition: int, logs: Mapping[tuple[str, int], Span]) -> str:
    """Which changelog ends before the lane's committed offset says; empty if none does."""
    for name, end in heads.ends.items():
        log = logs.get((topics.topic_name(plan, topics.changelog(name)), partition))
        if log is not None and log.last < end:
            return f"the changelog of {name} ends at {log.last}, and went on to {end} when this was committed"
    return ""


async def plan_reset(clients: Mapping[str, Any], plan: Plan, to: To, chosen: Sequence[str]) -> list[Move]:
    """What a reset of `chosen` partitions ("raw:0") would do; of none: those that cannot go on.

    Raises:
        OffsetsError: workers run; a partition is unknown or was not given; Kafka does not have the offset.
        NoTopicError: a topic does not exist.
    """
    state = await group(clients, plan.name)
    if state.members:
        raise OffsetsError(
            f"{plan.name}: {state.members} workers run. Stop all of them first (one that was killed counts for some "
            f"seconds more), else they would go on from where they are."
        )
    found = {position.name: position for position in await positions(clients, plan)}
    for name in chosen:
        if name not in found:
            raise OffsetsError(f"no partition {name}. Expected one of {', '.join(found)}")
    wanted = [found[name] for name in chosen] or [position for position in found.values() if position.trouble]
    if not chosen and isinstance(to, int):
        raise OffsetsError("an offset is of one partition: give it with --partition, as in --partition raw:0")
    moves = []
    for position in wanted:
        after = target(position, to)
        metadata = position.metadata
        if to == "keep":
            metadata = await accepted(clients, plan, position)
        moves.append(Move(position.name, position.committed, after, metadata))
    return moves


def target(position: Position, to: To) -> int:
    """The offset that `to` means for one partition."""
    if to == "earliest":
        return position.first
    after = position.committed if to == "keep" else to
    if after is None:
        after = position.first
    if missing(after, position.first, position.last):
        raise OffsetsError(
            f"{position.name}: offset {after} is not there; Kafka has {position.first} to {position.last}."
        )
    return after


async def accepted(clients: Mapping[str, Any], plan: Plan, position: Position) -> str:
    """Metadata that takes the changelogs of one lane as they are now: a new life, in which databases start afresh."""
    if position.role != topics.EVENTS:
        return position.metadata
    entities = {topics.topic_name(plan, topics.changelog(name)): name for name in named(plan)}
    mine = {
        entities[span.topic]: span
        for span in await spans(clients, list(entities))
        if span.partition == position.partition
    }
    heads = Heads(
        ends={name: span.last for name, span in mine.items()},
        since={name: span.first for name, span in mine.items()},
        life=uuid4().hex[:8],
    )
    partitions = marked(position.metadata)
    return " ".join([*([] if partitions is None else [mark(partitions)]), heads.written()])


async def reset(clients: Mapping[str, Any], plan: Plan, moves: Sequence[Move]) -> None:
    """Commit `moves`.

    Raises:
        aiokafka.errors.KafkaError: a worker has joined the group meanwhile.
    """
    places = {}
    for move in moves:
        role, _, partition = move.name.partition(":")
        places[topics.topic_name(plan, role), int(partition)] = (move.after, move.metadata)
    await kafka.commit_offsets(clients, plan.name, places)
