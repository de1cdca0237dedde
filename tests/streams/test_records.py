"""streams/records.py: how each output is keyed, headed and placed."""

from __future__ import annotations

import json

import pytest

from agents.links import LinkOut
from schemas.audit import AuditRecord, sealed
from schemas.event import CLOCK, LINKED, Clock, Envelope, Linked, read_envelope
from schemas.lane import LaneRow
from schemas.quarantine import Reason, Refusal, original_headers, read_quarantine
from schemas.record import Given
from streams import records, topics

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CAUSE = Envelope("e1", "order.paid", "/till", 1_700_000_000_123, "order:o1", b'{"a":1}', 77, TRACE)


def test_a_fact_keeps_its_envelope_and_takes_the_key_of_who_hears_it() -> None:
    out = records.fact("customer", "c1", CAUSE)
    assert (out.topic, out.key, out.partition) == (topics.EVENTS, b"customer:c1", None)
    assert read_envelope(out.headers, out.value or b"") == CAUSE


def test_a_clock_goes_to_the_partition_it_is_for() -> None:
    out = records.clock(Clock(at_ms=5000, origin="raw/2", origins=3), 1, 99)
    read = read_envelope(out.headers, out.value or b"")
    assert (out.topic, out.key, out.partition) == (topics.EVENTS, b"clock", 1)
    assert (read.type, read.id, read.time_ms, read.ingested_ms) == (CLOCK, "raw/2@5000", 5000, 99)
    assert Clock.model_validate_json(read.data) == Clock(at_ms=5000, origin="raw/2", origins=3)


def test_a_link_is_an_event_of_the_other_entity_caused_by_this_one() -> None:
    out = records.link(
        CAUSE, LinkOut("customer", "c1", Linked(link="orders", key="o1", event_id="e1", fields={}))
    )
    read = read_envelope(out.headers, out.value or b"")
    assert out.key == b"customer:c1"
    assert (read.type, read.subject, read.time_ms) == (LINKED, "order:o1", CAUSE.time_ms)
    assert (read.ingested_ms, read.traceparent) == (77, TRACE)


def test_link_ids_are_derived_and_tell_apart_what_differs() -> None:
    def id_of(cause: Envelope, target: str, key: str, removed: bool) -> str:
        linked = Linked(link="orders", key="o1", event_id="e1", fields={}, removed=removed)
        out = records.link(cause, LinkOut(target, key, linked))
        return read_envelope(out.headers, b"").id

    other = Envelope("e2", "order.paid", "/till", 0, "order:o1", b"")
    ids = [
        id_of(CAUSE, "customer", "c1", False),
        id_of(CAUSE, "customer", "c1", True),
        id_of(CAUSE, "customer", "c2", False),
        id_of(CAUSE, "shop", "c1", False),
        id_of(other, "customer", "c1", False),
    ]
    assert len(set(ids)) == len(ids)
    assert id_of(CAUSE, "customer", "c1", False) == ids[0]


def test_two_links_to_one_entity_are_two_events() -> None:
    one = LinkOut("customer", "c1", Linked(link="bought", key="o1", event_id="e1", fields={}))
    two = LinkOut("customer", "c1", Linked(link="received", key="o1", event_id="e1", fields={}))
    read = [read_envelope(records.link(CAUSE, out).headers, b"") for out in (one, two)]
    # CloudEvents: what must be unique is source and id together.
    assert len({(envelope.source, envelope.id) for envelope in read}) == 2


def raw(key: bytes | None, value: bytes | None) -> Given:
    return Given("raw", 3, 14, 0, key, value, [("ce_id", b"x"), ("x", b"\xff\x00"), ("ce_id", b"y")])


@pytest.mark.parametrize("key", [b"k", b"", None])
@pytest.mark.parametrize("value", [b"\x00\xff", b"", None])
def test_a_refused_record_keeps_its_bytes_and_headers(key: bytes | None, value: bytes | None) -> None:
    record = raw(key, value)
    out = records.refused(record, "shop.raw", 3, Refusal(Reason.WRONG_TYPE, "a.b", "not a number"))
    assert (out.topic, out.key, out.value) == (topics.QUARANTINE, key, value)
    assert original_headers(out.headers) == list(record.headers)
    why = read_quarantine(out.headers)
    assert (why["reason"], why["field"], why["detail"]) == ("wrong_type", "a.b", "not a number")
    assert (why["topic"], why["partition"], why["offset"]) == ("shop.raw", "3", "14")


def test_a_record_that_is_refused_again_says_the_new_reason_alone() -> None:
    first = records.refused(raw(b"k", b"v"), "shop.raw", 3, Refusal(Reason.WRONG_TYPE))
    again = Given("raw", 0, 99, 0, first.key, first.value, first.headers)
    second = records.refused(again, "shop.raw", 0, Refusal(Reason.UNKNOWN_TYPE))
    assert original_headers(second.headers) == list(raw(b"k", b"v").headers)
    assert read_quarantine(second.headers)["reason"] == "unknown_type"


def test_a_quarantine_id_says_where_the_record_stood() -> None:
    def id_of(offset: int, part: str = "") -> str:
        record = Given("raw", 0, offset, 0, b"k", b"v")
        return read_quarantine(records.refused(record, "t", 0, Refusal(Reason.WRONG_TYPE), part).headers)[
            "id"
        ]

    assert id_of(1) == id_of(1)
    assert len({id_of(1), id_of(2), id_of(1, "timer a"), id_of(1, "timer b")}) == 4


def test_a_context_hash_is_of_its_bytes() -> None:
    assert records.hash_of({"a": 1, "b": [1, 2]}) == records.hash_of({"a": 1, "b": [1, 2]})
    assert records.hash_of({"a": 1}) != records.hash_of({"a": 2})
    assert len(records.hash_of({})) == 32


def entry(decision: str) -> AuditRecord:
    return AuditRecord(
        sequence=0,
        at_ms=5,
        what="decided",
        by="rule:x@1",
        why="because",
        entity="order",
        key="o1",
        decision_id=decision,
        previous_hash="",
    )


def test_audit_records_are_chained_through_the_lane() -> None:
    lane, first = records.audited(LaneRow(), entry("d1"), 2)
    lane, second = records.audited(lane, entry("d2"), 2)
    one, two = (AuditRecord.model_validate_json(out.value or b"") for out in (first, second))
    assert (one.sequence, two.sequence, lane.audit_sequence) == (0, 1, 2)
    assert (one.previous_hash, two.previous_hash, lane.audit_hash) == ("", one.hash, two.hash)
    assert sealed(two).hash == two.hash
    assert (first.topic, first.key, first.partition) == (topics.AUDIT, b"lane:2", 2)


def test_the_hash_of_an_audit_record_covers_every_other_field() -> None:
    base = sealed(entry("d1"))
    others = {
        "sequence": 1,
        "by": "x",
        "why": "x",
        "key": "x",
        "previous_hash": "x",
        "review_id": "x",
        "action_id": "x",
    }
    hashes = {sealed(base.model_copy(update={name: value})).hash for name, value in others.items()}
    assert len(hashes | {base.hash}) == len(others) + 1


def test_bodies_are_json_that_anybody_reads() -> None:
    out = records.clock(Clock(at_ms=5000, origin="raw/2", origins=3), 1, 99)
    assert json.loads(out.value or b"") == {
        "at_ms": 5000,
        "origin": "raw/2",
        "origins": 3,
        "rank": 1,
        "final": False,
    }


def test_a_change_is_written_as_json_whatever_is_in_the_names() -> None:
    odd = 'a"b\\c\n\u2028ü'
    of = records.Subject("order", odd, b"order:x", 4, 2)
    out = records.changed(of, 5, odd, "order.paid", '{"total":[0,7]}', {odd: odd}, late=odd)
    assert (out.topic, out.key, out.partition) == (topics.CHANGES, b"order:x", 2)
    assert json.loads(out.value or b"") == {
        "entity": "order",
        "key": odd,
        "version": 4,
        "time_ms": 5,
        "event_id": odd,
        "event_type": "order.paid",
        "fields": {"total": [0, 7]},
        "said": {odd: odd},
        "late": odd,
    }


def test_a_change_has_no_more_in_it_than_there_is_to_say() -> None:
    out = records.changed(records.Subject("order", "x", b"order:x", 1, 0), 5, "e1", "order.paid", "", {})
    assert json.loads(out.value or b"").keys() == {
        *("entity", "key", "version", "time_ms", "event_id", "event_type", "fields")
    }
