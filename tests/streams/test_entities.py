"""streams/entities.py: who counts as stale. What is read of Kafka is tested with the commands."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from schemas.row import Cause, Row, State
from streams.entities import Heard, heard_of, judged
from streams.plan import compile_plan
from tables.entity import encoded, row_codec
from tests.support.shop import Order, shop

ORDER = replace(compile_plan(shop()).entities["order"], stale_after_ms=100)


def heard(as_of_ms: int, key: str = "a", source: str = "/shop") -> Heard:
    return Heard(key, as_of_ms, "e1", "order.placed", source)


def test_a_row_is_stale_after_so_long_and_not_before() -> None:
    found = judged(ORDER, [heard(900, "at once"), heard(899, "too long"), heard(1200, "later")], 1000, 10)
    assert (found.rows, found.stale, found.newest_ms) == (3, 1, 1200)
    assert [each.key for each in found.stalest] == ["too long"]


def test_the_longest_silent_come_first_and_not_too_many() -> None:
    found = judged(ORDER, [heard(n, f"k{n}") for n in (30, 10, 20, 5)], 1000, 2)
    assert ([each.key for each in found.stalest], found.stale) == (["k5", "k10"], 4)


def test_nothing_is_stale_if_nobody_said_when() -> None:
    found = judged(replace(ORDER, stale_after_ms=None), [heard(0)], 1 << 40, 10)
    assert (found.rows, found.stale, found.stalest) == (1, 0, [])


def test_a_source_is_as_new_as_its_newest_row() -> None:
    rows = [heard(10, "a", "/one"), heard(30, "b", "/one"), heard(20, "c", "/two")]
    assert judged(ORDER, rows, 1000, 0).sources == {"/one": 30, "/two": 20}


@given(
    st.integers(0, 1 << 41), st.none() | st.builds(Cause, st.text(), st.text(), st.text(), st.integers(0, 9))
)
def test_a_stored_row_says_when_it_was_heard_of(as_of_ms: int, cause: Cause | None) -> None:
    row: Row[State] = Row[Order](state=Order(), version=1, as_of_ms=as_of_ms, cause=cause)  # type: ignore[assignment]
    found = heard_of("o1", encoded(row, row_codec(Order).serializer.to_json))
    assert found == Heard("o1", as_of_ms, *((None,) * 3 if cause is None else cause[:3]))
