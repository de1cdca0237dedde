"""The judge of stock Faust: a doubled, a missing and a wrongly kept event are each found, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.load import Load, payments_load
from benchmarks.report import PARTITIONS
from benchmarks.stock_faust_chaos import done_part, fold, judge, words
from schemas.keys import partition_of
from streams.topics import EVENTS

WRITTEN = list(payments_load(50, EVENTS))
IDS = [f"pay-{number}" for number in range(50)]


def ends(written: list[Load]) -> dict[int, int]:
    """The end of each partition."""
    partitions = [partition_of(each.key, PARTITIONS) for each in written]
    return {number: partitions.count(number) for number in range(PARTITIONS)}


def rows() -> dict[str, dict[str, Any]]:
    """What a right table holds, with what Faust adds to it."""
    return {key: account | {"__faust": {"ns": "Account"}} for key, account in fold(WRITTEN).items()}


def test_a_run_without_a_fault_has_none() -> None:
    found = judge(WRITTEN, ends(WRITTEN), IDS, rows(), kills=3)
    assert (found.duplicates, found.losses, found.state_wrong, found.hung) == (0, 0, 0, False)
    assert (found.kills, found.events, found.records_checked) == (3, 50, 50 + len(rows()))


def test_each_fault_is_counted() -> None:
    wrong = rows()
    first, second = list(wrong)[:2]
    wrong[first]["total"] += 1
    del wrong[second]
    found = judge(WRITTEN, ends(WRITTEN), [*IDS[2:], "pay-7", "pay-7"], wrong, kills=1)
    assert (found.duplicates, found.losses, found.state_wrong) == (2, 2, 2)
    assert "2 outputs doubled, 2 missing, 2 of" in words(found)


def test_what_nobody_has_read_is_neither_lost_nor_wrong() -> None:
    [last] = WRITTEN[-1:]
    committed = ends(WRITTEN)
    committed[partition_of(last.key, PARTITIONS)] -= 1
    done = done_part(WRITTEN, committed)
    assert done == WRITTEN[:-1]
    found = judge(WRITTEN, committed, IDS[:-1], fold(done), kills=1)
    assert (found.losses, found.state_wrong, found.unread, found.hung) == (0, 0, 1, True)
    assert "1 events unread" in words(found)


@pytest.mark.parametrize("field", ["payments", "total", "last_payment", "last_status"])
def test_every_field_is_compared(field: str) -> None:
    wrong = rows()
    next(iter(wrong.values()))[field] = None
    assert judge(WRITTEN, ends(WRITTEN), IDS, wrong, kills=1).state_wrong == 1
