"""streams/contexts.py: every decision's context can be made anew of the events, and is the one that was recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contexts import Looked
from streams.explain import UnknownIdError
from streams.memory import happened, passed, run
from tests.support.contexts import shown
from tests.support.shop import Cancelled, Paid, Placed, shop

START = datetime(2024, 5, 1, 9, tzinfo=UTC)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


told = st.one_of(
    st.builds(Placed, order_id=st.sampled_from("ab"), customer_id=st.just("ann"), amount=st.integers(0, 600)),
    # Large enough for a review that nobody answers.
    st.builds(Paid, order_id=st.sampled_from("ab"), customer_id=st.just("ann"), amount=st.integers(0, 1200)),
    st.builds(Cancelled, order_id=st.sampled_from("ab")),
)


@given(st.lists(st.tuples(st.integers(0, 100), told), max_size=10))
@settings(max_examples=60)
def test_the_context_made_anew_is_the_recorded_one(
    story: list[tuple[int, Placed | Paid | Cancelled]],
) -> None:
    records = [happened(event, at(minute), f"{n}") for n, (minute, event) in enumerate(story)]
    memory = run(shop(), [*records, passed(at(50)), passed(at(300))])

    for number, decision in enumerate(memory.decisions):
        again = shown(memory, number)
        assert again.same
        assert again.decision.context == decision.context
        if decision.trigger.event_id and again.manifest.facts[0].id.startswith("event."):
            assert again.manifest.facts[0].event_id == decision.trigger.event_id


def test_what_came_afterwards_has_no_part_in_it() -> None:
    memory = run(shop(), [
        happened(Placed(order_id="a", customer_id="ann", amount=70), at(0), "p"),
        happened(Cancelled(order_id="a"), at(1), "c"),
        happened(Placed(order_id="a", customer_id="ann", amount=99), at(2), "p2"),
    ])  # fmt: skip

    again = shown(memory, 0)

    assert {fact.id: fact.value for fact in again.manifest.facts}["state.amount"] == 70
    assert again.same


def test_a_decision_that_is_declared_no_more() -> None:
    memory = run(shop(), [happened(Cancelled(order_id="a"), at(1), "c")])
    gone = memory.decisions[0].model_copy(update={"decision": "lost"})

    with pytest.raises(UnknownIdError, match="shop no longer declares the decision 'lost' of 'order'"):
        Looked(memory.plan, 1, gone)
