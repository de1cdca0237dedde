"""agents/action.py: one decision leads to one action, under the same key however often it is made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import pytest

from agents.action import ActionRules, act
from schemas.action import ActionInput, ActionRecord
from schemas.context import Context
from schemas.decision import DecisionRecord, Trigger, Verdict
from schemas.errors import WrongReturn
from schemas.keys import action_id
from schemas.units import UtcTime


class Loss(Context):
    flight_id: str


class Rebook(Verdict):
    action: Literal["rebook"]


class Passengers(ActionInput):
    flight_id: str
    why: str
    at: UtcTime | None = None


def passengers(context: Loss, verdict: Rebook) -> Passengers:
    return Passengers(
        flight_id=context.flight_id, why=verdict.reason, at=datetime(2013, 2, 8, 12, tzinfo=UTC)
    )


RULES = ActionRules("rebook", Passengers, passengers, "low", 500)
LOSS = Loss(flight_id="UA1")
VERDICT = Rebook(action="rebook", reason="UA1 is cancelled", confidence=0.9)
DECISION = DecisionRecord(
    decision_id="dec_1",
    pipeline="flights",
    pipeline_version=3,
    decision="rebooking",
    entity="flight",
    key="UA1",
    trigger=Trigger(name="flight:UA1/e1", event_id="e1", event_type="flight.cancelled", time_ms=70),
    at_ms=70,
    state_version=2,
    context={"flight_id": "UA1"},
    context_hash="00",
    hops=[],
    route="rule",
    verdict={},
    stakes="low",
    gate="proceed",
    gate_reason="",
    source_partition=0,
    source_offset=0,
)


def test_an_action_says_what_about_whom_why_and_until_when() -> None:
    assert act(RULES, DECISION, LOSS, VERDICT) == ActionRecord(
        action_id=action_id("dec_1", "rebook", 0),
        decision_id="dec_1",
        pipeline="flights",
        pipeline_version=3,
        action="rebook",
        decision="rebooking",
        entity="flight",
        key="UA1",
        stakes="low",
        input={"flight_id": "UA1", "why": "UA1 is cancelled", "at": "2013-02-08T12:00:00Z"},
        reason="UA1 is cancelled",
        at_ms=70,
        deadline_ms=570,
    )


def test_an_action_without_a_deadline_makes_sense_for_ever() -> None:
    assert act(replace(RULES, deadline_ms=None), DECISION, LOSS, VERDICT).deadline_ms is None


def test_the_key_follows_from_decision_and_action_and_from_nothing_else() -> None:
    again = act(RULES, DECISION.model_copy(update={"at_ms": 71}), Loss(flight_id="UA2"), VERDICT)
    assert again.action_id == act(RULES, DECISION, LOSS, VERDICT).action_id
    other_decision = act(RULES, DECISION.model_copy(update={"decision_id": "dec_2"}), LOSS, VERDICT)
    other_action = act(replace(RULES, name="refund"), DECISION, LOSS, VERDICT)
    assert len({again.action_id, other_decision.action_id, other_action.action_id}) == 3


def test_a_function_that_returns_something_else_is_named() -> None:
    def forgot(context: Loss, verdict: Rebook) -> Passengers:
        return {"flight_id": "UA1"}  # type: ignore[return-value] # the mistake in question

    with pytest.raises(WrongReturn, match=r"forgot must return Passengers, got dict"):
        act(replace(RULES, function=forgot), DECISION, LOSS, VERDICT)
