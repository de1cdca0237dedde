"""schemas/lane.py: a lane's clock waits for every origin and never runs back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event import Clock
from schemas.lane import WALL, LaneRow


def tick(at_ms: int, origin: str = "raw/0", origins: int = 1, *, rank: int = 1, final: bool = False) -> Clock:
    return Clock(at_ms=at_ms, origin=origin, origins=origins, rank=rank, final=final)


def after(*clocks: Clock) -> LaneRow:
    row = LaneRow()
    for clock in clocks:
        row = row.heard(clock)
    return row


def test_no_time_is_known_before_every_origin_has_spoken() -> None:
    assert after(tick(5, "raw/0", 2)).time_ms(1) is None
    assert after(tick(5, "raw/0", 2), tick(9, "raw/1", 2)).time_ms(1) == 5


def test_time_is_that_of_the_slowest_origin() -> None:
    row = after(tick(5, "raw/0", 2), tick(9, "raw/1", 2), tick(30, "raw/0", 2))
    assert row.time_ms(1) == 9


def test_an_origin_that_repeats_an_old_time_changes_nothing() -> None:
    row = after(tick(5), tick(9))
    assert row.heard(tick(5)) == row


def test_an_origin_that_joins_late_does_not_turn_the_clock_back() -> None:
    """A topic was given more partitions."""
    assert after(tick(10, "raw/0", 1), tick(5, "raw/1", 2)).time_ms(1) == 10


def test_before_1970_time_passes_too() -> None:
    assert after(tick(-5000)).time_ms(1) == -5000
    assert after(tick(-5000), tick(-4000)).time_ms(1) == -4000


def test_the_ranks_have_their_own_times_and_the_wall_clock_holds_for_all() -> None:
    row = after(tick(5, rank=1), tick(3, rank=2))
    assert (row.time_ms(1), row.time_ms(2), row.time_ms(3)) == (5, 3, None)
    row = row.heard(tick(4, "wall/0", rank=WALL))
    assert (row.time_ms(1), row.time_ms(2), row.time_ms(3)) == (5, 4, 4)


def test_each_origin_says_once_that_nothing_more_comes() -> None:
    row = after(*(tick(9, origin, 2, final=True) for origin in ("raw/1", "raw/0", "raw/1")))
    assert row.final == {1: ["raw/0", "raw/1"]}
    assert after(tick(9, "raw/0", 2)).final == {}


CLOCKS = st.lists(
    st.builds(
        tick,
        st.integers(-100, 100),
        st.sampled_from(["raw/0", "raw/1", "raw/2"]),
        st.just(3),
        final=st.booleans(),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(CLOCKS)
def test_the_clock_never_runs_back_and_is_never_ahead_of_an_origin(clocks: list[Clock]) -> None:
    row, before = LaneRow(), None
    said: dict[str, int] = {}
    for clock in clocks:
        row = row.heard(clock)
        said[clock.origin] = max(clock.at_ms, said.get(clock.origin, clock.at_ms))
        now = row.time_ms(1)
        assert now == (min(said.values()) if len(said) == 3 else None)
        assert before is None or (now is not None and now >= before)
        before = now


@settings(deadline=None)
@given(CLOCKS, st.randoms(use_true_random=False))
def test_how_the_origins_interleave_does_not_matter_in_the_end(clocks: list[Clock], random: object) -> None:
    shuffled = list(clocks)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis' own Random
    assert after(*shuffled).time_ms(1) == after(*clocks).time_ms(1)
    assert after(*shuffled).final == after(*clocks).final


def test_hearing_a_clock_leaves_the_old_row() -> None:
    row = after(tick(5, final=True))
    written = row.model_dump_json()
    row.heard(tick(9, "raw/1", final=True))
    assert row.model_dump_json() == written


@settings(deadline=None)
@given(CLOCKS, st.integers(0, 2**40))
def test_a_lane_row_comes_back_from_json(clocks: list[Clock], sequence: int) -> None:
    row = after(*clocks).model_copy(update={"audit_sequence": sequence, "audit_hash": "00"})
    assert LaneRow.model_validate_json(row.model_dump_json()) == row
