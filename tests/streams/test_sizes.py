"""streams/sizes.py: sizes of rows in, histogram, largest and losses out. Reading Kafka is tested with the command."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streams.memory import happened, run
from streams.sizes import CLASSES, Largest, Size, Sizes, measured, rank, size_of
from tests.support.shop import Paid, shop


def size(row_bytes: int, **evicted: int) -> Size:
    return Size(row_bytes, evicted)


def test_rows_are_counted_by_their_sizes_and_the_largest_are_named() -> None:
    rows = {"a": size(100), "b": size(256), "c": size(257), "d": size(5000), "e": size(1 << 30)}

    found = measured("order", rows, 2)

    assert (found.rows, found.total_bytes, found.p50_bytes) == (5, 5613 + (1 << 30), 257)
    assert found.histogram == ((256, 2), (1024, 1), (16_384, 1), (None, 1))
    assert found.largest == (Largest("e", 1 << 30), Largest("d", 5000))


def test_what_bounds_threw_away_is_summed_and_in_how_many_rows() -> None:
    rows = {"a": size(1, seen=3, changes=1), "b": size(1, seen=2), "c": size(1, seen=0)}

    assert measured("order", rows, 0).evicted == {"changes": (1, 1), "seen": (5, 2)}


def test_nothing_is_nothing() -> None:
    assert measured("order", {}, 9) == Sizes("order")


def test_a_stored_row_says_how_large_it_is_and_what_it_lost() -> None:
    memory = run(
        shop(),
        [happened(Paid(order_id="o", customer_id="c", amount=1), datetime(2024, 5, 1, tzinfo=UTC), "e")],
    )
    (row,) = (row for row in memory.lane.rows.changed() if row.entity == "order")

    assert size_of(row.value) == Size(len(row.value), {})


@given(st.lists(st.integers(0, 1 << 24), min_size=1), st.sampled_from([0.5, 0.99, 1.0]))
def test_a_rank_is_the_least_that_enough_values_do_not_exceed(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = rank(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    assert sum(value < found for value in ordered) < share * len(ordered)


@given(st.dictionaries(st.text(), st.builds(Size, st.integers(0, CLASSES[-1] * 5), st.just({}))))
def test_every_row_is_in_one_class(rows: dict[str, Size]) -> None:
    found = measured("order", rows, 5)
    assert sum(count for _, count in found.histogram) == found.rows == len(rows)
