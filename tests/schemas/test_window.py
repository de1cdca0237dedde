"""schemas/window.py: a window's entries whole, in panes, and as numbers."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.times import from_ms, to_ms
from schemas.window import Item, Pane, Timed, Window

MINUTE = timedelta(minutes=1)
START_MS = to_ms(datetime(2024, 5, 1, 9, tzinfo=UTC))


class Delay(Item):
    minutes: int


def minutes(delay: Delay) -> int:
    return delay.minutes


def window(*entries: tuple[int, int]) -> Window[Delay]:
    """Entries of (minute, value)."""
    return Window(
        [
            Timed(START_MS + at * 60_000, f"e{n}", Delay(minutes=value))
            for n, (at, value) in enumerate(sorted(entries))
        ]
    )


def told(panes: list[Pane[Delay]]) -> list[tuple[int, int, list[int]]]:
    """Panes as (first minute, last minute, values)."""
    return [
        (
            (to_ms(p.start) - START_MS) // 60_000,
            (to_ms(p.end) - START_MS) // 60_000,
            [d.minutes for d in p.items],
        )
        for p in panes
    ]


def test_a_window_gives_its_values_oldest_first_and_tells_their_times_when_asked() -> None:
    entries = [Timed(5, "e1", Delay(minutes=1)), Timed(9, "e2", Delay(minutes=2))]
    window = Window(entries)
    assert (len(window), [delay.minutes for delay in window], window.last()) == (2, [1, 2], Delay(minutes=2))
    assert window.timed() == entries


def test_what_is_taken_out_of_a_window_does_not_change_it() -> None:
    window = Window([Timed(5, "e1", Delay(minutes=1))])
    window.timed().clear()
    assert len(window) == 1


def test_an_empty_window_has_nothing() -> None:
    empty = Window[Delay]([])
    assert not empty
    assert (
        empty.last(),
        empty.mean(minutes),
        empty.quantile(minutes, 0.5),
        empty.trend_per_hour(minutes),
    ) == (None,) * 4
    assert (empty.sum(minutes), empty.distinct(minutes)) == (0, 0)
    assert empty.tumbling(MINUTE) == empty.sessions(MINUTE) == []


def test_the_newest_are_the_last() -> None:
    entries = window((0, 1), (1, 2), (2, 3))
    assert [list(map(minutes, entries.newest(count))) for count in (0, 2, 9)] == [[], [2, 3], [1, 2, 3]]


def test_panes_that_tumble_follow_each_other_also_where_nothing_was() -> None:
    panes = window((1, 10), (4, 11), (16, 12)).tumbling(5 * MINUTE)
    assert told(panes) == [(0, 5, [10, 11]), (5, 10, []), (10, 15, []), (15, 20, [12])]


def test_panes_that_hop_overlap() -> None:
    panes = window((1, 10), (6, 11)).hopping(10 * MINUTE, 5 * MINUTE)
    assert told(panes) == [(-5, 5, [10]), (0, 10, [10, 11]), (5, 15, [11])]


def test_sessions_end_where_nothing_came_for_longer_than_the_gap() -> None:
    sessions = window((0, 1), (5, 2), (11, 3), (12, 4)).sessions(5 * MINUTE)
    assert told(sessions) == [(0, 5, [1, 2]), (11, 12, [3, 4])]


def test_numbers_of_a_window() -> None:
    entries = window((0, 1), (30, 2), (60, 2), (90, 7))
    assert (entries.sum(minutes), entries.mean(minutes), entries.distinct(minutes)) == (12, 3, 3)
    assert [entries.quantile(minutes, q) for q in (0, 0.5, 0.9, 1)] == [1, 2, pytest.approx(5.5), 7]
    assert entries.trend_per_hour(minutes) == pytest.approx(3.6)
    assert window((5, 1), (5, 2)).trend_per_hour(minutes) is None


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda w: w.tumbling(timedelta(0)), "expected size to be a positive duration"),
        (lambda w: w.hopping(MINUTE, -MINUTE), "expected every to be a positive duration"),
        (lambda w: w.hopping(MINUTE, 2 * MINUTE), "expected every <= size"),
        (lambda w: w.sessions(timedelta(0)), "expected gap to be a positive duration"),
        (lambda w: w.quantile(minutes, 50), "expected q from 0 to 1, got 50"),
    ],
)
def test_mistakes_are_named(ask: object, message: str) -> None:
    assert callable(ask)
    with pytest.raises(ValueError, match=message):
        ask(window((0, 1)))


entries = st.lists(st.tuples(st.integers(-600, 600), st.integers(-50, 50)), max_size=30)
durations = st.integers(1, 90).map(lambda count: count * MINUTE)


@given(entries, durations)
def test_every_entry_is_in_one_pane_that_tumbles(given: list[tuple[int, int]], size: timedelta) -> None:
    whole = window(*given)
    panes = whole.tumbling(size)
    assert [entry for pane in panes for entry in pane.items.timed()] == whole.timed()
    for pane, following in pairwise(panes):
        assert pane.end == following.start
    for pane in panes:
        assert pane.end - pane.start == size
        assert all(pane.start <= from_ms(entry.time_ms) < pane.end for entry in pane.items.timed())
    if panes:
        assert panes[0].items
        assert panes[-1].items


@given(entries, durations, st.integers(1, 5))
def test_every_entry_is_in_as_many_panes_as_hop_over_it(
    given: list[tuple[int, int]], every: timedelta, times: int
) -> None:
    whole = window(*given)
    panes = whole.hopping(times * every, every)
    for entry in whole.timed():
        assert sum(entry in pane.items.timed() for pane in panes) == times


@given(entries, durations)
def test_sessions_are_as_long_as_they_can_be(given: list[tuple[int, int]], gap: timedelta) -> None:
    whole = window(*given)
    sessions = whole.sessions(gap)
    assert [entry for each in sessions for entry in each.items.timed()] == whole.timed()
    for each in sessions:
        times = [from_ms(entry.time_ms) for entry in each.items.timed()]
        assert (each.start, each.end) == (times[0], times[-1])
        assert all(later - earlier <= gap for earlier, later in pairwise(times))
    for each, following in pairwise(sessions):
        assert following.start - each.end > gap


@given(st.lists(st.tuples(st.integers(-600, 600), st.integers(-50, 50)), min_size=2, max_size=30))
def test_numbers_are_those_of_the_standard_library(given: list[tuple[int, int]]) -> None:
    whole = window(*given)
    values, hours = [value for _, value in sorted(given)], [at / 60 for at, _ in sorted(given)]
    assert whole.mean(minutes) == pytest.approx(statistics.fmean(values))
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    assert [whole.quantile(minutes, q / 10) for q in range(1, 10)] == pytest.approx(deciles)
    slope = whole.trend_per_hour(minutes)
    if len(set(hours)) > 1:
        assert slope == pytest.approx(statistics.linear_regression(hours, values).slope, abs=1e-9)
    else:
        assert slope is None
