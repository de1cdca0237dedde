"""The pure parts of `explain`: what is one fact, what has not been decided, and which records are not ours."""

from pathlib import Path

import pytest

from schemas.decision import DecisionRecord, Trigger
from schemas.event import Envelope, envelope_headers
from schemas.record import Given
from streams.explain import EventSeen, Explanation, event_seen, facts, needle, silent
from streams.plan import Plan, compile_plan, load


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_plan(load(Path(__file__).parents[2] / "examples" / "tickets.py"))


def seen(id: str, key: str, type: str = "ticket.opened", subject: str = "ticket:T1") -> EventSeen:
    return EventSeen(id, type, "/s", 1, 2, subject, key, 0, 5, {})


def decided(name: str, entity: str, key: str, event_id: str) -> DecisionRecord:
    return DecisionRecord(
        decision_id=f"dec_{name}",
        pipeline="tickets",
        pipeline_version=1,
        decision=name,
        entity=entity,
        key=key,
        trigger=Trigger(name="t", event_id=event_id, event_type="ticket.opened", time_ms=1),
        at_ms=1,
        state_version=1,
        context={},
        context_hash="",
        hops=[],
        route="rule",
        verdict={},
        stakes="low",
        gate="proceed",
        gate_reason="",
        source_partition=0,
        source_offset=0,
    )


def test_an_event_and_its_copies_are_one_fact(plan: Plan) -> None:
    owner, copy = seen("o1", "ticket:T1"), seen("o1", "customer:c")
    other, answer = seen("o1", "ticket:T2", subject="ticket:T2"), seen("a", "customer:c", "midstream.x")

    found = facts(plan, [owner, copy, other, answer])

    assert sorted(event.subject for event in found) == ["ticket:T1", "ticket:T2"]


def test_decisions_without_a_record_are_named(plan: Plan) -> None:
    events = [seen("o1", "ticket:T1"), seen("o1", "customer:c"), seen("a1", "ticket:T1", "ticket.answered")]
    found = Explanation("o1", events=events, decisions=[decided("triage", "ticket", "T1", "o1")])

    assert silent(plan, found) == ["first_reply", "goodwill"]


def test_an_entity_that_the_pipeline_no_longer_has_is_no_error(plan: Plan) -> None:
    assert silent(plan, Explanation("o1", events=[seen("o1", "gone:T1")])) == []


def test_an_events_record_is_read_back() -> None:
    envelope = Envelope("o1", "ticket.opened", "/s", 1000, "ticket:T1", b'{"a": [1]}', 2000)
    record = Given("p.events", 3, 7, 0, b"customer:c", envelope.data, envelope_headers(envelope))

    event = event_seen(record)

    assert event == EventSeen(
        "o1", "ticket.opened", "/s", 1000, 2000, "ticket:T1", "customer:c", 3, 7, {"a": [1]}
    )


@pytest.mark.parametrize("value", [b"{}", b"not json", None])
def test_a_record_of_somebody_else_is_none(value: bytes | None) -> None:
    assert event_seen(Given("p.events", 0, 0, 0, b"k", value, [("ce_id", b"x")])) is None


def test_ids_are_looked_for_as_json_has_them() -> None:
    assert needle('say "hi"\\é') == b'"say \\"hi\\"\\\\\xc3\xa9"'
