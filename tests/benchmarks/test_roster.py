"""Who takes part, in which order, with how many events."""

from __future__ import annotations

import pytest

from benchmarks.roster import CONTENDERS, ENOUGH, chosen, in_turn


def test_all_take_part_unless_some_are_named_and_the_order_is_the_report_s() -> None:
    assert chosen(None) == list(CONTENDERS)
    assert [each.name for each in chosen("raw_aiokafka, midstream_eos")] == ["midstream_eos", "raw_aiokafka"]


@pytest.mark.parametrize("names", ["midstream_eos,flink", "", ","])
def test_a_name_that_nobody_has_is_told_with_those_there_are(names: str) -> None:
    with pytest.raises(ValueError, match="expected some of midstream_eos, midstream_full, faust_eos"):
        chosen(names)


def test_the_order_alternates_from_round_to_round() -> None:
    both = chosen("midstream_eos,faust_eos")
    orders = [[each.name for each in in_turn(both, number)] for number in (0, 1, 2)]
    assert orders == [
        ["midstream_eos", "faust_eos"],
        ["faust_eos", "midstream_eos"],
        ["midstream_eos", "faust_eos"],
    ]


@pytest.mark.parametrize(
    ("events", "share"), [(1_000_000, 125_000), (200_000, ENOUGH), (ENOUGH, ENOUGH), (10, 10)]
)
def test_stock_faust_gets_an_eighth_but_enough(events: int, share: int) -> None:
    [faust, ours] = [*chosen("faust_eos"), *chosen("midstream_eos")]
    assert (faust.share(events), ours.share(events)) == (share, events)


def test_only_bytewax_may_write_an_event_twice() -> None:
    assert [each.name for each in CONTENDERS if not each.exactly_once] == ["bytewax_recovery"]
