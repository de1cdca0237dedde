"""Typed records in, Kafka records out: how each output of the entity lane is keyed, headed and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import to_json

from agents.decision import Gate
from agents.links import LinkOut
from agents.state import Reduced
from schemas.action import ActionRecord
from schemas.audit import AuditRecord, sealed
from schemas.carried import quoted
from schemas.decision import DecisionRecord, Hop, Trigger, Verdict
from schemas.event import CLOCK, LINKED, Clock, Envelope, envelope_headers
from schemas.keys import decision_id, derived, entity_key
from schemas.lane import LaneRow
from schemas.quarantine import Origin, Refusal, quarantine_headers
from schemas.record import NO_HEADERS, Out, Record
from schemas.review import ReviewRecord
from streams.plan import DecisionPlan, Plan
from streams.topics import ACTIONS, AUDIT, CHANGES, DECISIONS, EVENTS, QUARANTINE, REVIEWS


def fact(entity: str, key: str, envelope: Envelope) -> Out:
    """`envelope` for the entity `entity:key`."""
    return Out(EVENTS, entity_key(entity, key).encode(), envelope.data, envelope_headers(envelope))


def clock(origin: Clock, partition: int, ingested_ms: int) -> Out:
    """A clock record for one partition of `events`."""
    envelope = Envelope(
        id=f"{origin.origin}@{origin.at_ms}",
        type=CLOCK,
        source=f"/midstream/{origin.origin}",
        time_ms=origin.at_ms,
        subject=f"clock:{origin.origin}",
        data=to_json(origin),
        ingested_ms=ingested_ms,
    )
    return Out(EVENTS, b"clock", envelope.data, envelope_headers(envelope), partition)


def link(cause: Envelope, out: LinkOut) -> Out:
    """What an entity tells a linked one, as an event of that other one."""
    envelope = Envelope(
        id=derived("lnk_", cause.trigger, out.target, out.key, str(out.linked.removed)),
        type=LINKED,
        source=f"/midstream/link/{out.linked.link}",
        time_ms=cause.time_ms,
        subject=cause.subject,
        data=to_json(out.linked),
        ingested_ms=cause.ingested_ms,
        traceparent=cause.traceparent,
    )
    return fact(out.target, out.key, envelope)


def refused(
    record: Record, topic: str, partition: int, refusal: Refusal, part: str = "", value: bytes | None = None
) -> Out:
    """`record` of `topic` and `partition` for quarantine: its own bytes and headers, and why.

    `value` replaces the bytes of a failed timer.
    """
    origin = Origin(topic, partition, record.offset, part)
    headers = quarantine_headers(refusal, origin, record.headers)
    return Out(QUARANTINE, record.key, record.value if value is None else value, headers)


class Subject(NamedTuple):
    """Whose change it is: entity, key, the key of its row, the version that it made, and its partition."""

    entity: str
    key: str
    row_key: bytes
    version: int
    partition: int


def changes(of: Subject, envelope: Envelope, reduced: Reduced) -> Iterator[Out]:
    """What an event changed and said, and what others say anew because it came late."""
    if reduced.changed or reduced.said:
        yield changed(of, envelope.time_ms, envelope.id, envelope.type, reduced.changed, reduced.said)
    for each in reduced.restated:
        event_id, event_type, _, time_ms = each.cause
        yield changed(of, time_ms, event_id, event_type, each.changed, each.said, late=envelope.id)


def changed(
    of: Subject,
    time_ms: int,
    event_id: str,
    event_type: str,
    fields: str,
    said: Mapping[str, Any],
    late: str = "",
) -> Out:
    """What one event changed, and what it only said.

    Args:
        of: whose state.
        time_ms: the event's time.
        event_id: the event.
        event_type: its type.
        fields: JSON already, the same text as in the row's history: field → [old, new]; empty when none changed.
        said: field → the value that the event gave and that changed nothing.
        late: the event that came late and made it necessary to say this of an earlier one anew.
    """
    body = (
        f'{{"entity":{quoted(of.entity)},"key":{quoted(of.key)},"version":{of.version},"time_ms":{time_ms},'
        f'"event_id":{quoted(event_id)},"event_type":{quoted(event_type)},"fields":{fields or "{}"}'
    ).encode()
    if said:
        body += b',"said":' + to_json(said)
    if late:
        body += b',"late":' + quoted(late).encode()
    return Out(CHANGES, of.row_key, body + b"}", NO_HEADERS, of.partition)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the lane looks at a decision now: the record it read, what triggered, and the instant it is about."""

    record: Record
    partition: int
    ingested_ms: int
    trigger: Trigger
    at_ms: int


def decision_record(
    plan: Plan,
    decision: DecisionPlan,
    key: str,
    state_version: int,
    cause: Cause,
    context: dict[str, Any],
    hops: list[Hop],
    verdict: Verdict,
    gate: Gate,
) -> DecisionRecord:
    """The record of one decision; its key is derived from what triggered it."""
    entity = decision.rules.entity
    return DecisionRecord(
        decision_id=decision_id(
            plan.name, plan.version, decision.rules.name, entity_key(entity, key), cause.trigger.name
        ),
        pipeline=plan.name,
        pipeline_version=plan.version,
        decision=decision.rules.name,
        entity=entity,
        key=key,
        trigger=cause.trigger,
        at_ms=cause.at_ms,
        state_version=state_version,
        context=context,
        context_hash=hash_of(context),
        hops=hops,
        route=hops[-1].route,
        verdict=verdict.model_dump(mode="json"),
        stakes=gate.stakes,
        gate=gate.outcome,
        gate_reason=gate.reason,
        source_partition=cause.partition,
        source_offset=cause.record.offset,
    )


def hash_of(context: dict[str, Any]) -> str:
    """SHA-256 of a context's JSON (fields in declared order), 32 hex digits of it."""
    return sha256(to_json(context)).hexdigest()[:32]


def told(
    role: str, kafka_key: str, body: BaseModel, about: DecisionRecord, ingested_ms: int, partition: int
) -> Out:
    """A decision, action or review as a CloudEvent on the entity's own partition."""
    envelope = Envelope(
        id=kafka_key if role != DECISIONS else about.decision_id,
        type=f"midstream.{role.removesuffix('s')}",
        source=f"/{about.pipeline}/{about.pipeline_version}",
        time_ms=about.at_ms,
        subject=entity_key(about.entity, about.key),
        data=to_json(body),
        ingested_ms=ingested_ms,
    )
    return Out(role, kafka_key.encode(), envelope.data, envelope_headers(envelope), partition)


def decided(record: DecisionRecord, ingested_ms: int, partition: int) -> Out:
    """A decision for the `decisions` topic."""
    return told(DECISIONS, entity_key(record.entity, record.key), record, record, ingested_ms, partition)


def acted(action: ActionRecord, record: DecisionRecord, ingested_ms: int, partition: int) -> Out:
    """An action for the `actions` topic."""
    return told(ACTIONS, action.action_id, action, record, ingested_ms, partition)


def reviewed(review: ReviewRecord, record: DecisionRecord, ingested_ms: int, partition: int) -> Out:
    """A review, opened or closed, for the `reviews` topic."""
    return told(REVIEWS, review.review_id, review, record, ingested_ms, partition)


def audited(lane: LaneRow, entry: AuditRecord, partition: int) -> tuple[LaneRow, Out]:
    """`entry` chained to the lane's audit, and the lane with its new head."""
    record = sealed(
        entry.model_copy(update={"sequence": lane.audit_sequence, "previous_hash": lane.audit_hash})
    )
    head = lane.model_copy(update={"audit_sequence": record.sequence + 1, "audit_hash": record.hash})
    return head, Out(AUDIT, f"lane:{partition}".encode(), to_json(record), partition=partition)
