"""A pipeline's topics as they are: a plan and a cluster come in; partitions, offsets and settings of each go out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams import cluster, kafka, topics
from streams.plan import Plan

DAY_MS = topics.DAY_MS


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic of a pipeline and what the cluster knows of it; no partitions: it does not exist."""

    name: str
    role: str
    key: str
    written_by: str
    about: str
    partitions: int
    # By partition: the first offset, and the offset after the last committed record.
    first: list[int]
    last: list[int]
    retention: str

    @property
    def records(self) -> int:
        """How many offsets it holds: its records and the ends of the transactions that wrote them."""
        return sum(self.last) - sum(self.first)


async def inventory(clients: Mapping[str, Any], plan: Plan) -> list[TopicState]:
    """Every topic of `plan`, in flow order, also those that do not exist."""
    wanted = {topics.topic_name(plan, topic.role): topic for topic in topics.topics(plan)}
    counts = await kafka.partition_counts(clients, list(wanted))
    spans = await cluster.spans(clients, list(counts)) if counts else []
    configs = await cluster.topic_configs(clients, list(counts)) if counts else {}
    return [
        TopicState(
            name=name,
            role=topic.role,
            key=topic.key,
            written_by=topic.written_by,
            about=topic.about,
            partitions=counts.get(name, 0),
            first=[span.first for span in spans if span.topic == name],
            last=[span.last for span in spans if span.topic == name],
            retention=retention(configs.get(name, topic.config)),
        )
        for name, topic in wanted.items()
    ]


def retention(config: Mapping[str, str]) -> str:
    """How long a topic with these settings keeps its records, in words."""
    if "compact" in config.get("cleanup.policy", "delete"):
        return "the last of each key"
    kept_ms = int(config.get("retention.ms", 7 * DAY_MS))
    if kept_ms < 0:
        return "for ever"
    return f"{kept_ms // DAY_MS} d" if kept_ms % DAY_MS == 0 else f"{kept_ms / 3_600_000:g} h"


def uneven(states: list[TopicState]) -> str:
    """What is wrong with the partition counts; empty when they fit.

    An entity's records must share a partition number in every topic behind `events`; only `raw` may differ.
    """
    events = next(state for state in states if state.role == topics.EVENTS)
    for state in states:
        if state.role != topics.RAW and state.partitions not in (0, events.partitions) and events.partitions:
            return (
                f"{state.name} has {state.partitions} partitions, {events.name} has {events.partitions}:"
                f" recreate it with {events.partitions}"
            )
    return ""
