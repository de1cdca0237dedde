"""The topics of a pipeline in flow order: role, name, key, retention. Roles come in, Kafka's settings go out."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.lane import ENTITY
from streams.plan import Plan

RAW = "raw"
EVENTS = "events"
QUARANTINE = "quarantine"
CHANGES = "changes"
DECISIONS = "decisions"
ACTIONS = "actions"
REVIEWS = "reviews"
AUDIT = "audit"

DAY_MS = 24 * 3600 * 1000
# A body may be refused for its size only if Kafka lets it in: the pipeline's own limit is far lower.
MAX_RECORD_BYTES = 24 << 20
# A row or an output above this is refused with the event that made it. Well below what Kafka takes, because a record is
# its value and its headers; well above a row that holds a body of the largest size in its state and five changes.
MAX_OUT_BYTES = 16 << 20
# A refused record is the record and the headers that say why.
QUARANTINE_HEADER_BYTES = 1 << 16


def changelog(entity: str) -> str:
    """The role of an entity's changelog."""
    return f"{entity}.changelog"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its role in the flow, its Kafka key in words, who writes it, and its Kafka settings."""

    role: str
    key: str
    written_by: str
    about: str
    config: dict[str, str] = field(default_factory=dict)


def topics(plan: Plan) -> list[Topic]:
    """Every topic of `plan`, in flow order."""
    # Kafka's usual 1 MB would stop the lane at the first body of nearly that size: its event, the row that holds it
    # and the context that shows it are a little larger.
    large = {"max.message.bytes": str(MAX_RECORD_BYTES)}
    # When a record came is for the broker to say: a producer's clock may be wrong, or lie.
    week = large | {"retention.ms": str(7 * DAY_MS), "message.timestamp.type": "LogAppendTime"}
    month = {
        "retention.ms": str(30 * DAY_MS),
        "max.message.bytes": str(MAX_RECORD_BYTES + QUARANTINE_HEADER_BYTES),
    }
    forever = large | {"retention.ms": "-1"}
    compacted = large | {"cleanup.policy": "compact"}
    changelogs = [
        Topic(changelog(name), "entity:key", "entity", f"the rows of {name}", compacted)
        for name in (*plan.entities, ENTITY)
    ]
    return [
        Topic(RAW, "the source's key", "producers", "what the world says", week),
        Topic(
            EVENTS, "entity:key", "ingest, entity, people", "everything that can change an entity", forever
        ),
        Topic(
            QUARANTINE,
            "the refused record's key",
            "ingest, entity",
            "refused records with their reason",
            month,
        ),
        *changelogs,
        Topic(CHANGES, "entity:key", "entity", "which field changed from what to what, and why", forever),
        Topic(DECISIONS, "entity:key", "entity", "who decided what, from what", forever),
        Topic(REVIEWS, "review id", "entity", "questions to people, open and closed", compacted),
        Topic(ACTIONS, "action id", "entity", "what is to be done, once per key", forever),
        Topic(AUDIT, "the lane", "entity", "what was done and why it was allowed, hash-chained", forever),
    ]


def topic_name(plan: Plan, role: str) -> str:
    """The Kafka name of the topic with `role`."""
    return f"{plan.name}.{role}"
