"""agents/decision.py: when a decision looks, whom it asks, what may follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.decision import DecisionRules, Gate, ReviewRules, Route, after_firing, arm, arm_every, ask, gate
from schemas.context import Context
from schemas.decision import Hop, Stakes, Verdict
from schemas.errors import WrongReturn
from schemas.event import Envelope
from schemas.row import Row, State, Timer, WindowItem

AnyRow = Row[State]


class Load(Context):
    jobs: int


class Scale(Verdict):
    action: Literal["grow", "shrink", "none"]


def rules(
    *routes: Route, on: frozenset[str] = frozenset({"loaded"}), settle_ms: int = 0, every_ms: int = 0
) -> DecisionRules:
    stakes: dict[str, Stakes] = {"grow": "medium", "shrink": "high"}
    return DecisionRules(
        "scale", "pool", Scale, on, settle_ms, every_ms, routes, stakes, ReviewRules(1000, "reject")
    )


def new() -> AnyRow:
    return Row[State](state=State())


def at(time_ms: int, id: str = "e1", type: str = "loaded") -> Envelope:
    return Envelope(id, type, "/s", time_ms, "pool:p1", '{"ü":1}'.encode())


# Timers: an event that is looked at when it has settled.


def test_an_event_is_looked_at_when_late_facts_have_had_their_time() -> None:
    row = arm(rules(settle_ms=30), new(), at(100), None)
    assert row.timers == {
        "settle:scale:pool:p1/e1": Timer(
            due_ms=130,
            at_ms=100,
            decision="scale",
            trigger="pool:p1/e1",
            event_id="e1",
            event_type="loaded",
            data='{"ü":1}',
            kind="settle",
        )
    }


def test_every_event_settles_by_itself() -> None:
    row = arm(rules(settle_ms=30), arm(rules(settle_ms=30), new(), at(100, "e1"), None), at(100, "e2"), None)
    assert sorted(row.timers) == ["settle:scale:pool:p1/e1", "settle:scale:pool:p1/e2"]


def test_an_event_that_came_too_late_to_wait_is_still_looked_at() -> None:
    assert arm(rules(settle_ms=30), new(), at(100), now_ms=500).next_due_ms() == 130


@pytest.mark.parametrize("deaf", [rules(settle_ms=30, on=frozenset({"stopped"})), rules(settle_ms=0)])
def test_an_event_that_calls_for_no_timer_arms_none(deaf: DecisionRules) -> None:
    row = new()
    assert arm(deaf, row, at(100), None) is row


# Timers: every full period.

HOURLY = rules(on=frozenset(), settle_ms=30, every_ms=100)


def armed(row: AnyRow) -> tuple[int, int, str]:
    (timer,) = row.timers.values()
    assert timer.kind == "every"
    return timer.at_ms, timer.due_ms, timer.trigger


@pytest.mark.parametrize(
    ("time_ms", "at_ms"),
    [(1, 100), (99, 100), (100, 100), (101, 200), (0, 0), (-1, 0), (-100, -100), (-101, -100)],
)
def test_the_first_full_period_at_or_after_an_event_is_looked_at(time_ms: int, at_ms: int) -> None:
    assert armed(arm(HOURLY, new(), at(time_ms), None))[:2] == (at_ms, at_ms + 30)


def test_any_event_of_the_entity_arms_the_period() -> None:
    assert armed(arm(HOURLY, new(), at(1, type="anything"), None))[0] == 100


def test_a_period_is_named_by_its_instant_alone() -> None:
    """Whichever event armed it: the decision's key is derived from it."""
    assert armed(arm(HOURLY, new(), at(1, "e1"), None)) == armed(arm(HOURLY, new(), at(99, "e2"), None))
    assert armed(arm(HOURLY, new(), at(1), None))[2] == "every/1970-01-01T00:00:00.100Z"


def test_the_earlier_of_two_periods_is_looked_at_first() -> None:
    row = arm(HOURLY, new(), at(150), None)
    assert armed(arm(HOURLY, row, at(50), None))[0] == 100
    assert arm(HOURLY, row, at(250), None) is row


def test_a_period_that_has_passed_is_not_looked_at_again_but_the_next_one_is() -> None:
    """The late event is still in the windows of later periods."""
    assert armed(arm(HOURLY, new(), at(50), now_ms=129))[0] == 100
    assert armed(arm(HOURLY, new(), at(50), now_ms=130))[0] == 200
    assert armed(arm(HOURLY, new(), at(50), now_ms=1000))[0] == 1000
    row = arm(HOURLY, new(), at(150), now_ms=140)
    assert arm(HOURLY, row, at(50), now_ms=140) is row


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.none() | st.integers(-1000, 1000))
def test_what_is_armed_is_a_full_period_to_come(time_ms: int, now_ms: int | None) -> None:
    at_ms, due_ms, _ = armed(arm_every(HOURLY, new(), time_ms, now_ms))
    assert at_ms % 100 == 0
    assert at_ms >= time_ms
    assert now_ms is None or due_ms > now_ms
    assert at_ms - 100 < time_ms or (now_ms is not None and due_ms - 100 <= now_ms)


def fired(row: AnyRow) -> AnyRow:
    (name,) = row.timers
    return after_firing(HOURLY, row, name)


def test_a_period_is_followed_by_the_next_while_a_window_holds_anything() -> None:
    row = arm(HOURLY, new(), at(50), None)
    assert fired(row.with_(windows={"w": [], "v": []})).timers == {}
    assert armed(fired(row.with_(windows={"w": [], "v": [WindowItem(50, "e1", {})]})))[0] == 200


def test_a_settled_event_is_looked_at_once() -> None:
    row = arm(rules(settle_ms=30), new(), at(100), None).with_(windows={"w": [WindowItem(50, "e1", {})]})
    assert fired(row).timers == {}


def test_firing_leaves_the_other_timers() -> None:
    row = arm(rules(settle_ms=30), arm(HOURLY, new(), at(100), None), at(100), None)
    assert list(after_firing(HOURLY, row, "every:scale").timers) == ["settle:scale:pool:p1/e1"]


def test_arming_and_firing_leave_the_row_they_are_given() -> None:
    row = arm(HOURLY, new(), at(50), None).with_(windows={"w": [WindowItem(50, "e1", {})]})
    before = row.model_dump_json()
    arm(rules(settle_ms=30), row, at(60), None)
    fired(row)
    assert row.model_dump_json() == before


# Whom to ask.


def route(name: str, answer: Callable[[Load], Scale | None], accept: float = 0.0) -> Route:
    return Route("rule", name, "v1", accept, answer)


def says(action: Literal["grow", "shrink", "none"], confidence: float = 1.0) -> Scale:
    return Scale(action=action, reason=f"{action}!", confidence=confidence)


def hop(
    name: str, outcome: Literal["verdict", "declined", "below_threshold"], answer: Scale | None = None
) -> Hop:
    confidence, reason = (None, "") if answer is None else (answer.confidence, answer.reason)
    return Hop(
        route="rule", tool=name, tool_version="v1", outcome=outcome, confidence=confidence, reason=reason
    )


def never(context: Load) -> Scale | None:
    raise AssertionError("a route behind the verdict was asked")


def test_the_first_verdict_stands_and_nobody_behind_it_is_asked() -> None:
    judged = ask(rules(route("a", lambda _: says("grow")), route("b", never)), Load(jobs=9))
    assert judged is not None
    assert (judged.verdict, judged.route.name) == (says("grow"), "a")
    assert judged.hops == [hop("a", "verdict", says("grow"))]


def test_a_route_that_declines_passes_the_question_on() -> None:
    judged = ask(rules(route("a", lambda _: None), route("b", lambda _: says("none"))), Load(jobs=9))
    assert judged is not None
    assert judged.hops == [hop("a", "declined"), hop("b", "verdict", says("none"))]


@pytest.mark.parametrize(("confidence", "taken"), [(0.79, "b"), (0.8, "a"), (1.0, "a")])
def test_a_verdict_counts_from_the_routes_threshold_on(confidence: float, taken: str) -> None:
    unsure = says("shrink", confidence)
    judged = ask(
        rules(route("a", lambda _: unsure, accept=0.8), route("b", lambda _: says("grow"))), Load(jobs=9)
    )
    assert judged is not None
    assert judged.route.name == taken
    assert judged.hops[0] == hop("a", "verdict" if taken == "a" else "below_threshold", unsure)


def test_nobody_with_a_verdict_is_no_decision() -> None:
    assert ask(rules(route("a", lambda _: None)), Load(jobs=9)) is None
    assert ask(rules(route("a", lambda _: says("grow", 0.1), accept=0.2)), Load(jobs=9)) is None


def test_routes_are_given_the_context() -> None:
    judged = ask(rules(route("a", lambda load: says("grow" if load.jobs > 8 else "none"))), Load(jobs=9))
    assert judged is not None
    assert judged.verdict.action == "grow"


def test_a_route_that_returns_something_else_is_named() -> None:
    class Other(Verdict):
        action: Literal["grow"]

    def other(load: Load) -> Scale | None:
        return Other(action="grow", reason="x")  # type: ignore[return-value] # the mistake in question

    with pytest.raises(WrongReturn, match=r"other must return Scale or None, got Other"):
        ask(rules(route("a", other)), Load(jobs=9))


# What may follow.


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("none", Gate("none", "low", "the verdict asks for no action")),
        ("grow", Gate("proceed", "medium", "grow has medium stakes: allowed without a person")),
        ("shrink", Gate("review", "high", "shrink has high stakes: a person decides")),
    ],
)
def test_what_may_follow_depends_on_the_stakes(
    action: Literal["grow", "shrink", "none"], expected: Gate
) -> None:
    assert gate(rules(), says(action)) == expected


def test_low_stakes_need_no_person() -> None:
    assert gate(replace(rules(), stakes={"grow": "low"}), says("grow")).outcome == "proceed"
