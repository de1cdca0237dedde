"""schemas/context.py: what a context function is given reads like a collection, and nothing in it changes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.context import Context, Item, Related, Summary, Timed, Window
from schemas.units import UtcTime


class Leg(Summary):
    status: str
    departure: UtcTime | None = None


class Delay(Item):
    minutes: int


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


def test_a_window_gives_its_values_oldest_first_and_tells_their_times_when_asked() -> None:
    entries = [Timed(5, "e1", Delay(minutes=1)), Timed(9, "e2", Delay(minutes=2))]
    window = Window(entries)
    assert (len(window), [delay.minutes for delay in window], window.last()) == (2, [1, 2], Delay(minutes=2))
    assert window.timed() == entries


def test_nothing_is_empty_not_missing() -> None:
    assert not Window[Delay]([])
    assert Window[Delay]([]).last() is None
    assert not Related[Leg]({})


def test_what_is_taken_out_of_a_window_does_not_change_it() -> None:
    window = Window([Timed(5, "e1", Delay(minutes=1))])
    window.timed().clear()
    assert len(window) == 1


def test_a_summary_reads_what_rows_hold_where_a_time_is_a_string() -> None:
    leg = Leg.model_validate({"status": "scheduled", "departure": "2013-02-08T12:00:00Z"})
    assert leg.departure is not None
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Leg.model_validate({"status": "scheduled", "gate": "B4"})


def test_equal_facts_give_equal_bytes() -> None:
    contexts = [Turnaround(tail="N1", gate_min=5), Turnaround(gate_min=5, tail="N1")]
    assert contexts[0].model_dump_json() == contexts[1].model_dump_json() == '{"tail":"N1","gate_min":5}'
