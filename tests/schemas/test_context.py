"""schemas/context.py: what a context function is given reads like a collection, and nothing in it changes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.context import Context, Related, Summary
from schemas.units import UtcTime


class Leg(Summary):
    status: str
    departure: UtcTime | None = None


class Turnaround(Context):
    tail: str
    gate_min: int


FIRST, SECOND = Leg(status="arrived"), Leg(status="scheduled")


def test_related_entities_are_found_by_key_and_in_order() -> None:
    related = Related({"UA1": FIRST, "UA2": SECOND})
    assert (len(related), list(related), list(related.items())) == (
        2,
        [FIRST, SECOND],
        [("UA1", FIRST), ("UA2", SECOND)],
    )
    assert (related.get("UA2"), related.get("UA3")) == (SECOND, None)


def test_nothing_is_empty_not_missing() -> None:
    assert not Related[Leg]({})


def test_a_summary_reads_what_rows_hold_where_a_time_is_a_string() -> None:
    leg = Leg.model_validate({"status": "scheduled", "departure": "2013-02-08T12:00:00Z"})
    assert leg.departure is not None
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Leg.model_validate({"status": "scheduled", "gate": "B4"})


def test_equal_facts_give_equal_bytes() -> None:
    contexts = [Turnaround(tail="N1", gate_min=5), Turnaround(gate_min=5, tail="N1")]
    assert contexts[0].model_dump_json() == contexts[1].model_dump_json() == '{"tail":"N1","gate_min":5}'
