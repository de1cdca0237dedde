"""streams/past.py: the row as of an instant is that of a pipeline which heard nothing later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.record import Given
from schemas.row import Row, State
from schemas.times import to_ms
from streams.memory import Memory, happened, passed, run
from streams.past import Past
from streams.plan import compile_plan
from streams.topics import EVENTS
from tests.support.shop import Cancelled, Paid, Placed, shop

START = datetime(2024, 5, 1, 9, tzinfo=UTC)
PLAN = compile_plan(shop())


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def on_topic(memory: Memory) -> list[Given]:
    """What stands on `events`, in order."""
    return [
        Given(EVENTS, 0, offset, 0, out.key, out.value, out.headers)
        for offset, out in enumerate(memory.records[EVENTS])
    ]


def as_of(memory: Memory, entity: str, key: str, minute: int) -> Row[State] | None:
    past = Past(memory.plan, 1, 0, entity, key, to_ms(at(minute)))
    for record in on_topic(memory):
        past.hear(record)
    return past.row()


def placed(minute: int, id: str, amount: int, order: str = "o1") -> Given:
    return happened(Placed(order_id=order, customer_id="ann", amount=amount), at(minute), id)


def paid(minute: int, id: str, amount: int, order: str = "o1", fault: str = "") -> Given:
    event = Paid(order_id=order, customer_id="ann", amount=amount, fault=fault)
    return happened(event, at(minute), id)


def cancelled(minute: int, id: str, order: str = "o1") -> Given:
    return happened(Cancelled(order_id=order), at(minute), id)


HISTORY = [placed(0, "p", 10), paid(30, "m", 10), cancelled(50, "c")]


@pytest.mark.parametrize(
    ("minute", "status", "version"),
    [(0, "placed", 1), (29, "placed", 1), (30, "paid", 2), (99, "cancelled", 3)],
)
def test_only_what_had_happened_counts(minute: int, status: str, version: int) -> None:
    row = as_of(run(shop(), HISTORY), "order", "o1", minute)

    assert row is not None
    assert (row.state.model_dump()["status"], row.version) == (status, version)


def test_what_came_late_had_happened_all_the_same() -> None:
    memory = run(shop(), [HISTORY[2], HISTORY[1], HISTORY[0]])

    row = as_of(memory, "order", "o1", 40)

    assert row is not None
    assert row.state.model_dump() == {"status": "paid", "customer_id": "ann", "amount": 10}


def test_windows_and_relations_are_those_of_then() -> None:
    memory = run(shop(), [*HISTORY, paid(60, "m2", 7, order="o2"), passed(at(70))])

    then, now = as_of(memory, "customer", "ann", 40), as_of(memory, "customer", "ann", 70)

    assert then is not None
    assert now is not None
    assert [len(row.windows["payments"]) for row in (then, now)] == [1, 2]
    assert [sorted(row.related["orders"]) for row in (then, now)] == [["o1"], ["o1", "o2"]]
    assert [row.state.model_dump() for row in (then, now)] == [{"spent": 10}, {"spent": 17}]


def test_the_past_of_nobody() -> None:
    memory = run(shop(), HISTORY)

    assert as_of(memory, "order", "o1", -1) is None
    assert as_of(memory, "order", "o2", 99) is None


def test_what_was_refused_has_no_part_in_the_past() -> None:
    # Its reducer fails; and an id that comes with another body belongs to nobody.
    memory = run(shop(), [placed(0, "p", 10), paid(10, "m", 10, fault="reducer"), placed(20, "p", 11)])

    row = as_of(memory, "order", "o1", 30)

    assert len(memory.quarantine) == 2
    assert row is not None
    assert (row.version, row.state.model_dump()["amount"]) == (1, 10)


def test_somebody_else_wrote_to_the_topic() -> None:
    past = Past(PLAN, 1, 0, "order", "o1", to_ms(at(99)))
    past.hear(Given(EVENTS, 0, 0, 0, b"order:o1", b"rubbish"))
    past.hear(Given(EVENTS, 0, 1, 0, b"clock", b"rubbish"))
    past.hear(Given(EVENTS, 0, 2, 0, None, None))

    assert past.row() is None


story = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12), st.sampled_from("ab"), st.sampled_from([placed, paid])),
    max_size=12,
)


@given(story, st.integers(0, 60))
def test_it_is_the_row_of_a_pipeline_that_heard_nothing_later(
    told: list[tuple[int, int, str, object]], minute: int
) -> None:
    # The id is made of all the rest: the same again is a duplicate and no conflict.
    records = [
        (
            when,
            (placed if how is placed else paid)(
                when, f"{when}/{amount}/{order}/{how is placed}", amount, order
            ),
        )
        for when, amount, order, how in told
    ]
    memory = run(shop(), [record for _, record in records])
    heard = run(shop(), [record for when, record in records if when <= minute])

    for order in "ab":
        row, expected = as_of(memory, "order", order, minute), heard.row("order", order)
        assert expected == row if row is not None else expected.version == 0
    customer, expected = as_of(memory, "customer", "ann", minute), heard.row("customer", "ann")
    if customer is not None:
        assert (customer.state, customer.windows) == (expected.state, expected.windows)
