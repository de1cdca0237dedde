"""tables/timers.py: due times come out in order, whenever they went in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tables.timers import Timers

ENTRIES = st.lists(
    st.tuples(st.integers(-5, 5), st.sampled_from(["flight", "pool"]), st.text("a:ü", max_size=2))
)


def drained(timers: Timers, now_ms: int) -> list[tuple[int, str, str]]:
    found = []
    while (entry := timers.pop_due(now_ms)) is not None:
        found.append(entry)
    return found


def test_what_is_due_is_taken_once_and_what_is_not_stays() -> None:
    timers = Timers([(7, "flight", "UA1"), (5, "flight", "UA2")])
    timers.add(6, "pool", "p1")
    assert timers.next_due_ms() == 5
    assert timers.pop_due(4) is None
    assert drained(timers, 6) == [(5, "flight", "UA2"), (6, "pool", "p1")]
    assert timers.next_due_ms() == 7


def test_no_timer_is_never_due() -> None:
    assert (Timers().next_due_ms(), Timers().pop_due(1 << 60)) == (None, None)


@settings(deadline=None)
@given(ENTRIES, ENTRIES, st.integers(-6, 6))
def test_due_times_come_in_order_whether_stored_or_added(
    stored: list[tuple[int, str, str]], added: list[tuple[int, str, str]], now_ms: int
) -> None:
    """Ties by entity and key: a restart, which reads them from the database, fires them in the same order."""
    timers = Timers(stored)
    for entry in added:
        timers.add(*entry)
    everything = sorted([*stored, *added])
    assert drained(timers, now_ms) == [entry for entry in everything if entry[0] <= now_ms]
    assert drained(timers, 6) == [entry for entry in everything if entry[0] > now_ms]


def test_the_stored_entries_are_left_as_they_are() -> None:
    stored = [(7, "flight", "UA1"), (5, "flight", "UA2")]
    drained(Timers(stored), 9)
    assert stored == [(7, "flight", "UA1"), (5, "flight", "UA2")]
