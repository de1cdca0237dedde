"""streams/deciding.py: what a decision's record says, and what becomes of one that waits for a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from schemas.event import ANSWERED, Answered, Envelope, envelope_headers
from schemas.keys import action_id, decision_id, review_id
from schemas.quarantine import Reason, read_quarantine
from schemas.record import Given, Out
from schemas.review import ReviewRecord
from schemas.times import to_ms
from streams import topics
from streams.deciding import UserCodeError, blamed, guarded
from streams.memory import Memory, happened, passed, run
from streams.plan import compile_plan
from streams.records import hash_of
from tests.support import shop as declared
from tests.support.shop import Cancelled, Paid, Placed, shop

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
PAID = NOON + timedelta(minutes=1)
DEADLINE = PAID + declared.REVIEW_DEADLINE


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def held(on_timeout: Literal["reject", "approve"] = "reject", fault: str = "") -> Memory:
    """A shop in which the block of customer c1 waits for a person."""
    event = Paid(order_id="o1", customer_id="c1", amount=1500, fault=fault)
    return run(shop(on_timeout=on_timeout), [passed(NOON), happened(event, PAID, "e1"), passed(at(15))])


def the_review(memory: Memory) -> ReviewRecord:
    (review,) = memory.reviews
    return review


def answer(memory: Memory, approve: bool, minutes: float = 20, id: str = "answer", by: str = "ann") -> None:
    given = Answered(review_id=the_review(memory).review_id, approve=approve, by=by, note="I looked")
    memory.answer(given, at(minutes), id)


# 1. A decision by rule.


def test_the_record_says_who_decided_what_from_what() -> None:
    memory = run(
        shop(),
        [
            happened(Placed(order_id="o1", customer_id=None, amount=70), NOON, "e1"),
            happened(Cancelled(order_id="o1"), at(3), "e2"),
        ],
    )
    (made,) = memory.decisions
    assert made.decision_id == decision_id("shop", 1, "refund", "order:o1", "order:o1/e2")
    assert (made.entity, made.key, made.state_version) == ("order", "o1", 2)
    assert made.trigger.model_dump() == {
        "name": "order:o1/e2",
        "event_id": "e2",
        "event_type": "order.cancelled",
        "time_ms": to_ms(at(3)),
    }
    assert made.context == {"order_id": "o1", "amount": 70, "fault": ""}
    assert made.context_hash == hash_of(made.context)
    assert [(hop.route, hop.tool, hop.outcome) for hop in made.hops] == [("rule", "money_back", "verdict")]
    assert (
        made.hops[0].tool_version
        == compile_plan(shop()).entities["order"].decisions[0].rules.routes[0].version
    )
    assert (made.gate, made.stakes, made.action_id) == (
        "proceed",
        "low",
        action_id(made.decision_id, "refund", 0),
    )


def test_the_action_names_its_decision_and_its_deadline() -> None:
    memory = run(
        shop(),
        [
            happened(Placed(order_id="o1", customer_id=None, amount=70), NOON, "e1"),
            happened(Cancelled(order_id="o1"), at(3), "e2"),
        ],
    )
    (action,) = memory.actions
    (made,) = memory.decisions
    assert (action.action_id, action.decision_id) == (made.action_id, made.decision_id)
    assert (action.action, action.input) == ("refund", {"order_id": "o1", "amount": 70})
    assert (action.reason, action.stakes) == ("70 for o1", "low")
    assert action.deadline_ms == to_ms(at(3) + timedelta(hours=2))


def test_a_verdict_of_no_action_is_a_decision_without_one() -> None:
    memory = run(shop(), [happened(Cancelled(order_id="o1"), NOON, "e1")])
    (made,) = memory.decisions
    assert (made.gate, made.action_id, memory.actions) == ("none", None, [])


def test_routes_are_asked_in_order_until_one_has_an_answer() -> None:
    event = Paid(order_id="o1", customer_id="c1", amount=300)
    memory = run(shop(), [passed(NOON), happened(event, PAID, "e1"), passed(at(15))])
    (made,) = memory.decisions
    assert [(hop.tool, hop.outcome, hop.confidence) for hop in made.hops] == [
        ("too_much", "declined", None),
        ("good_customer", "verdict", 0.9),
    ]


def test_where_nobody_has_an_answer_there_is_no_decision() -> None:
    event = Paid(order_id="o1", customer_id="c1", amount=5)
    memory = run(shop(), [passed(NOON), happened(event, PAID, "e1"), passed(at(15))])
    assert memory.decisions == []


# 2. A decision of high stakes.


def test_high_stakes_wait_for_a_person() -> None:
    memory = held()
    (made,) = memory.decisions
    review = the_review(memory)
    assert (made.gate, made.action_id, memory.actions) == ("review", None, [])
    assert made.review_id == review.review_id == review_id(made.decision_id)
    assert (review.status, review.deadline_ms) == ("open", to_ms(DEADLINE))
    assert (review.verdict, review.context) == (made.verdict, made.context)
    row = memory.row("customer", "c1")
    assert set(row.reviews) == {review.review_id}


def test_an_approval_is_a_decision_of_its_own_and_lets_the_action_go() -> None:
    memory = held()
    answer(memory, approve=True)
    asked, answered = memory.decisions
    (action,) = memory.actions
    review = the_review(memory)
    assert answered.decision_id != asked.decision_id
    assert (answered.route, answered.hops[0].tool, answered.gate) == ("person", "ann", "proceed")
    assert answered.gate_reason == "approved by ann: I looked"
    assert (action.decision_id, action.action) == (answered.decision_id, "block")
    assert action.action_id == answered.action_id
    assert (review.status, review.by, review.closed_ms) == ("approved", "ann", to_ms(at(20)))
    assert review.answer_decision_id == answered.decision_id
    row = memory.row("customer", "c1")
    assert (row.reviews, [name for name in row.timers if name.startswith("review:")]) == ({}, [])


def test_a_refusal_is_a_decision_without_an_action() -> None:
    memory = held()
    answer(memory, approve=False)
    _asked, answered = memory.decisions
    assert (answered.route, answered.gate, answered.action_id, memory.actions) == ("person", "none", None, [])
    assert the_review(memory).status == "rejected"


@pytest.mark.parametrize(
    ("on_timeout", "gate", "actions"), [("reject", "none", 0), ("approve", "proceed", 1)]
)
def test_a_review_that_nobody_answers_expires_as_declared(
    on_timeout: Literal["reject", "approve"], gate: str, actions: int
) -> None:
    memory = held(on_timeout)
    memory.send([passed(DEADLINE - timedelta(milliseconds=1))])
    assert the_review(memory).status == "open"
    memory.send([passed(DEADLINE)])
    last = next(made for made in memory.decisions if made.route == "timeout")
    assert (last.gate, last.at_ms) == (gate, to_ms(DEADLINE))
    assert len([action for action in memory.actions if action.action == "block"]) == actions
    assert (the_review(memory).status, the_review(memory).by) == ("expired", "timeout")
    memory.send([passed(DEADLINE + timedelta(days=1))])
    assert len([made for made in memory.decisions if made.route == "timeout"]) == 1


def test_an_answer_that_comes_too_late_is_refused() -> None:
    memory = held()
    memory.send([passed(DEADLINE)])
    answer(memory, approve=True, minutes=62)
    assert [why["reason"] for why in memory.quarantine] == ["review_not_open"]
    assert [action for action in memory.actions if action.action == "block"] == []


@pytest.mark.parametrize("second", [True, False], ids=["the same", "another"])
def test_a_second_answer_is_refused(second: bool) -> None:
    memory = held()
    answer(memory, approve=True, id="a1")
    answer(memory, approve=second, id="a2", by="bob")
    assert [why["reason"] for why in memory.quarantine] == ["review_not_open"]
    assert len(memory.actions) == 1
    assert the_review(memory).by == "ann"


def answered(memory: Memory, body: bytes) -> Out:
    """What the lane makes of an answer with that body."""
    headers = envelope_headers(Envelope("a", ANSWERED, "/test", to_ms(at(20)), "customer:c1", body))
    (out,) = memory.lane.step(Given(topics.EVENTS, 0, 0, 0, b"customer:c1", body, headers))
    return out


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b'{"review_id":"rev_nobody","approve":true,"by":"ann"}', "review_not_open", "review_id"),
        (b'{"review_id":"rev_nobody","by":"ann"}', "missing_field", "approve"),
        (b'{"review_id":"rev_nobody","approve":true,"by":"ann","cc":"bob"}', "unknown_field", "cc"),
        (b"yes", "not_json", ""),
    ],
)
def test_an_answer_to_nothing_is_refused(body: bytes, reason: str, field: str) -> None:
    memory = held()
    out = answered(memory, body)
    why = read_quarantine(out.headers)
    assert (out.topic, out.value, why["reason"], why["field"]) == (topics.QUARANTINE, body, reason, field)
    assert the_review(memory).status == "open"


def test_an_approved_action_that_fails_leaves_the_review_open() -> None:
    memory = held(fault="approved action")
    answer(memory, approve=True)
    assert [why["field"] for why in memory.quarantine] == ["tests.support.shop.block"]
    assert the_review(memory).status == "open"
    # A person can still say no.
    answer(memory, approve=False, id="a2")
    assert the_review(memory).status == "rejected"


def test_a_review_that_expires_into_a_failing_action_stays_with_people() -> None:
    memory = held("approve", fault="approved action")
    memory.send([passed(DEADLINE), passed(DEADLINE + timedelta(hours=5))])
    assert [why["field"] for why in memory.quarantine] == ["tests.support.shop.block"]
    assert the_review(memory).status == "open"
    answer(memory, approve=False)
    assert the_review(memory).status == "rejected"


def test_two_reviews_of_one_entity_are_answered_apart() -> None:
    memory = held()
    second = Paid(order_id="o2", customer_id="c1", amount=1500)
    memory.send([happened(second, at(5), "e2"), passed(at(16))])
    one, two = memory.reviews
    memory.answer(Answered(review_id=two.review_id, approve=True, by="ann"), at(20))
    assert [review.status for review in memory.reviews] == ["open", "approved"]
    assert set(memory.row("customer", "c1").reviews) == {one.review_id}


# 3. Whose fault an exception is.


def fails(message: str) -> None:
    raise ValueError(message)


def innocent() -> None:
    """Named, but never called."""


def test_the_function_that_ran_is_named_with_its_line() -> None:
    with pytest.raises(UserCodeError) as caught, guarded(Reason.REDUCER_FAILED, innocent, fails, None):
        fails("no")
    assert caught.value.function == f"{__name__}.fails"
    line = fails.__code__.co_firstlineno + 1
    assert str(caught.value) == f"ValueError in fails, line {line}: no"


def test_an_exception_from_elsewhere_is_nobodys_fault() -> None:
    error = OSError("disk")
    assert blamed(error, Reason.REDUCER_FAILED, declared.placed) is error
