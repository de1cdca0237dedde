"""How many partitions a pipeline has, and whether its state was made with as many: a plan and a cluster come in, the
number or a refusal goes out.

An entity's key decides its partition, and the partition decides where its row is. Topics that have grown would send a
key to a lane that has never heard of it. Every committed offset therefore carries the number of partitions with which
the state before it was made, in the same transaction as that state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams import kafka, topics
from streams.plan import Plan
from streams.signatures import PipelineError

MARK = "partitions="


def mark(partitions: int) -> str:
    """What an offset carries that is committed with state made for so many partitions."""
    return f"{MARK}{partitions}"


def marked(metadata: str) -> int | None:
    """The number in a committed offset's metadata; None when it carries none."""
    # What follows tells of the changelogs: streams/heads.py.
    number, _, _ = metadata.removeprefix(MARK).partition(" ")
    return int(number) if metadata.startswith(MARK) and number.isdecimal() else None


async def counts(clients: Mapping[str, Any], plan: Plan) -> dict[str, int]:
    """Role → number of partitions of its topic, for every topic of `plan`.

    Raises:
        PipelineError: one does not exist.
    """
    names = {topic.role: topics.topic_name(plan, topic.role) for topic in topics.topics(plan)}
    found = await kafka.partition_counts(clients, list(names.values()))
    for name in names.values():
        if name not in found:
            raise PipelineError(f"{plan.name}: no topic {name}. Create them with: midstream topics create.")
    return {role: found[name] for role, name in names.items()}


async def made_with(clients: Mapping[str, Any], plan: Plan) -> int | None:
    """With how many partitions the committed state was made; None when nothing has been committed."""
    committed = await kafka.committed_offsets(clients, plan.name)
    sources = {topics.topic_name(plan, role) for role in (topics.RAW, topics.EVENTS)}
    marks = {marked(at.metadata) for tp, at in committed.items() if tp.topic in sources} - {None}
    return min((found for found in marks if found is not None), default=None)


async def fitting(clients: Mapping[str, Any], plan: Plan) -> int:
    """The number of partitions of `events` and all behind it, which is the one that the state was made with.

    Raises:
        PipelineError: topics are missing, differ from each other, or have grown since the state was made.
    """
    found = await counts(clients, plan)
    partitions, made = found[topics.EVENTS], await made_with(clients, plan)
    events = topics.topic_name(plan, topics.EVENTS)
    if made is not None and made != partitions:
        raise PipelineError(
            f"{events} has {partitions} partitions, but the state was made with {made}: keys would be looked for where "
            f"their rows are not. Stop the workers and move the rows with: midstream repartition PIPELINE "
            f"--partitions {partitions}."
        )
    for role, count in found.items():
        if role != topics.RAW and count != partitions:
            name = topics.topic_name(plan, role)
            raise PipelineError(
                f"{name} has {count} partitions, {events} has {partitions}. An entity's records must share a "
                f"partition number. Give all of them {max(count, partitions)} with: midstream repartition PIPELINE "
                f"--partitions {max(count, partitions)}."
            )
    return partitions
