"""schemas/carried.py: what is kept as JSON text answers as a dictionary and a list of objects would."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.carried import Change, History, Seen, Sighting, change_text, quoted

# Names that look like the text around them, or need escapes.
ID = st.one_of(
    st.sampled_from(['a","b', '"],[1,2,"', ",", '"', "\\", '\\"', "a]", "\x00", "\u2028", "ü", "pay-1", ""]),
    st.text(st.characters(exclude_categories=["Cs"])),
)
SIGHTINGS = st.lists(
    st.tuples(st.integers(-(10**15), 10**15), st.integers(0, 2**32 - 1), ID), unique_by=lambda entry: entry[2]
)


@given(ID)
def test_a_quoted_name_is_json_in_which_a_quote_always_ends_it(name: str) -> None:
    text = quoted(name)
    assert json.loads(text) == name
    assert text.count('"') == 2


@given(SIGHTINGS, ID)
def test_ids_are_found_with_their_fingerprints(entries: list[tuple[int, int, str]], other: str) -> None:
    seen, model = Seen(), dict[str, int]()
    for time_ms, mark, name in entries:
        assert seen.fingerprint_of(name) is None
        seen = seen.with_(time_ms, mark, name)
        model[name] = mark
    assert {name: seen.fingerprint_of(name) for name in model} == model
    assert seen.fingerprint_of(other) == model.get(other)
    assert len(seen) == len(list(seen)) == len(entries)


@given(SIGHTINGS)
def test_ids_stand_in_the_order_of_their_times_and_leave_in_it(entries: list[tuple[int, int, str]]) -> None:
    seen = Seen()
    for entry in entries:
        seen = seen.with_(*entry)
    times = sorted(entry[0] for entry in entries)
    while seen.count:
        assert [entry.time_ms for entry in seen.entries()] == times
        assert (seen.oldest_ms, seen.newest_ms) == (times[0], times[-1])
        seen, times = seen.without_oldest(), times[1:]
    assert (seen, times) == (Seen(), [])


@given(SIGHTINGS)
def test_ids_come_back_from_json(entries: list[tuple[int, int, str]]) -> None:
    adapter = TypeAdapter(Seen)
    seen = Seen.of(sorted(entries))
    again = adapter.validate_json(adapter.dump_json(seen))
    assert (again, again.text) == (seen, seen.text)


def test_those_that_are_taken_out_are_gone() -> None:
    seen = Seen.of([(1, 1, "a"), (2, 2, "b"), (3, 3, "c")])
    left = seen.without([Sighting(2, 2, "b")])
    assert list(left) == ["a", "c"]
    assert seen.count == 3


CHANGE = Change(3, 5, 'e"1', {"total": (0, 7)})


def test_a_history_keeps_the_newest_changes() -> None:
    history = History()
    for version in range(4):
        history = history.with_(change_text(version, 5, "e", '{"total":[0,7]}'), 2)
    assert [change.version for change in history] == [2, 3]
    assert len(history.with_("[]", 0)) == 0


def test_a_history_comes_back_from_json_and_from_objects() -> None:
    adapter = TypeAdapter(History)
    history = History.of([CHANGE])
    assert list(history) == [CHANGE]
    assert adapter.validate_json(adapter.dump_json(history)) == history
    assert adapter.validate_python(history) is history
    assert hash(history) == hash(History.of([CHANGE]))


def test_what_is_no_list_of_entries_is_refused() -> None:
    with pytest.raises((ValidationError, TypeError)):
        TypeAdapter(Seen).validate_json("[1]")
