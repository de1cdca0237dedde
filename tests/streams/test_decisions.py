"""streams/decisions.py: what a declared decision is, and what is said of a mistake in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest

from streams import ActionInput, Context, Event, Pipeline, State, Verdict
from streams.decisions import Decision
from streams.signatures import PipelineError
from tests.support import shop as declared
from tests.support.shop import shop


class Happened(Event, type="thing.happened"):
    thing: str


class Thing(State):
    count: int = 0


class Seen(Context):
    count: int


class Do(Verdict):
    action: Literal["do", "leave", "none"]


class Input(ActionInput):
    count: int


def seen(state: Thing) -> Seen:
    return Seen(count=state.count)


def decision(**when: Any) -> Decision[Seen, Do]:
    thing = Pipeline("things", version=1).entity("thing", Thing, key="thing")
    return thing.decision("d", verdict=Do, context=thing.context(seen), **(when or {"on": (Happened,)}))


def test_it_looks_at_events_or_at_periods() -> None:
    once = decision(on=(Happened,), settle=timedelta(seconds=5))
    often = decision(every=timedelta(minutes=1))
    assert (once.on, once.settle_ms, once.every_ms) == (frozenset({"thing.happened"}), 5000, 0)
    assert (often.on, often.settle_ms, often.every_ms) == (frozenset(), 0, 60_000)
    assert once.verdict_actions() == ["do", "leave"]


def test_an_action_has_an_input_stakes_and_a_deadline() -> None:
    rules = shop().entities["order"].decisions["refund"].actions["refund"]
    assert (rules.name, rules.input, rules.stakes, rules.deadline_ms) == (
        "refund",
        declared.Money,
        "low",
        7_200_000,
    )


def test_a_rule_says_why_it_may_decide() -> None:
    def silent(ctx: Seen) -> Do:
        return Do(action="none", reason="x")

    with pytest.raises(PipelineError, match="a docstring"):
        decision().rule(silent)


def test_a_rule_behind_one_that_always_decides_is_never_asked() -> None:
    def always(ctx: Seen) -> Do:
        """Whatever it is."""
        return Do(action="none", reason="x")

    def never(ctx: Seen) -> Do | None:
        """Nothing is left."""
        return None

    made = decision()
    made.rule(always)
    with pytest.raises(PipelineError, match="one after always"):
        made.rule(never)


def test_an_action_is_one_that_the_verdict_may_name() -> None:
    def other(ctx: Seen, verdict: Do) -> Input:
        return Input(count=1)

    with pytest.raises(PipelineError, match=r"an action of Do, got 'fly'.*do, leave"):
        decision().action("fly", stakes="low")(other)
    with pytest.raises(PipelineError, match="stakes"):
        decision().action("do", stakes="none")(other)  # type: ignore[arg-type] # the mistake


def test_a_person_answers_within_a_deadline() -> None:
    made = decision()
    made.human(deadline=timedelta(hours=1), on_timeout="approve")
    assert made.review is not None
    assert (made.review.deadline_ms, made.review.on_timeout) == (3_600_000, "approve")
    with pytest.raises(PipelineError, match="on_timeout"):
        made.human(deadline=timedelta(hours=1), on_timeout="maybe")  # type: ignore[arg-type] # the mistake
