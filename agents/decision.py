"""Decision: when to look, whom to ask, what is allowed to follow. A context comes in; a judged verdict goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from schemas.context import Context
from schemas.decision import NO_ACTION, Hop, Stakes, Verdict
from schemas.errors import wrong_return
from schemas.event import Envelope
from schemas.row import Row, State, Timer
from schemas.times import rfc3339

AnyRow = Row[State]


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a verdict: a rule, later a model, an LLM, a person. All have this one signature."""

    kind: Literal["rule"]
    name: str
    version: str
    # The least confidence at which its verdict is taken.
    accept: float
    ask: Callable[[Any], Verdict | None]


@dataclass(frozen=True, slots=True)
class ReviewRules:
    """What a person is given: how long, and what holds when nobody answers."""

    deadline_ms: int
    on_timeout: Literal["reject", "approve"]


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """All that the decision layer needs to know of one decision."""

    name: str
    entity: str
    verdict: type[Verdict]
    # Looked at when one of these events arrives (after `settle_ms`), or at every full `every_ms` of event time.
    on: frozenset[str]
    settle_ms: int
    every_ms: int
    routes: tuple[Route, ...]
    stakes: Mapping[str, Stakes]
    review: ReviewRules | None


def arm(rules: DecisionRules, row: AnyRow, envelope: Envelope, now_ms: int | None) -> AnyRow:
    """Set the timers that `envelope` calls for.

    `settle`: the event is looked at when the clock has passed its time by `settle_ms`, so that late facts are in.
    `every`: the next full period at or after the event that has not passed already.
    """
    if rules.every_ms:
        return arm_every(rules, row, envelope.time_ms, now_ms)
    if not rules.settle_ms or envelope.type not in rules.on:
        return row
    timer = Timer(
        due_ms=envelope.time_ms + rules.settle_ms,
        at_ms=envelope.time_ms,
        decision=rules.name,
        trigger=envelope.trigger,
        event_id=envelope.id,
        event_type=envelope.type,
        data=envelope.data.decode(),
        kind="settle",
    )
    return row.with_(timers=row.timers | {f"settle:{rules.name}:{envelope.trigger}": timer})


def arm_every(rules: DecisionRules, row: AnyRow, time_ms: int, now_ms: int | None) -> AnyRow:
    """Arm the periodic timer for the first full period at or after `time_ms`, or leave an earlier one.

    A late event, whose own period has passed, is still looked at in the first one that has not.
    """
    name = f"every:{rules.name}"
    if now_ms is not None:
        time_ms = max(time_ms, now_ms - rules.settle_ms + 1)
    at_ms = -(-time_ms // rules.every_ms) * rules.every_ms
    armed = row.timers.get(name)
    if armed is not None and armed.at_ms <= at_ms:
        return row
    timer = Timer(
        due_ms=at_ms + rules.settle_ms,
        at_ms=at_ms,
        decision=rules.name,
        trigger=f"every/{rfc3339(at_ms)}",
        kind="every",
    )
    return row.with_(timers=row.timers | {name: timer})


def after_firing(rules: DecisionRules, row: AnyRow, name: str) -> AnyRow:
    """The row once timer `name` has fired: a periodic one is armed again while a window holds anything."""
    timer = row.timers[name]
    row = row.with_(timers={other: kept for other, kept in row.timers.items() if other != name})
    if timer.kind == "every" and any(row.windows.values()):
        return arm_every(rules, row, timer.at_ms + 1, None)
    return row


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict of the first route that gave one, and every route that was asked."""

    hops: list[Hop]
    route: Route
    verdict: Verdict


def ask(rules: DecisionRules, context: Context) -> Judged | None:
    """Ask the routes in order; the first verdict that is confident enough stands. None: nobody had one.

    Raises:
        WrongReturn: a route returned something else than the declared verdict or None.
    """
    hops: list[Hop] = []
    for route in rules.routes:
        verdict = route.ask(context)
        if verdict is None:
            hops.append(hop(route, "declined", None))
            continue
        if type(verdict) is not rules.verdict:
            raise wrong_return(route.ask, f"{rules.verdict.__name__} or None", verdict)
        if verdict.confidence < route.accept:
            hops.append(hop(route, "below_threshold", verdict))
            continue
        return Judged([*hops, hop(route, "verdict", verdict)], route, verdict)
    return None


def hop(
    route: Route, outcome: Literal["verdict", "declined", "below_threshold"], verdict: Verdict | None
) -> Hop:
    """The record of one route that was asked."""
    return Hop(
        route=route.kind,
        tool=route.name,
        tool_version=route.version,
        outcome=outcome,
        confidence=None if verdict is None else verdict.confidence,
        reason="" if verdict is None else verdict.reason,
    )


@dataclass(frozen=True, slots=True)
class Gate:
    """What may follow a verdict, and why."""

    outcome: Literal["proceed", "review", "none"]
    stakes: Stakes
    reason: str


def gate(rules: DecisionRules, verdict: Verdict) -> Gate:
    """Judge what may follow: nothing, the action at once, or the action after a person's consent."""
    if verdict.action == NO_ACTION:
        return Gate("none", "low", "the verdict asks for no action")
    stakes = rules.stakes[verdict.action]
    if stakes == "high":
        return Gate("review", stakes, f"{verdict.action} has high stakes: a person decides")
    return Gate("proceed", stakes, f"{verdict.action} has {stakes} stakes: allowed without a person")
