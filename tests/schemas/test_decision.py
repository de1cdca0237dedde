"""schemas/decision.py: a verdict names one of its actions, with a reason and a confidence; records survive JSON."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from schemas.decision import DecisionRecord, Hop, Trigger, Verdict


class Rebook(Verdict):
    action: Literal["rebook", "none"]


def test_a_verdict_is_sure_unless_it_says_otherwise() -> None:
    assert Rebook(action="rebook", reason="cancelled").confidence == 1.0


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"action": "refund"}, "literal_error"),
        ({"reason": ""}, "string_too_short"),
        ({"confidence": 1.01}, "less_than_equal"),
        ({"confidence": -0.01}, "greater_than_equal"),
        ({"confidence": float("nan")}, "finite_number"),
        ({"because": "x"}, "extra_forbidden"),
    ],
)
def test_a_verdict_outside_its_type_is_none(wrong: dict[str, Any], kind: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Rebook.model_validate({"action": "rebook", "reason": "cancelled"} | wrong)
    assert [error["type"] for error in raised.value.errors()] == [kind]


def test_a_verdict_needs_a_reason() -> None:
    with pytest.raises(ValidationError, match="reason"):
        Rebook.model_validate({"action": "rebook"})


def test_a_decision_survives_json() -> None:
    record = DecisionRecord(
        decision_id="dec_1",
        pipeline="flights",
        pipeline_version=1,
        decision="rebook",
        entity="flight",
        key="UA1",
        trigger=Trigger(name="flight:UA1/e1", event_id="e1", event_type="flight.cancelled", time_ms=-5),
        at_ms=-5,
        state_version=2,
        context={"flight_id": "UA1", "delays": [1, None]},
        context_hash="00",
        hops=[Hop(route="rule", tool="always", tool_version="1", outcome="declined")],
        route="rule",
        verdict={"action": "rebook"},
        stakes="low",
        gate="proceed",
        gate_reason="low stakes",
        source_partition=0,
        source_offset=7,
    )
    assert DecisionRecord.model_validate_json(record.model_dump_json()) == record
