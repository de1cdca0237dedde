"""How an entity comes to a decision: an event, a due timer or a person's answer in; the row and the records out."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pydantic_core import to_json

from agents import action, context, decision
from agents.decision import Gate
from schemas.audit import AuditRecord
from schemas.context import Context
from schemas.decision import NO_ACTION, DecisionRecord, Hop, Trigger, Verdict
from schemas.errors import WrongReturn
from schemas.event import Answered, Envelope, Event
from schemas.keys import review_id
from schemas.quarantine import Reason
from schemas.record import Out, Record
from schemas.review import ReviewRecord
from schemas.row import OpenReview, Row, State, Timer
from streams import records
from streams.plan import DecisionPlan, EntityPlan, Plan
from streams.records import Cause

AnyRow = Row[State]


class UserCodeError(Exception):
    """A function of the pipeline's author raised; the event that it was given is quarantined."""

    def __init__(self, reason: Reason, function: str, message: str) -> None:
        """Name the function and say what it raised, where."""
        super().__init__(message)
        self.reason = reason
        self.function = function


def blamed(error: Exception, reason: Reason, *functions: Callable[..., Any] | None) -> Exception:
    """`error` as a `UserCodeError` if it came out of the author's `functions`; our own bugs stay what they are."""
    called = [function for function in functions if function is not None]
    frames = traceback.extract_tb(error.__traceback__)
    theirs = {function.__code__.co_filename for function in called}
    wrong = isinstance(error, WrongReturn)
    if not wrong and theirs.isdisjoint(frame.filename for frame in frames):
        return error
    # The one that ran, if that can be told; else all that may have.
    codes = {frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)}
    ran = [f for f in called if (str(error).startswith(f"{full_name(f)} ") if wrong else f.__code__ in codes)]
    names = ", ".join(full_name(function) for function in ran or called)
    last = [frame for frame in frames if wrong or frame.filename in theirs][-1]
    where = f"{last.name}, line {last.lineno}"
    return UserCodeError(reason, names, f"{type(error).__name__} in {where}: {error}")


def full_name(function: Callable[..., Any]) -> str:
    """Module and name, as errors give it."""
    return f"{function.__module__}.{function.__qualname__}"


@contextmanager
def guarded(reason: Reason, *functions: Callable[..., Any] | None) -> Iterator[None]:
    """Turn an exception of the author's `functions` into a `UserCodeError`."""
    try:
        yield
    except Exception as error:
        raise blamed(error, reason, *functions) from error


@dataclass(frozen=True, slots=True)
class Looking:
    """Who looks: the entity, and the record that made its lane look."""

    plan: Plan
    entity: EntityPlan
    key: str
    record: Record
    envelope: Envelope
    partition: int


@dataclass(frozen=True, slots=True)
class Made:
    """A decision and everything it causes."""

    decision: str
    route: str
    gate: str
    outs: list[Out]
    audit: list[AuditRecord]


def on_event(looking: Looking, row: AnyRow, event: Event) -> tuple[AnyRow, list[Made]]:
    """Every decision that looks at this event at once."""
    made: list[Made] = []
    envelope = looking.envelope
    trigger = Trigger(
        name=envelope.trigger, event_id=envelope.id, event_type=envelope.type, time_ms=envelope.time_ms
    )
    for plan in looking.entity.decisions:
        if envelope.type in plan.rules.on and not plan.rules.settle_ms:
            row, one = decide(looking, plan, row, trigger, envelope.time_ms, event)
            made += one
    return row, made


def on_timer(
    looking: Looking, row: AnyRow, name: str, models: Mapping[str, Callable[[bytes], Event]]
) -> tuple[AnyRow, list[Made]]:
    """What a due timer asks for: a settled event, a full period, or the end of a review."""
    timer = row.timers[name]
    plan = looking.entity.decision(timer.decision)
    if timer.kind == "review":
        return expire(looking, plan, row, name)
    event = models[timer.event_type](timer.data.encode()) if timer.data else None
    trigger = Trigger(
        name=timer.trigger, event_id=timer.event_id, event_type=timer.event_type, time_ms=timer.at_ms
    )
    row, made = decide(looking, plan, row, trigger, timer.at_ms, event)
    return decision.after_firing(plan.rules, row, name), made


def decide(
    looking: Looking, plan: DecisionPlan, row: AnyRow, trigger: Trigger, at_ms: int, event: Event | None
) -> tuple[AnyRow, list[Made]]:
    """One decision: 1 context, 2 routes, 3 gate, 4 record, 5 action or review."""
    # 1. Context.
    with guarded(Reason.DECISION_FAILED, plan.context.function):
        seen = context.build(plan.context, looking.key, row, at_ms, event)
    # 2. Routes.
    with guarded(Reason.DECISION_FAILED, *(route.ask for route in plan.rules.routes)):
        judged = decision.ask(plan.rules, seen)
    if judged is None:
        return row, []
    # 3. Gate.
    gate = decision.gate(plan.rules, judged.verdict)
    # 4. Record.
    cause = Cause(looking.record, looking.partition, looking.envelope.ingested_ms, trigger, at_ms)
    body = seen.model_dump(mode="json")
    record = records.decision_record(
        looking.plan, plan, looking.key, row.version, cause, body, judged.hops, judged.verdict, gate
    )
    by = f"{judged.route.kind}:{judged.route.name}@{judged.route.version}"
    # 5. What follows.
    if gate.outcome == "review":
        return hold(looking, plan, row, record, by)
    return row, [proceed(looking, plan, record, seen, judged.verdict, by)]


def proceed(
    looking: Looking, plan: DecisionPlan, record: DecisionRecord, seen: Context, verdict: Verdict, by: str
) -> Made:
    """The decision, and its action when it has one."""
    ingested_ms, partition = looking.envelope.ingested_ms, looking.partition
    outs: list[Out] = []
    audit = [audit_entry(record, "decided", by)]
    if verdict.action != NO_ACTION and record.gate == "proceed":
        rules = plan.actions[verdict.action]
        with guarded(Reason.DECISION_FAILED, rules.function):
            done = action.act(rules, record, seen, verdict)
        record = record.model_copy(update={"action_id": done.action_id})
        outs.append(records.acted(done, record, ingested_ms, partition))
        audit.append(audit_entry(record, "acted", by))
    decided = records.decided(record, ingested_ms, partition)
    return Made(record.decision, record.route, record.gate, [decided, *outs], audit)


def hold(
    looking: Looking, plan: DecisionPlan, row: AnyRow, record: DecisionRecord, by: str
) -> tuple[AnyRow, list[Made]]:
    """Ask a person: the proposal waits in the row, its deadline is a timer."""
    rules = plan.rules.review
    assert rules is not None, "start-up refuses high stakes without a person"
    review = review_id(record.decision_id)
    deadline_ms = record.at_ms + rules.deadline_ms
    record = record.model_copy(update={"review_id": review})
    waiting = OpenReview(
        decision_id=record.decision_id,
        decision=record.decision,
        at_ms=record.at_ms,
        deadline_ms=deadline_ms,
        verdict=record.verdict,
        context=record.context,
        route=record.route,
        trigger=record.trigger.name,
        event_id=record.trigger.event_id,
    )
    timer = Timer(
        due_ms=deadline_ms, at_ms=deadline_ms, decision=record.decision, trigger=review, kind="review"
    )
    row = row.with_(reviews=row.reviews | {review: waiting}, timers=row.timers | {f"review:{review}": timer})
    ingested_ms, partition = looking.envelope.ingested_ms, looking.partition
    outs = [
        records.decided(record, ingested_ms, partition),
        records.reviewed(review_record(review, waiting, record), record, ingested_ms, partition),
    ]
    made = Made(record.decision, record.route, record.gate, outs, [audit_entry(record, "held", by)])
    return row, [made]


def review_record(review: str, waiting: OpenReview, record: DecisionRecord) -> ReviewRecord:
    """The public record of an open review."""
    return ReviewRecord(
        review_id=review,
        status="open",
        decision_id=waiting.decision_id,
        decision=waiting.decision,
        entity=record.entity,
        key=record.key,
        verdict=waiting.verdict,
        context=waiting.context,
        at_ms=waiting.at_ms,
        deadline_ms=waiting.deadline_ms,
    )


def on_answer(looking: Looking, row: AnyRow, answer: Answered) -> tuple[AnyRow, list[Made]]:
    """A person's answer to an open review: the proposal goes ahead or is dropped, as that person's decision."""
    plan = looking.entity.decision(row.reviews[answer.review_id].decision)
    envelope = looking.envelope
    trigger = Trigger(
        name=envelope.trigger, event_id=envelope.id, event_type=envelope.type, time_ms=envelope.time_ms
    )
    outcome: Literal["approved", "rejected"] = "approved" if answer.approve else "rejected"
    hop = Hop(
        route="person", tool=answer.by, tool_version="", outcome="verdict", reason=answer.note or outcome
    )
    return close(looking, plan, row, answer.review_id, trigger, outcome, answer.by, answer.note, hop)


def expire(looking: Looking, plan: DecisionPlan, row: AnyRow, name: str) -> tuple[AnyRow, list[Made]]:
    """Nobody answered in time: what the decision declares for that case holds."""
    timer = row.timers[name]
    rules = plan.rules.review
    assert rules is not None, "start-up refuses high stakes without a person"
    trigger = Trigger(name=f"{timer.trigger}/expired", event_id="", event_type="", time_ms=timer.at_ms)
    note = f"no answer within {timedelta(milliseconds=rules.deadline_ms)}: {rules.on_timeout}"
    hop = Hop(route="timeout", tool=rules.on_timeout, tool_version="", outcome="verdict", reason=note)
    return close(looking, plan, row, timer.trigger, trigger, "expired", "timeout", note, hop)


def close(
    looking: Looking,
    plan: DecisionPlan,
    row: AnyRow,
    review: str,
    trigger: Trigger,
    outcome: Literal["approved", "rejected", "expired"],
    by: str,
    note: str,
    hop: Hop,
) -> tuple[AnyRow, list[Made]]:
    """Close a review: its answer is a decision of its own, and the proposal's action follows if it was approved."""
    waiting = row.reviews[review]
    rules = plan.rules.review
    approve = outcome == "approved" or (
        outcome == "expired" and rules is not None and rules.on_timeout == "approve"
    )
    verdict = plan.rules.verdict.model_validate_json(to_json(waiting.verdict))
    gate = Gate(
        "proceed" if approve else "none",
        plan.rules.stakes[verdict.action],
        f"{outcome} by {by}" + (f": {note}" if note else ""),
    )
    seen = plan.context.model.model_validate_json(to_json(waiting.context))
    cause = Cause(looking.record, looking.partition, looking.envelope.ingested_ms, trigger, trigger.time_ms)
    record = records.decision_record(
        looking.plan, plan, looking.key, row.version, cause, waiting.context, [hop], verdict, gate
    ).model_copy(update={"review_id": review})
    made = proceed(looking, plan, record, seen, verdict, by)
    closed = review_record(review, waiting, record).model_copy(
        update={
            "status": outcome,
            "closed_ms": trigger.time_ms,
            "by": by,
            "note": note,
            "answer_decision_id": record.decision_id,
        }
    )
    made.outs.append(records.reviewed(closed, record, looking.envelope.ingested_ms, looking.partition))
    made.audit.insert(0, audit_entry(record, "expired" if outcome == "expired" else "answered", by))
    row = row.with_(
        reviews={name: kept for name, kept in row.reviews.items() if name != review},
        timers={name: kept for name, kept in row.timers.items() if name != f"review:{review}"},
    )
    return row, [made]


def audit_entry(
    record: DecisionRecord, what: Literal["decided", "acted", "held", "answered", "expired"], by: str
) -> AuditRecord:
    """What was done and why it was allowed; the lane chains and seals it."""
    return AuditRecord(
        sequence=0,
        at_ms=record.at_ms,
        what=what,
        by=by,
        why=record.gate_reason,
        entity=record.entity,
        key=record.key,
        decision_id=record.decision_id,
        action_id=record.action_id,
        review_id=record.review_id,
        previous_hash="",
    )
