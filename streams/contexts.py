"""What a decision looked at: its id comes in; the context, and the manifest of the facts that it was made of, go out.

Neither is stored for the purpose: the context stands in the decision, and the row that it was made of is folded again
from the entity's events, up to the record that the lane was reading. Made anew of that row, the context is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from agents import context
from agents.manifest import Manifest, manifest
from schemas.decision import DecisionRecord
from schemas.event import Envelope, Event, read_envelope
from schemas.keys import entity_key
from schemas.record import Out, Record
from schemas.row import Row, State
from streams import cluster, kafka
from streams.explain import Step, UnknownIdError
from streams.past import lane
from streams.plan import DecisionPlan, Plan
from streams.records import hash_of
from streams.topics import DECISIONS, EVENTS, topic_name
from streams.topology import CLOCK_KEY, At, EntityLane

# The routes of a decision that answers another one.
ANSWERS = ("person", "timeout")


@dataclass(frozen=True, slots=True)
class Shown:
    """A decision's context, the manifest, and whether the context made anew is the recorded one."""

    decision: DecisionRecord
    manifest: Manifest
    same: bool


class Watched(EntityLane):
    """A lane that keeps the row on which one decision was made."""

    # Of the decision that is waited for; what it saw.
    decision_id: bytes
    saw: Row[State] | None = None

    def follow(self, at: At, record: Record, envelope: Envelope, event: Event) -> list[Out]:
        """As the lane does; a decision that looks at once sees the row with the event in it."""
        outs = super().follow(at, record, envelope, event)
        self._note(outs, self.rows.at(at.plan.name, at.row_key))
        return outs

    def fire_one(self, at: At, record: Record, envelope: Envelope, name: str) -> list[Out]:
        """As the lane does; later timers of the same tick see another row."""
        before = self.rows.at(at.plan.name, at.row_key)
        outs = super().fire_one(at, record, envelope, name)
        self._note(outs, before)
        return outs

    def _note(self, outs: list[Out], row: Row[State]) -> None:
        if any(out.topic == DECISIONS and self.decision_id in (out.value or b"") for out in outs):
            self.saw = row


class Looked:
    """The row of one decision, folded again record by record."""

    def __init__(self, plan: Plan, partitions: int, decision: DecisionRecord) -> None:
        """Begin.

        Raises:
            UnknownIdError: the pipeline no longer declares the entity or the decision.
        """
        self.decision, self.plan = decision, declared(plan, decision)
        self.lane = lane(plan, partitions, decision.source_partition, Watched)
        self.lane.decision_id = decision.decision_id.encode()
        self._row_key = entity_key(decision.entity, decision.key).encode()
        self._trigger: Envelope | None = None

    def hear(self, record: Record) -> bool:
        """Take in the next record of the partition; False when the decision has been made."""
        if record.offset > self.decision.source_offset:
            return False
        if record.key in (self._row_key, CLOCK_KEY.encode()):
            self.lane.step(record)
        if record.key == self._row_key and self._trigger is None:
            envelope = read_envelope(record.headers, record.value or b"")
            if (
                envelope.id == self.decision.trigger.event_id
                and envelope.type == self.decision.trigger.event_type
            ):
                self._trigger = envelope
        return True

    def shown(self) -> Shown:
        """What it looked at."""
        # Not made again: the code has changed since. What stands now is the best there is.
        row = self.lane.saw or self.lane.rows.at(self.decision.entity, self._row_key)
        rules, at_ms, trigger = self.plan.context, self.decision.at_ms, self._trigger
        event: Event | None = None if trigger is None else self.lane.models[trigger.type](trigger.data)
        made = context.build(rules, self.decision.key, row, at_ms, event).model_dump(mode="json")
        same = hash_of(made) == self.decision.context_hash
        return Shown(self.decision, manifest(rules, self.decision.key, row, at_ms, trigger), same)


def declared(plan: Plan, decision: DecisionRecord) -> DecisionPlan:
    """The decision as the pipeline declares it now.

    Raises:
        UnknownIdError: it does not.
    """
    entity = plan.entities.get(decision.entity)
    for each in () if entity is None else entity.decisions:
        if each.rules.name == decision.decision:
            return each
    what = f"{decision.decision!r} of {decision.entity!r}"
    raise UnknownIdError(f"{decision.decision_id}: {plan.name} no longer declares the decision {what}")


async def shown(clients: Mapping[str, Any], plan: Plan, decision_id: str, step: Step) -> Shown:
    """What the decision `decision_id` looked at.

    Raises:
        UnknownIdError: there is no such decision, or the pipeline no longer declares it.
        NoTopicError: the pipeline has no topics.
    """
    decision = await found(clients, plan, decision_id, lambda each: each.decision_id == decision_id, step)
    if decision is None:
        raise UnknownIdError(f"{decision_id}: {plan.name} has made no such decision")
    # An answer, or that there was none in time, is given on the context of the question.
    asked = decision
    if decision.route in ANSWERS and decision.review_id is not None:
        review = decision.review_id
        asked = await found(clients, plan, review, lambda each: is_question(each, decision), step) or decision
    topic = topic_name(plan, EVENTS)
    partitions = (await kafka.partition_counts(clients, [topic])).get(topic, 1)
    looked = Looked(plan, partitions, asked)
    seen = step(f"reading {topic}")
    records = cluster.scan(clients, [topic], partition=asked.source_partition, seen=seen)
    async with aclosing(records) as read:
        async for record in read:
            if not looked.hear(record):
                break
    return replace(looked.shown(), decision=decision)


def is_question(decision: DecisionRecord, answer: DecisionRecord) -> bool:
    """Whether `decision` is the one that `answer` answers."""
    return decision.review_id == answer.review_id and decision.route not in ANSWERS


async def found(
    clients: Mapping[str, Any], plan: Plan, id: str, wanted: Callable[[DecisionRecord], bool], step: Step
) -> DecisionRecord | None:
    """The first decision that names `id` and is wanted."""
    needle = id.encode()
    topic = topic_name(plan, DECISIONS)
    async with aclosing(cluster.scan(clients, [topic], seen=step(f"reading {topic}"))) as records:
        async for record in records:
            if needle in (record.value or b""):
                decision = DecisionRecord.model_validate_json(record.value or b"")
                if wanted(decision):
                    return decision
    return None
