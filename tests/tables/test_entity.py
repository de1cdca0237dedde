"""tables/entity.py: rows are decoded once, encoded once per batch, and never older than what was put."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.lane import LaneRow
from schemas.row import Row, State, Timer
from tables.entity import ChangedRow, Rows
from tests.support.rows import drain


class Flight(State):
    count: int = 0


class Pool(State):
    size: int = 0


STATES: dict[str, type[State]] = {"flight": Flight, "pool": Pool}


class Stored:
    """A database that is a dict, and what was read from it."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.reads: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        self.reads.append(key)
        return self.rows.get(key)

    def write(self, changed: list[ChangedRow]) -> None:
        self.rows |= {row.key: row.value for row in changed}


def due(*due_ms: int) -> dict[str, Timer]:
    """Timers that are due then."""
    return {str(at): Timer(due_ms=at, at_ms=at, decision="d", trigger="t", kind="settle") for at in due_ms}


def count(row: Row[State]) -> int:
    assert isinstance(row.state, Flight)
    return row.state.count


def counted(rows: Rows, key: str, by: int = 1) -> None:
    """Read a row and put the next one."""
    row = rows.get("flight", key)
    rows.put("flight", key, row.with_(state=Flight(count=count(row) + by), version=row.version + 1))


# Reading.


def test_an_entity_of_which_nothing_was_heard_has_a_new_row() -> None:
    rows = Rows(STATES, Stored().get)
    assert rows.get("flight", "UA1") == Row[Flight](state=Flight())
    assert type(rows.get("pool", "p1").state) is Pool


def test_a_stored_row_is_read_and_decoded_once() -> None:
    stored = Stored()
    stored.rows[b"flight:UA1"] = Row[Flight](state=Flight(count=7), version=3).model_dump_json().encode()
    rows = Rows(STATES, stored.get)
    first = rows.get("flight", "UA1")
    assert (count(first), first.version) == (7, 3)
    assert rows.get("flight", "UA1") is first
    assert stored.reads == [b"flight:UA1"]


def test_a_row_that_was_read_was_given_no_field_yet() -> None:
    """What a reducer sets is told by pydantic's record of set fields; JSON would fill it."""
    stored = Stored()
    stored.rows[b"flight:UA1"] = b'{"state":{"count":7}}'
    assert Rows(STATES, stored.get).get("flight", "UA1").state.model_fields_set == set()


@pytest.mark.parametrize("key", ["", "a:b", "ü/\x00", "lane:0"])
def test_any_key_has_a_row_of_its_own(key: str) -> None:
    rows, stored = Rows(STATES, Stored().get), Stored()
    counted(rows, key)
    counted(rows, "other")
    stored.write(drain(rows))
    again = Rows(STATES, stored.get)
    assert (count(again.get("flight", key)), count(again.get("flight", key + "x"))) == (1, 0)


def test_rows_of_two_entities_under_one_key_are_two() -> None:
    rows = Rows(STATES, Stored().get)
    counted(rows, "k")
    assert rows.get("pool", "k").version == 0


# After a batch.


def test_a_row_that_changed_is_written_once_and_as_it_is_in_the_end() -> None:
    rows = Rows(STATES, Stored().get)
    for key in ("UA1", "UA2", "UA1"):
        counted(rows, key)
    rows.get("flight", "UA3")
    changed = drain(rows)
    assert [(row.entity, row.key, json.loads(row.value)["state"]) for row in changed] == [
        ("flight", b"flight:UA1", {"count": 2}),
        ("flight", b"flight:UA2", {"count": 1}),
    ]
    assert drain(rows) == []


def test_a_written_row_is_read_again_byte_by_byte() -> None:
    stored, rows = Stored(), Rows(STATES, Stored().get)
    counted(rows, "UA1")
    (first,) = drain(rows)
    stored.write([first])
    again = Rows(STATES, stored.get)
    again.put("flight", "UA1", again.get("flight", "UA1"))
    assert drain(again) == [first]


def test_a_batch_tells_when_a_row_is_due_and_was_due_before_it() -> None:
    stored, rows = Stored(), Rows(STATES, Stored().get)
    seen = []
    for timers in (due(9, 5), due(7), {}, {}):
        # Twice: only the first put of a batch knows what the database holds.
        for between in (due(1), timers):
            rows.put("flight", "UA1", rows.get("flight", "UA1").with_(timers=between))
        (row,) = drain(rows)
        stored.write([row])
        seen.append((row.was_due_ms, row.due_ms))
    assert seen == [(None, 5), (5, 7), (7, None), (None, None)]
    rows.put("flight", "UA1", rows.get("flight", "UA1").with_(timers=due(3)))
    stored.write(drain(rows))
    again = Rows(STATES, stored.get)
    again.put("flight", "UA1", again.get("flight", "UA1").with_(timers=due(4)))
    assert [(row.was_due_ms, row.due_ms) for row in drain(again)] == [(3, 4)]


def test_the_lanes_own_row_goes_with_its_batch() -> None:
    stored, rows = Stored(), Rows(STATES, Stored().get)
    assert rows.lane("3") == LaneRow()
    rows.put_lane("3", LaneRow(audit_sequence=4, audit_hash="00"))
    counted(rows, "3")
    changed = drain(rows)
    assert [(row.entity, row.key, row.due_ms, row.was_due_ms) for row in changed] == [
        ("lane", b"lane:3", None, None),
        ("flight", b"flight:3", None, None),
    ]
    stored.write(changed)
    assert Rows(STATES, stored.get).lane("3") == LaneRow(audit_sequence=4, audit_hash="00")


# Live rows.


def test_rows_are_let_go_only_between_batches() -> None:
    stored = Stored()
    rows = Rows(STATES, stored.get, live=2)
    for key in "abcde":
        counted(rows, key)
    assert [count(rows.get("flight", key)) for key in "abcde"] == [1, 1, 1, 1, 1]
    assert len(stored.reads) == 5, "nothing was read again inside the batch"


def test_what_a_batch_changed_is_still_there_before_it_is_stored() -> None:
    """Between the drain and the commit others may look, the ticker at the lane's row: they must not see the past."""
    stored = Stored()
    rows = Rows(STATES, stored.get, live=1)
    rows.put_lane("0", LaneRow(audit_sequence=1))
    for key in "abc":
        counted(rows, key)
    changed = drain(rows)
    assert rows.lane("0").audit_sequence == 1
    assert [count(rows.get("flight", key)) for key in "abc"] == [1, 1, 1]
    stored.write(changed)


def test_rows_that_nobody_asks_for_are_let_go() -> None:
    stored = Stored()
    rows = Rows(STATES, stored.get, live=2)
    for key in "abc":
        counted(rows, key)
        stored.write(drain(rows))
    counted(rows, "d")
    stored.write(drain(rows))
    stored.reads.clear()
    assert count(rows.get("flight", "d")) == 1
    assert stored.reads == []
    assert count(rows.get("flight", "a")) == 1
    assert stored.reads == [b"flight:a"]


BATCHES = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["put", "get", "lane"])), max_size=6)
)


@settings(deadline=None)
@given(BATCHES, st.integers(0, 3))
@example([[("a", "put"), ("b", "put")], [("a", "put")]], 0)
def test_keeping_few_rows_live_gives_the_same_rows(batches: list[list[tuple[str, str]]], live: int) -> None:
    """The databases are equal after every batch; what is read between drain and write is equal, too."""
    many_stored, few_stored = Stored(), Stored()
    many, few = Rows(STATES, many_stored.get, live=1000), Rows(STATES, few_stored.get, live=live)
    for batch in batches:
        for key, what in batch:
            for rows in (many, few):
                STEPS[what](rows, key)
        written = [drain(rows) for rows in (many, few)]
        assert written[0] == written[1]
        for key, _ in batch:
            assert few.get("flight", key) == many.get("flight", key)
            assert few.lane(key) == many.lane(key)
        many_stored.write(written[0])
        few_stored.write(written[1])
    assert many_stored.rows == few_stored.rows


def next_audit(rows: Rows, key: str) -> None:
    lane = rows.lane(key)
    rows.put_lane(key, lane.model_copy(update={"audit_sequence": lane.audit_sequence + 1}))


STEPS: dict[str, Callable[[Rows, str], object]] = {
    "put": counted,
    "get": lambda rows, key: rows.get("flight", key),
    "lane": next_audit,
}
