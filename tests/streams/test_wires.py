"""streams/wires.py: everything is packed, in order, where any client looks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.keys import partition_of
from schemas.record import Out
from streams import topics
from streams.plan import compile_plan
from streams.wires import TooLargeError, Wire, Wires
from tables.entity import ChangedRow
from tests.support.bank import bank

PLAN = compile_plan(bank("wires"))
LIMIT_BYTES = 2000


def wires() -> Wires:
    return Wires(PLAN, 1, 3, lambda: BatchBuilder(LIMIT_BYTES, 0, is_transactional=1))


def records_of(packed: Sequence[Wire]) -> dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]]:
    found: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
    for wire in packed:
        batches = MemoryRecords(bytes(wire.batch._build()))
        while (batch := batches.next_batch()) is not None:
            found[wire.topic, wire.partition] += [(record.key, record.value) for record in batch]
    return dict(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), st.binary(max_size=9)), st.integers(0, 3000)), min_size=1))
def test_records_are_packed_in_order_and_none_is_left_out(sizes: list[tuple[bytes | None, int]]) -> None:
    made, expected = wires(), defaultdict(list)
    for key, size in sizes:
        made.add(Out(topics.EVENTS, key, bytes(size)))
        expected["wires.events", 1 if key is None else partition_of(key, 3)].append((key, bytes(size)))
    packed = list(made.close())
    assert records_of(packed) == expected
    # None is larger than it may be but for one record that is so by itself.
    assert all(wire.batch.size() <= LIMIT_BYTES or wire.records == 1 for wire in packed)


def test_a_record_of_a_given_partition_goes_there() -> None:
    made = wires()
    made.add(Out(topics.CHANGES, b"account:a", b"1", partition=2))
    assert records_of(list(made.close())) == {("wires.changes", 2): [(b"account:a", b"1")]}


def test_rows_go_to_their_changelog_with_the_time_they_are_due() -> None:
    made = wires()
    made.add_rows([ChangedRow("account", b"account:a", b"{}", 17, None)])
    (wire,) = made.close()
    assert (wire.topic, wire.partition, wire.records) == ("wires.account.changelog", 1, 1)
    (record,) = MemoryRecords(bytes(wire.batch._build())).next_batch() or []
    assert (record.key, record.value, record.headers) == (b"account:a", b"{}", [("ms_due", b"17")])


def test_decisions_and_actions_are_kept_for_the_metrics() -> None:
    made = wires()
    outs = [Out(role, b"k", b"{}") for role in (topics.CHANGES, topics.DECISIONS, topics.ACTIONS)]
    for out in outs:
        made.add(out)
    assert made.told == outs[1:]


@pytest.mark.parametrize("role", [topics.EVENTS, topics.ACTIONS])
def test_what_kafka_would_not_take_is_said(role: str) -> None:
    with pytest.raises(TooLargeError, match=r"16777217 bytes"):
        wires().add(Out(role, b"k", bytes(topics.MAX_OUT_BYTES + 1)))
    with pytest.raises(TooLargeError, match="account:a"):
        wires().add_rows([ChangedRow("account", b"account:a", bytes(topics.MAX_OUT_BYTES + 1), None, None)])


def test_a_refused_record_goes_away_whole() -> None:
    made = wires()
    made.add(Out(topics.QUARANTINE, b"k", bytes(topics.MAX_OUT_BYTES + 1)))
    assert [wire.records for wire in made.close()] == [1]
