"""schemas/row.py: a state changes only by validated copies, and a row comes back from JSON byte by byte."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from schemas.carried import Change, History, Seen, Sighting
from schemas.row import (
    Cause,
    FieldValue,
    OpenReview,
    Row,
    Stamp,
    State,
    Timer,
    WindowItem,
    settled,
    touched,
)
from schemas.units import UtcTime


class Seat(BaseModel):
    row: int
    letter: str


class Flight(State):
    status: Literal["scheduled", "departed"] = "scheduled"
    delay_min: int | None = None
    load: float = 0.0
    departed_at: UtcTime | None = None
    seats: tuple[Seat, ...] = ()
    notes: dict[str, str] = Field(default_factory=dict)
    gate_code: str = Field(default="", alias="gateCode")

    @cached_property
    def late(self) -> bool:
        return (self.delay_min or 0) > 15


NOON = datetime(2013, 2, 8, 12, tzinfo=UTC)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # A string is compared as JSON has it: without lone surrogates.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TIME = st.integers(-(2**50), 2**50)


def maps(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(NAME, values, min_size=1, max_size=2)


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=2)


TIMERS = st.builds(
    Timer,
    due_ms=TIME,
    at_ms=TIME,
    decision=NAME,
    trigger=NAME,
    event_id=NAME,
    event_type=NAME,
    data=NAME,
    kind=st.sampled_from(["settle", "every", "review"]),
)
REVIEWS = st.builds(
    OpenReview,
    decision_id=NAME,
    decision=NAME,
    at_ms=TIME,
    deadline_ms=st.none() | TIME,
    verdict=maps(JSON),
    context=maps(JSON),
    route=NAME,
    trigger=NAME,
    event_id=NAME,
)
STATES = st.builds(
    Flight,
    status=st.sampled_from(["scheduled", "departed"]),
    delay_min=st.none() | st.integers(),
    load=st.floats(allow_nan=False, allow_infinity=False),
    departed_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    seats=st.lists(st.builds(Seat, row=st.integers(), letter=NAME), max_size=2).map(tuple),
    notes=maps(NAME),
    gate_code=NAME,
)
ROWS = st.builds(
    Row[Flight],
    state=STATES,
    schema_version=st.integers(1, 9),
    version=st.integers(0, 9),
    as_of_ms=TIME,
    cause=st.builds(Cause, NAME, NAME, NAME, TIME),
    set_by=maps(st.builds(Stamp, TIME, NAME)),
    changes=lists(st.builds(Change, st.integers(0, 9), TIME, NAME, maps(st.tuples(JSON, JSON)))).map(
        History.of
    ),
    seen=lists(st.builds(Sighting, TIME, st.integers(0, 2**32 - 1), NAME)).map(
        lambda known: Seen.of(sorted(known))
    ),
    seen_floor_ms=st.none() | TIME,
    windows=maps(lists(st.builds(WindowItem, TIME, NAME, JSON))),
    related=maps(maps(maps(lists(st.builds(FieldValue, TIME, NAME, JSON))))),
    linked=maps(NAME),
    timers=maps(TIMERS),
    reviews=maps(REVIEWS),
    admitted=st.integers(0, 9),
    duplicates=st.integers(0, 9),
    evicted=maps(st.integers(0, 9)),
)


# State.


def test_evolving_makes_a_validated_copy() -> None:
    old = Flight()
    new = old.evolve(status="departed", delay_min=20)
    assert (old.status, old.delay_min) == ("scheduled", None)
    assert (new.status, new.delay_min) == ("departed", 20)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"delay_min": "20"}, "int_type"),
        ({"status": "lost"}, "literal_error"),
        ({"load": float("nan")}, "finite_number"),
        ({"gate": "B4"}, "extra_forbidden"),
        ({"late": True}, "extra_forbidden"),
        ({"departed_at": datetime(2013, 2, 8)}, "timezone_aware"),  # noqa: DTZ001 - naive on purpose
    ],
)
def test_evolving_refuses_what_does_not_fit(changes: dict[str, Any], kind: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Flight().evolve(**changes)
    assert [error["type"] for error in raised.value.errors()] == [kind]


def test_the_fields_an_event_gave_are_remembered_even_when_they_keep_their_value() -> None:
    row_state = settled(Flight(status="departed"))
    assert row_state.model_fields_set == set()
    assert row_state.evolve(status="departed").evolve(delay_min=3).model_fields_set == {"status", "delay_min"}


def test_an_alias_is_the_worlds_name_not_ours() -> None:
    assert Flight().evolve(gate_code="B4").evolve(delay_min=1).gate_code == "B4"


def test_what_a_state_has_worked_out_does_not_outlive_it() -> None:
    on_time = Flight(delay_min=3)
    assert not on_time.late
    assert on_time.evolve(delay_min=30).late
    assert "late" not in settled(on_time).__dict__


def test_a_settled_state_is_a_copy() -> None:
    constant = Flight(status="departed")
    assert settled(constant) == constant
    assert constant.model_fields_set == {"status"}


def test_touching_marks_in_place() -> None:
    state = Flight()
    assert touched(state, {"load"}) is state
    assert state.model_fields_set == {"load"}


# Rows.


@settings(deadline=None)
@given(ROWS)
def test_a_row_comes_back_from_json_byte_by_byte(row: Row[Flight]) -> None:
    written = row.model_dump_json()
    read = Row[Flight].model_validate_json(written)
    assert read == row
    assert read.model_dump_json() == written


def test_a_row_of_which_nothing_is_known_comes_back() -> None:
    row = Row[Flight](state=Flight())
    assert Row[Flight].model_validate_json(row.model_dump_json()) == row


@settings(deadline=None)
@given(ROWS)
def test_changing_a_row_leaves_the_old_one(row: Row[Flight]) -> None:
    written = row.model_dump_json()
    new = row.with_(version=row.version + 1, timers={})
    assert (new.version, new.timers) == (row.version + 1, {})
    assert new.model_copy(update={"version": row.version, "timers": row.timers}) == row
    assert row.model_dump_json() == written


def timer(due_ms: int) -> Timer:
    return Timer(due_ms=due_ms, at_ms=0, decision="d", trigger="t", kind="settle")


def test_a_row_is_due_when_its_earliest_timer_is() -> None:
    row = Row[Flight](state=Flight())
    assert row.next_due_ms() is None
    assert row.with_(timers={"a": timer(7), "b": timer(-3), "c": timer(9)}).next_due_ms() == -3
