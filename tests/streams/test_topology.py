"""streams/topology.py in memory: what becomes of every kind of record, and that batches change nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from schemas.audit import sealed
from schemas.event import (
    ANSWERED,
    CLOCK,
    LINKED,
    Answered,
    Clock,
    Envelope,
    Event,
    Linked,
    envelope_headers,
    read_envelope,
)
from schemas.lane import WALL
from schemas.quarantine import original_headers, read_quarantine
from schemas.record import Given, Out
from schemas.times import from_ms, to_ms
from streams import Dedupe, Pipeline, State, topics
from streams.memory import Memory, happened, passed, run
from streams.plan import compile_plan
from streams.topology import EntityLane, Ingest, door_of
from tables.entity import Rows
from tables.timers import Timers
from tests.support.pages import Page, Written, pages
from tests.support.rows import drain
from tests.support.shop import Cancelled, Customer, Order, Paid, Placed, shop

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def batch(lane: EntityLane, records: Sequence[Given]) -> list[Out]:
    """What a lane makes of `records`."""
    return [out for record in records for out in lane.step(record)]


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def say(event: Event, minutes: float, id: str) -> Given:
    return happened(event, at(minutes), id)


def placed(order: str = "o1", customer: str | None = "c1", amount: int = 100, fault: str = "") -> Placed:
    return Placed(order_id=order, customer_id=customer, amount=amount, fault=fault)


def paid(order: str = "o1", customer: str = "c1", amount: int = 100, fault: str = "") -> Paid:
    return Paid(order_id=order, customer_id=customer, amount=amount, fault=fault)


def cancelled(order: str = "o1", fault: str = "") -> Cancelled:
    return Cancelled(order_id=order, fault=fault)


def started() -> Memory:
    """A shop whose clock stands at noon."""
    return run(shop(), [passed(NOON)])


def row_json(memory: Memory, entity: str, key: str) -> bytes:
    """The row but for what links tell it: they come from another row."""
    return to_json(memory.row(entity, key).with_(related={}, version=0, as_of_ms=0))


# 1. Facts.


def test_a_fact_changes_the_state_of_its_owner() -> None:
    memory = run(shop(), [say(placed(amount=70), 0, "e1"), say(paid(amount=70), 1, "e2")])
    row = memory.row("order", "o1")
    assert row.state == Order(status="paid", customer_id="c1", amount=70)
    assert (row.version, row.as_of_ms, row.admitted) == (2, to_ms(at(1)), 2)


def test_a_change_is_told_field_by_field_with_its_cause() -> None:
    memory = run(shop(), [say(placed(amount=70), 0, "e1"), say(paid(amount=70), 1, "e2")])
    told = [json.loads(out.value or b"") for out in memory.records[topics.CHANGES] if out.key == b"order:o1"]
    assert told[1] == {
        "entity": "order",
        "key": "o1",
        "version": 2,
        "time_ms": to_ms(at(1)),
        "event_id": "e2",
        "event_type": "order.paid",
        "fields": {"status": ["placed", "paid"]},
        # And what it said that was so already.
        "said": {"customer_id": "c1"},
    }


def test_an_event_that_changes_nothing_is_no_change_but_has_said_something() -> None:
    memory = run(shop(), [say(placed(), 0, "e1"), say(placed(), 1, "e2")])
    changes = [
        json.loads(out.value or b"") for out in memory.records[topics.CHANGES] if out.key == b"order:o1"
    ]
    assert [(change["event_id"], sorted(change["fields"])) for change in changes] == [
        ("e1", ["amount", "customer_id"]),
        ("e2", []),
    ]
    assert changes[1]["said"] == {"status": "placed", "customer_id": "c1", "amount": 100}


def test_another_entity_that_hears_a_fact_gets_it_once_under_the_same_id() -> None:
    memory = run(shop(), [say(paid(amount=30), 0, "e1")])
    copies = [
        read_envelope(out.headers, out.value or b"")
        for out in memory.records[topics.EVENTS]
        if out.key == b"customer:c1"
    ]
    assert [(copy.id, copy.type, copy.subject) for copy in copies if copy.type != LINKED] == [
        ("e1", "order.paid", "order:o1")
    ]
    assert memory.row("customer", "c1").state == Customer(spent=30)


def test_a_link_tells_the_other_side_what_it_carries() -> None:
    memory = run(shop(), [say(placed("o1"), 0, "e1"), say(placed("o2", amount=5), 1, "e2")])
    related = memory.row("customer", "c1").related["orders"]
    assert {key: fields["amount"][-1].value for key, fields in related.items()} == {"o1": 100, "o2": 5}


def test_a_link_moves_with_its_field() -> None:
    memory = run(shop(), [say(placed(customer="c1"), 0, "e1"), say(placed(customer="c2"), 1, "e2")])
    assert memory.row("customer", "c1").related["orders"] == {}
    assert set(memory.row("customer", "c2").related["orders"]) == {"o1"}


def test_a_window_holds_what_its_function_takes() -> None:
    memory = run(shop(), [say(paid(amount=30), 0, "e1"), say(paid(amount=0), 1, "e2")])
    assert [item.value["amount"] for item in memory.row("customer", "c1").windows["payments"]] == [30]


def test_a_known_event_is_counted_and_changes_nothing() -> None:
    memory = run(shop(), [say(paid(), 0, "e1")])
    before, written = memory.row("order", "o1"), sum(map(len, memory.records.values()))
    memory.send([say(paid(), 0, "e1")])
    after = memory.row("order", "o1")
    assert after == before.with_(duplicates=1)
    # Only the duplicate itself was written, by ingest.
    assert sum(map(len, memory.records.values())) == written + 1
    assert memory.lane.tally["duplicate", "order.paid"] == 1


@pytest.mark.parametrize(
    "second",
    [say(placed(amount=1), 0, "e1"), say(paid(), 0, "e1")],
    ids=["another body", "the same body as another type"],
)
def test_an_id_that_comes_again_for_something_else_is_refused(second: Given) -> None:
    memory = run(shop(), [say(placed(), 0, "e1")])
    before = row_json(memory, "order", "o1")
    memory.send([second])
    assert [why["reason"] for why in memory.quarantine] == ["id_conflict"]
    assert row_json(memory, "order", "o1") == before


def test_what_a_row_may_have_forgotten_is_refused() -> None:
    memory = run(
        shop(dedupe=Dedupe(limit=2)),
        [*(say(placed(amount=n), n, f"e{n}") for n in range(1, 5)), say(placed(amount=1), 1, "e1")],
    )
    assert [why["reason"] for why in memory.quarantine] == ["beyond_dedupe"]
    assert memory.row("order", "o1").evicted["seen"] == 2


# 2. Time.


def test_a_settled_decision_waits_for_the_clock() -> None:
    memory = started()
    memory.send([say(paid(amount=300), 1, "e1"), passed(at(10.9))])
    assert memory.decisions == []
    memory.send([passed(at(11))])
    (made,) = memory.decisions
    assert (made.decision, made.at_ms, made.trigger.name) == ("watch", to_ms(at(1)), "order:o1/e1")


def test_a_settled_decision_knows_late_facts_and_not_later_ones() -> None:
    memory = started()
    memory.send(
        [
            say(paid("o1", amount=300), 5, "now"),
            say(paid("o2", amount=70), 2, "late"),
            say(paid("o3", amount=4000), 9, "later"),
            passed(at(15)),
        ]
    )
    made = next(one for one in memory.decisions if one.trigger.event_id == "now")
    assert made.context["recent"] == 370
    assert made.context["orders"] == {"o1": "paid 0", "o2": "paid 0"}


def test_a_periodic_decision_looks_at_every_full_hour_while_the_window_holds_something() -> None:
    memory = started()
    memory.send(
        [say(paid(), 30, "e1"), say(paid("o2"), 90, "e2"), *(passed(at(m)) for m in range(30, 600, 30))]
    )
    hours = [one for one in memory.decisions if one.decision == "telling"]
    assert [(one.at_ms, one.context["payments"]) for one in hours] == [
        (to_ms(at(60)), 1),
        (to_ms(at(120)), 1),
    ]


def test_a_periodic_decision_rests_with_its_entity_and_wakes_with_it() -> None:
    memory = started()
    memory.send([say(paid(), 30, "e1"), *(passed(at(60 * hour)) for hour in range(1, 30))])
    assert memory.row("customer", "c1").timers == {}
    memory.send([say(paid("o2"), 30 * 60 - 5, "e2"), passed(at(31 * 60))])
    assert [one.at_ms for one in memory.decisions if one.decision == "telling"] == [
        to_ms(at(60)),
        to_ms(at(30 * 60)),
    ]


def test_an_instant_is_decided_once_however_often_the_clock_says_it() -> None:
    memory = started()
    memory.send([say(paid(amount=300), 1, "e1"), *[passed(at(20))] * 3, passed(at(5)), passed(at(20))])
    assert len(memory.decisions) == 1


def test_timers_fire_in_the_order_of_their_times() -> None:
    memory = started()
    times = [9, 3, 7, 1, 5]
    memory.send([*(say(paid(f"o{t}", f"c{t}", 300), t, f"e{t}") for t in times), passed(at(60))])
    assert [one.at_ms for one in memory.decisions if one.decision == "watch"] == [
        to_ms(at(t)) for t in sorted(times)
    ]


# 3. A function of the author fails.


def quarantined(memory: Memory) -> dict[str, str]:
    (why,) = memory.quarantine
    return why


FAULTS = [
    (placed(fault="reducer"), "order", "o1", "reducer_failed", "placed", "RuntimeError"),
    (paid(fault="wrong state"), "order", "o1", "reducer_failed", "paid", "WrongReturn"),
    (paid(fault="window"), "customer", "c1", "reducer_failed", "payments", "RuntimeError"),
    (cancelled(fault="context"), "order", "o1", "decision_failed", "loss", "RuntimeError"),
    (cancelled(fault="rule"), "order", "o1", "decision_failed", "money_back", "RuntimeError"),
    (cancelled(fault="wrong verdict"), "order", "o1", "decision_failed", "money_back", "WrongReturn"),
    (cancelled(fault="action"), "order", "o1", "decision_failed", "refund_money", "RuntimeError"),
]


@pytest.mark.parametrize(
    ("event", "entity", "key", "reason", "function", "error"),
    FAULTS,
    ids=[str(fault[0].model_dump()["fault"]) for fault in FAULTS],
)
def test_a_function_that_fails_costs_its_event_and_nothing_else(
    event: Event, entity: str, key: str, reason: str, function: str, error: str
) -> None:
    memory = run(shop(), [say(placed(), 0, "e1"), say(paid(), 1, "e2")])
    before = row_json(memory, entity, key)
    memory.send([say(event, 2, "bad")])
    why = quarantined(memory)
    assert (why["reason"], why["field"]) == (reason, f"tests.support.shop.{function}")
    assert why["detail"].startswith(error)
    assert row_json(memory, entity, key) == before
    (refused,) = memory.records[topics.QUARANTINE]
    assert json.loads(refused.value or b"") == event.model_dump(mode="json")
    # The next event is processed; and the refused one can come again, for it was never remembered.
    memory.send([say(cancelled(), 3, "good")])
    assert [one.action_id is not None for one in memory.decisions] == [True]
    assert len(memory.quarantine) == 1


@pytest.mark.parametrize(
    ("fault", "function"), [("settled context", "standing"), ("settled rule", "too_much")]
)
def test_a_timer_that_fails_is_quarantined_once_and_does_not_come_back(fault: str, function: str) -> None:
    memory = started()
    memory.send(
        [
            say(paid(fault=fault), 1, "bad"),
            passed(at(15)),
            passed(at(30)),
            say(paid("o2", amount=200), 31, "good"),
        ]
    )
    why = quarantined(memory)
    assert (why["reason"], why["field"]) == ("decision_failed", f"tests.support.shop.{function}")
    (refused,) = memory.records[topics.QUARANTINE]
    timer = json.loads(refused.value or b"")
    assert (timer["decision"], timer["event_id"], timer["kind"]) == ("watch", "bad", "settle")
    memory.send([passed(at(50))])
    assert [one.trigger.event_id for one in memory.decisions if one.decision == "watch"] == ["good"]
    assert len(memory.quarantine) == 1


def test_a_periodic_timer_that_fails_comes_back_at_the_next_period() -> None:
    memory = started()
    memory.send(
        [
            say(paid(fault="periodic rule"), 30, "bad"),
            passed(at(70)),
            say(paid("o2"), 110, "good"),
            passed(at(190)),
        ]
    )
    assert [why["field"] for why in memory.quarantine] == ["tests.support.shop.worth_telling"]
    assert [one.at_ms for one in memory.decisions if one.decision == "telling"] == [to_ms(at(120))]


def test_several_timers_that_fail_at_one_tick_are_told_apart() -> None:
    memory = started()
    memory.send([*(say(paid(f"o{n}", fault="settled rule"), n, f"e{n}") for n in range(3)), passed(at(30))])
    assert len({why["id"] for why in memory.quarantine}) == 3


def test_our_own_mistake_is_not_blamed_on_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("agents.state.prune", broken)
    with pytest.raises(RuntimeError, match="ours"):
        run(shop(), [say(paid(), 0, "e1")])


# 4. What somebody else wrote to `events`.


def envelope(type: str, body: bytes, subject: str = "order:o1", id: str = "x") -> list[tuple[str, bytes]]:
    return envelope_headers(Envelope(id, type, "/foreign", to_ms(NOON), subject, body))


CLOCK_BODY = to_json(Clock(at_ms=to_ms(NOON), origin="raw/0", origins=1))
LINK_BODY = to_json(Linked(link="orders", key="o1", event_id="e1", fields={}))
FOREIGN: dict[str, Given] = {
    "no headers": Given(topics.EVENTS, 0, 0, 0, b"order:o1", b"{}"),
    "a tombstone": Given(topics.EVENTS, 0, 0, 0, b"order:o1", None),
    "no key": Given(topics.EVENTS, 0, 0, 0, None, b"{}", envelope("order.placed", b"{}")),
    "a key that is no text": Given(
        topics.EVENTS, 0, 0, 0, b"\xff:\xfe", b"{}", envelope("order.placed", b"{}")
    ),
    "an unknown entity": Given(topics.EVENTS, 0, 0, 0, b"nobody:x", b"{}", envelope("order.placed", b"{}")),
    "an unknown type": Given(topics.EVENTS, 0, 0, 0, b"order:o1", b"{}", envelope("order.eaten", b"{}")),
    "a body that does not fit": Given(
        topics.EVENTS, 0, 0, 0, b"order:o1", b"{}", envelope("order.placed", b"{}")
    ),
    "a type of another entity": Given(
        topics.EVENTS, 0, 0, 0, b"customer:c1", to_json(placed()), envelope("order.placed", b"")
    ),
    "a clock that is none": Given(topics.EVENTS, 0, 0, 0, b"clock", b"noon", envelope(CLOCK, b"")),
    "a link that is none": Given(topics.EVENTS, 0, 0, 0, b"customer:c1", b"[]", envelope(LINKED, b"")),
    "an unknown link": Given(topics.EVENTS, 0, 0, 0, b"order:o1", LINK_BODY, envelope(LINKED, b"")),
    "a header without a value": Given(
        topics.EVENTS,
        0,
        0,
        0,
        b"order:o1",
        b"{}",
        [("ce_id", None), *envelope("order.placed", b"{}")[2:]],  # type: ignore[list-item] # Kafka has them
    ),
    "a time that is none": Given(
        topics.EVENTS, 0, 0, 0, b"order:o1", b"{}", [*envelope("order.placed", b""), ("ms_time", b"noon")]
    ),
    "a time beyond all times": Given(
        topics.EVENTS, 0, 0, 0, b"order:o1", b"{}", [*envelope("order.placed", b""), ("ms_time", b"9" * 30)]
    ),
}


@pytest.mark.parametrize("record", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_somebody_else_wrote_is_quarantined_and_the_lane_goes_on(record: Given) -> None:
    memory = run(shop(), [say(placed(), 0, "e1")])
    (refused,) = memory.lane.step(record)
    assert (refused.topic, refused.key, refused.value) == (topics.QUARANTINE, record.key, record.value)
    assert original_headers(refused.headers) == list(record.headers)
    assert read_quarantine(refused.headers)["reason"] == "foreign_record"
    assert read_quarantine(refused.headers)["topic"] == "shop.events"
    memory.send([say(paid(), 1, "e2")])
    assert memory.row("order", "o1").state.model_dump()["status"] == "paid"


# 5. Clocks of several partitions and ranks.


def lane(partitions: int = 1, *, playback: bool = True) -> EntityLane:
    plan = compile_plan(shop())
    states = {name: entity.state for name, entity in plan.entities.items()}
    return EntityLane(plan, 0, partitions, Rows(states, lambda key: None), Timers(), playback)


def fact(event: Event, minutes: float, id: str, key: str) -> Given:
    body = event.model_dump_json().encode()
    headers = envelope_headers(Envelope(id, event.event_type, "/test", to_ms(at(minutes)), key, body))
    return Given(topics.EVENTS, 0, 0, 0, key.encode(), body, headers)


def tick(minutes: float, origin: str, origins: int, rank: int, final: bool = False) -> Given:
    body = to_json(Clock(at_ms=to_ms(at(minutes)), origin=origin, origins=origins, rank=rank, final=final))
    return Given(topics.EVENTS, 0, 0, 0, b"clock", body, envelope(CLOCK, body, "clock:x"))


def kinds(outs: Iterable[Out]) -> Counter[str]:
    return Counter(out.topic for out in outs)


def test_time_is_the_least_that_any_origin_has_reached() -> None:
    two = lane(2)
    assert batch(two, [tick(60, "raw/0", 2, 1)]) == []
    # The second origin says twenty past: that is how far the lane is, and it tells both partitions of rank two.
    onward = batch(two, [tick(20, "raw/1", 2, 1)])
    assert [out.partition for out in onward] == [0, 1]
    assert {Clock.model_validate_json(out.value or b"").at_ms for out in onward} == {to_ms(at(20))}
    assert {Clock.model_validate_json(out.value or b"").rank for out in onward} == {2}


def test_a_customer_waits_for_the_clock_behind_the_orders() -> None:
    one = lane()
    batch(one, [fact(paid(amount=300), 1, "e1", "customer:c1")])
    assert kinds(batch(one, [tick(30, "raw/0", 1, 1)])) == {topics.EVENTS: 1}
    assert kinds(batch(one, [tick(30, "events/0", 1, 2)]))[topics.DECISIONS] == 1


def test_the_wall_clock_holds_for_everybody_and_is_not_sent_on() -> None:
    one = lane(playback=False)
    batch(one, [fact(paid(amount=300), 1, "e1", "customer:c1")])
    outs = batch(one, [tick(30, "wall/0", 1, WALL)])
    assert kinds(outs)[topics.DECISIONS] == 1
    assert topics.EVENTS not in kinds(outs)


def test_the_last_word_of_every_origin_goes_on_to_the_next_rank() -> None:
    two = lane(2)
    batch(two, [tick(20, "raw/0", 2, 1), tick(20, "raw/1", 2, 1)])
    assert batch(two, [tick(20, "raw/0", 2, 1, final=True)]) == []
    onward = batch(two, [tick(20, "raw/1", 2, 1, final=True)])
    assert all(Clock.model_validate_json(out.value or b"").final for out in onward)
    assert len(onward) == 2


def test_ingest_sends_a_clock_to_every_partition_behind_it() -> None:
    plan = compile_plan(shop())
    ingest = Ingest(plan, door_of(plan, playback=True), 0, 3)
    outs = ingest.step(passed(NOON))
    assert [(out.topic, out.partition) for out in outs] == [(topics.EVENTS, n) for n in range(3)]


def test_without_playback_a_clock_on_raw_is_a_stranger() -> None:
    plan = compile_plan(shop())
    (out,) = Ingest(plan, door_of(plan, playback=False), 0, 3).step(passed(NOON))
    assert out.topic == topics.QUARANTINE


# 6. Audit.


def test_the_audit_chain_holds_and_breaks_when_touched() -> None:
    memory = started()
    memory.send([say(paid(amount=1500), 1, "e1"), say(cancelled(), 2, "e2"), passed(at(15))])
    review = memory.reviews[0].review_id
    memory.answer(Answered(review_id=review, approve=True, by="ann"), at(20))
    chain = memory.audit
    assert [record.what for record in chain] == ["decided", "held", "answered", "decided", "acted"]
    assert [record.sequence for record in chain] == list(range(5))
    assert [record.previous_hash for record in chain] == ["", *(record.hash for record in chain[:-1])]
    assert [sealed(record).hash for record in chain] == [record.hash for record in chain]
    assert sealed(chain[2].model_copy(update={"by": "bob"})).hash != chain[2].hash


# 7. The same input gives the same output, however it is cut.


def story() -> list[Given]:
    """A bit of everything, as raw records."""
    records: list[Given] = [passed(NOON)]
    for n in range(24):
        order, customer = f"o{n % 7}", f"c{n % 3}"
        events: Sequence[Event] = (
            placed(order, customer, 50 * n),
            paid(order, customer, 100 * n, fault="settled rule" if n == 5 else ""),
            cancelled(order, fault="rule" if n == 9 else ""),
        )
        records += [say(event, 3 * n + i, f"e{n}-{i}") for i, event in enumerate(events)]
        records += [records[-2], Given("raw", 0, 0, to_ms(NOON), b"k", b"no event")]
        if n % 4 == 0:
            records.append(passed(at(3 * n)))
    return records


def events_of(memory: Memory) -> list[Given]:
    """What the entity lane read, answers included."""
    return [
        Given(topics.EVENTS, 0, offset, 0, out.key, out.value, out.headers)
        for offset, out in enumerate(memory.records[topics.EVENTS], start=1)
    ]


def told() -> Memory:
    memory = run(shop(), story())
    for number, review in enumerate(memory.reviews[:4]):
        answer = Answered(review_id=review.review_id, approve=number % 2 == 0, by="ann")
        memory.answer(answer, from_ms(review.at_ms), id=f"a{number}")
    memory.send([passed(at(300))])
    return memory


def replay(events: Sequence[Given], cuts: Sequence[int], live: int) -> tuple[list[Out], dict[bytes, bytes]]:
    """Run a lane over `events` in batches cut at `cuts`, its rows stored between them as in a worker."""
    plan = compile_plan(shop())
    stored: dict[bytes, bytes] = {}
    states = {name: entity.state for name, entity in plan.entities.items()}
    one = EntityLane(plan, 0, 1, Rows(states, stored.get, live), Timers(), playback=True)
    outs: list[Out] = []
    edges = [0, *sorted(cuts), len(events)]
    for begin, end in pairwise(edges):
        outs += batch(one, events[begin:end])
        stored.update({row.key: row.value for row in drain(one.rows)})
    return outs, stored


EVENTS = events_of(told())
WHOLE = replay(EVENTS, [], 100_000)


def test_the_story_has_a_bit_of_everything() -> None:
    memory = told()
    assert {one.route for one in memory.decisions} == {"rule", "person", "timeout"}
    assert {why["reason"] for why in memory.quarantine} == {"not_an_event", "decision_failed"}
    assert {kind for kind, *_ in memory.lane.tally} == {
        "event",
        "duplicate",
        "timer",
        "decision",
        "quarantined",
    }
    assert len(EVENTS) > 150


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1, len(EVENTS) - 1)), st.sampled_from([0, 3, 100_000]))
def test_any_cut_into_batches_gives_the_same_records_and_rows(cuts: set[int], live: int) -> None:
    assert replay(EVENTS, sorted(cuts), live) == WHOLE


def test_two_runs_give_the_same_bytes() -> None:
    assert dict(told().records) == dict(told().records)


def test_keys_of_decisions_and_actions_are_unique() -> None:
    memory = told()
    decisions = [one.decision_id for one in memory.decisions]
    actions = [one.action_id for one in memory.actions]
    assert len(set(decisions)) == len(decisions) > 20
    assert len(set(actions)) == len(actions) > 20
    assert {one.decision_id for one in memory.actions} <= set(decisions)


def test_another_version_of_a_pipeline_decides_under_other_keys() -> None:
    one, two = run(shop(version=1), story()), run(shop(version=2), story())
    assert len(one.decisions) == len(two.decisions)
    assert {d.decision_id for d in one.decisions}.isdisjoint(d.decision_id for d in two.decisions)


def test_an_answer_is_an_event_like_the_others() -> None:
    assert sum(dict(event.headers)["ce_type"] == ANSWERED.encode() for event in EVENTS) >= 2


# What Kafka would not take.


def page(text: int = 10, summary: int = 1) -> Written:
    return Written(page="p1", text="t" * text, summary_chars=summary)


@pytest.mark.parametrize(
    ("large", "reason"),
    [(page(text=5000), "row_too_large"), (page(summary=5000), "output_too_large")],
    ids=["row", "decision"],
)
@pytest.mark.parametrize("settle_s", [0, 60])
def test_what_would_be_too_large_is_refused_and_leaves_no_trace(
    large: Written, reason: str, settle_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.topology.MAX_OUT_BYTES", 4000)
    told = [say(page(), 0, "e1"), say(large, 1, "e2"), say(page(), 2, "e3"), passed(at(60))]
    memory = Memory(pages("pages", settle_s=settle_s))
    memory.lane.careful = True
    memory.send(told)
    assert [entry["reason"] for entry in memory.quarantine] == [reason]
    assert len(memory.actions) == len(memory.decisions) == 2
    chain = memory.audit
    assert [record.sequence for record in chain] == list(range(len(chain)))
    # A settled look comes later: the fact itself was small enough, and stays.
    expected = 3 if reason == "output_too_large" and settle_s else 2
    assert memory.row("page", "p1").state == Page(text="t" * 10, versions=expected)
    assert not memory.row("page", "p1").timers


def test_without_care_sizes_are_the_wires_business() -> None:
    memory = run(pages("pages"), [say(page(text=5000), 0, "e1")])
    assert memory.quarantine == []


def test_a_batch_that_is_begun_anew_makes_what_it_made() -> None:
    """Also of the time that a clock in it had brought, and of the timers that it had fired."""
    told = [
        say(page(), 0, "e1"),
        passed(at(1)),
        say(page(), 1.5, "e2"),
        passed(at(60)),
        say(page(), 61, "e3"),
    ]
    expected = run(pages("pages", settle_s=60), told)
    memory = Memory(pages("pages", settle_s=60))
    memory.send(told)
    memory.lane.start_over([])
    memory.records.clear()
    # A decision's record says from which offset it comes: the same ones are read again.
    memory._offset = 0
    memory.send(told)
    assert memory.lane.tally == expected.lane.tally
    assert memory.records == expected.records
    assert memory.lane.rows.changed() == expected.lane.rows.changed()


# Order `refold`.


class Noted(Event, type="note.taken"):
    note: str
    word: str


class Note(State):
    text: str = ""


def notes() -> Pipeline:
    """Words in the order of their times."""
    pipeline = Pipeline("notes", version=1)
    note = pipeline.entity("note", Note, key="note", order="refold", tail=10, grace=timedelta(minutes=10))

    @note.on(Noted)
    def noted(state: Note, event: Noted) -> Note:
        return state.evolve(text=f"{state.text} {event.word}".strip())

    return pipeline


def word(text: str, minutes: float, id: str) -> Given:
    return say(Noted(note="n1", word=text), minutes, id)


def test_a_late_event_is_folded_in_at_its_place_and_says_what_it_corrected() -> None:
    memory = run(notes(), [word("to", 0, "e1"), word("be", 5, "e3"), word("not", 2, "e2")])
    assert memory.row("note", "n1").state == Note(text="to not be")
    changes = [json.loads(out.value or b"") for out in memory.records["changes"]]
    assert [(change["version"], change["event_id"], change["fields"]["text"]) for change in changes] == [
        (1, "e1", ["", "to"]),
        (2, "e3", ["to", "to be"]),
        (3, "e2", ["to", "to not"]),
        # What it made of the one after it.
        (3, "e3", ["to not", "to not be"]),
    ]
    assert [change.get("late") for change in changes] == [None, None, None, "e2"]


def test_what_comes_after_the_grace_is_quarantined_and_a_repetition_is_none_of_it() -> None:
    memory = run(notes(), [word("to", 0, "e1"), word("be", 15, "e3")])
    memory.send([word("not", 2, "e2"), word("to", 0, "e1")])
    assert [(each["reason"], each["field"]) for each in memory.quarantine] == [("beyond_grace", "time")]
    assert memory.row("note", "n1").state == Note(text="to be")
    assert memory.lane.tally["duplicate", "note.taken"] == 1


def test_what_a_row_keeps_to_fold_again_survives_its_database() -> None:
    memory = run(notes(), [word("to", 0, "e1"), word("be", 5, "e3")])
    stored = {row.key: row.value for row in memory.lane.rows.changed()}
    memory.lane.rows = Rows({"note": Note}, stored.get)
    memory.send([word("not", 2, "e2")])
    assert memory.row("note", "n1").state == Note(text="to not be")
