"""Why something was done: an id comes in; the chain event → state → context → routes → decision → action goes out.

Any link of the chain names it: the id of an event, a decision, an action, a review or a quarantine record. All of it
is read from the committed topics; nothing is kept for the purpose.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import from_json, to_json

from agents import data
from schemas.action import ActionRecord
from schemas.audit import AuditRecord
from schemas.decision import DecisionRecord
from schemas.event import LINKED, Envelope, read_envelope
from schemas.keys import entity_key
from schemas.record import Placed
from schemas.review import ReviewRecord
from streams import cluster, quarantine
from streams.plan import Plan
from streams.quarantine import Quarantined
from streams.topics import ACTIONS, AUDIT, CHANGES, DECISIONS, EVENTS, RAW, REVIEWS, topic_name
from streams.topology import door_of

# How many raw records are looked at for the one that an event came from; raw records are only kept for a week.
RAW_RECORDS = 50_000

Step = Callable[[str], cluster.Seen]
"""Called with what is read next; returns what hears of its progress."""


class UnknownIdError(Exception):
    """No topic of the pipeline knows the id."""


@dataclass(frozen=True, slots=True)
class EventSeen:
    """An event as one record of `events` carries it: to its owner, or as a copy to another entity."""

    id: str
    type: str
    source: str
    time_ms: int
    # When the raw record reached Kafka.
    ingested_ms: int
    # Who owns the fact, and who reads this record.
    subject: str
    key: str
    partition: int
    offset: int
    body: Any
    # How many more records of it this entity was sent.
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class RawSeen:
    """The raw record that an event was made of."""

    event_id: str
    subject: str
    partition: int
    offset: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class ChangeSeen:
    """What one event changed in one entity: field → [old, new]."""

    entity: str
    key: str
    version: int
    time_ms: int
    event_id: str
    event_type: str
    fields: dict[str, list[Any]]
    # What the event said without changing it: it was so already, or a newer event had said otherwise.
    said: dict[str, Any] = field(default_factory=dict)
    # The event that came late, and made this one say something else than it had.
    late: str = ""


@dataclass(slots=True)
class Explanation:
    """Everything that hangs together with one id."""

    id: str
    events: list[EventSeen] = field(default_factory=list)
    raw: list[RawSeen] = field(default_factory=list)
    changes: list[ChangeSeen] = field(default_factory=list)
    decisions: list[DecisionRecord] = field(default_factory=list)
    # Decision id → the entity's state as it was then.
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    reviews: list[ReviewRecord] = field(default_factory=list)
    actions: list[ActionRecord] = field(default_factory=list)
    audit: list[AuditRecord] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    # Decisions that look at one of the events, and of which there is no record.
    silent: list[str] = field(default_factory=list)


async def explain(clients: Mapping[str, Any], plan: Plan, id: str, step: Step) -> Explanation:
    """The chain around `id`: 1 what was refused, 2 decisions, 3 events, 4 changes, 5 what followed.

    Raises:
        UnknownIdError: no topic knows it.
        NoTopicError: the pipeline has no topics.
    """
    reading = Reading(clients, plan, step)
    found = Explanation(id)
    # 1. A refused record leads on to the event that it may have become since.
    found.quarantined = await reading.refused(id)
    ids = {id} | {entry.event_id for entry in found.quarantined if entry.event_id is not None}
    # 2. Decisions that name it, and the question or answer that belongs to each.
    found.decisions = await reading.decisions(ids)
    # 3. The events that made them look, or the one that was asked for.
    found.events = await reading.events(ids, found.decisions)
    if not (found.events or found.decisions or found.quarantined):
        raise UnknownIdError(
            f"{id}: no event, decision, action, review or quarantine record of {plan.name} has this id"
        )
    found.raw = [raw for event in facts(plan, found.events) if (raw := await reading.raw(event)) is not None]
    # 4. What the events changed, and the state that each decision saw.
    found.changes, found.states = await reading.changes(found.events, found.decisions)
    # 5. What followed.
    found.reviews = await reading.reviews(found.decisions)
    found.actions = await reading.actions(found.decisions)
    found.audit = await reading.audit(found.decisions)
    found.silent = silent(plan, found)
    return found


def facts(plan: Plan, events: Sequence[EventSeen]) -> list[EventSeen]:
    """One record of each event that came in through `raw`; answers did not."""
    told = {(event.id, event.subject): event for event in reversed(events) if event.type in plan.types}
    return list(told.values())


def silent(plan: Plan, found: Explanation) -> list[str]:
    """The decisions that look at an event of `found` on an entity that read it, without a record of it."""
    made = {(d.decision, entity_key(d.entity, d.key), d.trigger.event_id) for d in found.decisions}
    names = []
    for event in found.events:
        entity = plan.entities.get(event.key.partition(":")[0])
        for decision in () if entity is None else entity.decisions:
            name = decision.rules.name
            if event.type in decision.rules.on and (name, event.key, event.id) not in made:
                names.append(name)
    return names


def needle(id: str) -> bytes:
    """`id` as it stands in a JSON body."""
    return to_json(id)


@dataclass(frozen=True)
class Reading:
    """The topics of one plan, read for one question."""

    clients: Mapping[str, Any]
    plan: Plan
    step: Step

    async def scan(self, role: str, partitions: set[int] | None = None) -> AsyncIterator[Placed]:
        """The records of one topic; of some of its partitions."""
        topic = topic_name(self.plan, role)
        seen = self.step(f"reading {topic}")
        if partitions is None:
            async for record in cluster.scan(self.clients, [topic], seen=seen):
                yield record
        else:
            for partition in sorted(partitions):
                async for record in cluster.scan(self.clients, [topic], partition=partition, seen=seen):
                    yield record

    async def refused(self, id: str) -> list[Quarantined]:
        """The quarantine record called `id`, or those of the event called `id`."""
        seen = self.step("reading quarantine")
        return await quarantine.entries(
            self.clients, self.plan, lambda entry: id in (entry.id, entry.event_id), seen
        )

    async def decisions(self, ids: set[str]) -> list[DecisionRecord]:
        """Decisions that are, were triggered by, or led to one of `ids`; a review's question and answer together."""
        found = {decision.decision_id: (at_ms, decision) async for at_ms, decision in self.deciding(ids)}
        asked = {decision.review_id for _, decision in found.values() if decision.review_id is not None}
        if asked:
            where = {decision.source_partition for _, decision in found.values()}
            async for at_ms, decision in self.deciding(asked, where):
                found[decision.decision_id] = at_ms, decision
        # As they were made, by Kafka's clock; on one lane by the record that it read.
        ordered = sorted(found.values(), key=lambda pair: (pair[0], pair[1].source_offset))
        return [decision for _, decision in ordered]

    async def deciding(
        self, ids: set[str], partitions: set[int] | None = None
    ) -> AsyncIterator[tuple[int, DecisionRecord]]:
        """Decision records that name one of `ids`, each with the time at which it was written."""
        needles = [needle(id) for id in ids]
        async for record in self.scan(DECISIONS, partitions):
            value = record.value or b""
            if any(each in value for each in needles):
                decision = DecisionRecord.model_validate_json(value)
                named = {decision.decision_id, decision.action_id, decision.review_id}
                if ids & (named | {decision.trigger.event_id}):
                    yield record.timestamp, decision

    async def events(self, ids: set[str], decisions: Sequence[DecisionRecord]) -> list[EventSeen]:
        """The records of the events in `ids` and of the decisions' triggers, in the order of their offsets."""
        triggers = {
            (d.trigger.event_id, entity_key(d.entity, d.key)) for d in decisions if d.trigger.event_id
        }
        named = {event_id for event_id, _ in triggers}
        # Asked for an event, everybody who heard it counts; asked for a decision, the entity that decided.
        everybody = ids if not decisions or ids & named else set[str]()
        partitions = None if everybody else {d.source_partition for d in decisions}
        wanted = {id.encode() for id in everybody | named}
        found: dict[tuple[str, str, str], EventSeen] = {}
        async for record in self.scan(EVENTS, partitions) if wanted else nothing():
            if not any(name == "ce_id" and value in wanted for name, value in record.headers):
                continue
            event = event_seen(record)
            if event is None or event.type == LINKED:
                continue
            if event.id in everybody or (event.id, event.key) in triggers:
                place = event.id, event.subject, event.key
                before = found.get(place)
                found[place] = event if before is None else replace(before, repeated=before.repeated + 1)
        return sorted(found.values(), key=lambda e: (e.time_ms, e.key != e.subject, e.key))

    async def raw(self, event: EventSeen) -> RawSeen | None:
        """The raw record that `event` was made of, if it is still kept."""
        topic = topic_name(self.plan, RAW)
        start = await cluster.since(self.clients, topic, event.ingested_ms)
        door = door_of(self.plan, playback=False)
        looked = 0
        records = cluster.scan(self.clients, [topic], start=start)
        async with aclosing(records):
            async for record in records:
                looked += 1
                if record.timestamp == event.ingested_ms:
                    judged = data.admit(record, door)
                    if isinstance(judged, data.Accepted) and same(judged.envelope, event):
                        headers = {name: value.decode(errors="replace") for name, value in record.headers}
                        return RawSeen(event.id, event.subject, record.partition, record.offset, headers)
                if looked >= RAW_RECORDS:
                    break
        return None

    async def changes(
        self, events: Sequence[EventSeen], decisions: Sequence[DecisionRecord]
    ) -> tuple[list[ChangeSeen], dict[str, dict[str, Any]]]:
        """What the events changed, and each decision's entity as it was at the state version that it saw."""
        subjects = {event.id: event.subject for event in events}
        needles = [needle(id) for id in subjects]
        states = {d.decision_id: self.blank(d.entity) for d in decisions}
        deciders = [(entity_key(d.entity, d.key).encode(), d) for d in decisions]
        found = []
        async for record in self.scan(CHANGES):
            value = record.value or b""
            owners = [decision for key, decision in deciders if key == record.key]
            if not owners and not any(each in value for each in needles):
                continue
            change = ChangeSeen(**from_json(value))
            for decision in owners:
                if change.version <= decision.state_version:
                    states[decision.decision_id] |= {name: new for name, (_, new) in change.fields.items()}
            # An id is unique per owner: the same one may stand for another fact of another entity of that kind.
            subject = subjects.get(change.event_id)
            kind, _, key = (subject or "").partition(":")
            if subject is not None and (change.entity != kind or change.key == key):
                found.append(change)
        return sorted(found, key=lambda c: (c.time_ms, c.entity, c.key, c.version)), states

    def blank(self, entity: str) -> dict[str, Any]:
        """The state of an entity of which nothing is known."""
        plan = self.plan.entities.get(entity)
        return {} if plan is None else plan.state().model_dump(mode="json")

    async def reviews(self, decisions: Sequence[DecisionRecord]) -> list[ReviewRecord]:
        """The reviews of `decisions` as they stand now."""
        ids = {d.review_id: d.source_partition for d in decisions if d.review_id is not None}
        last: dict[str, ReviewRecord] = {}
        async for record in self.scan(REVIEWS, set(ids.values())):
            if (record.key or b"").decode(errors="replace") in ids and record.value is not None:
                review = ReviewRecord.model_validate_json(record.value)
                last[review.review_id] = review
        return list(last.values())

    async def actions(self, decisions: Sequence[DecisionRecord]) -> list[ActionRecord]:
        """The actions of `decisions`."""
        ids = {d.action_id: d.source_partition for d in decisions if d.action_id is not None}
        return [
            ActionRecord.model_validate_json(record.value or b"")
            async for record in self.scan(ACTIONS, set(ids.values()))
            if (record.key or b"").decode(errors="replace") in ids
        ]

    async def audit(self, decisions: Sequence[DecisionRecord]) -> list[AuditRecord]:
        """What the audit says of `decisions`."""
        ids = {d.decision_id: d.source_partition for d in decisions}
        needles = [needle(id) for id in ids]
        return [
            AuditRecord.model_validate_json(record.value or b"")
            async for record in self.scan(AUDIT, set(ids.values()))
            if any(each in (record.value or b"") for each in needles)
        ]


async def nothing() -> AsyncIterator[Placed]:
    """No records."""
    none: tuple[Placed, ...] = ()
    for record in none:
        yield record


def event_seen(record: Placed) -> EventSeen | None:
    """An `events` record; None when somebody else wrote it."""
    try:
        envelope = read_envelope(record.headers, record.value or b"")
        body = from_json(envelope.data)
    except (KeyError, ValueError):
        return None
    return EventSeen(
        id=envelope.id,
        type=envelope.type,
        source=envelope.source,
        time_ms=envelope.time_ms,
        ingested_ms=envelope.ingested_ms,
        subject=envelope.subject,
        key=(record.key or b"").decode(errors="replace"),
        partition=record.partition,
        offset=record.offset,
        body=body,
    )


def same(envelope: Envelope, event: EventSeen) -> bool:
    """Whether a raw record's envelope is that of `event`."""
    return (envelope.id, envelope.subject) == (event.id, event.subject)
