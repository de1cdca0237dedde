"""agents/data.py: every raw record becomes an event or is refused for one stated reason; nothing raises."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator

from agents.data import MAX_NAME_BYTES, Accepted, Bare, Door, EventType, admit
from schemas.event import CLOCK, Clock, Envelope, Event, envelope_headers, read_envelope
from schemas.keys import event_id
from schemas.quarantine import Reason, Refusal
from schemas.record import Given
from schemas.times import parse_rfc3339, rfc3339
from schemas.units import Celsius, UtcTime, word

NOON_MS = parse_rfc3339("2013-02-08T12:00:00Z")
DAY_MS = 24 * 3600 * 1000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Observed(Event, type="weather.observed"):
    airport: str | None
    temperature: Celsius | None = None
    wind: Annotated[float, Field(ge=0)] = 0.0
    gusts: list[float] = Field(default_factory=list)
    visible: bool = True
    at: UtcTime | None = None
    sky: Annotated[Literal["clear", "overcast"], word({"ovc": "overcast"})] = "clear"

    @field_validator("visible")
    @classmethod
    def divides(cls, visible: bool) -> bool:
        """Raise what no validator should."""
        return bool(1 / visible)


DOOR = Door(
    types={"weather.observed": EventType(Observed, "airport", "airport")},
    max_body_bytes=1000,
    earliest_ms=parse_rfc3339("2000-01-01T00:00:00Z"),
)
ATTRIBUTES = {
    "ce_specversion": b"1.0",
    "ce_id": b"e1",
    "ce_type": b"weather.observed",
    "ce_source": b"/stations",
    "ce_time": b"2013-02-08T12:00:00Z",
}


def raw(
    body: bytes | None = b'{"airport":"EWR"}',
    *,
    key: bytes | None = b"EWR",
    headers: Any = None,
    **attributes: Any,
) -> Given:
    """A record in binary mode; an attribute given as None is left out."""
    given = ATTRIBUTES | {f"ce_{name}": value for name, value in attributes.items()}
    plain = [(name, value) for name, value in given.items() if value is not None]
    return Given("raw", 0, 7, NOON_MS, key, body, plain if headers is None else headers)


def structured(data: Any = None, **attributes: Any) -> Given:
    """A record in structured mode."""
    event = {name.removeprefix("ce_"): value.decode() for name, value in ATTRIBUTES.items()}
    body = event | {"data": {"airport": "EWR"} if data is None else data} | attributes
    given = {name: value for name, value in body.items() if value is not ...}
    headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    return raw(json.dumps(given).encode(), headers=headers)


def accepted(record: Given, door: Door = DOOR) -> Envelope:
    judged = admit(record, door)
    assert isinstance(judged, Accepted), judged
    return judged.envelope


def refused(record: Given, door: Door = DOOR) -> tuple[Reason, str]:
    judged = admit(record, door)
    assert isinstance(judged, Refusal), judged
    return judged.reason, judged.field


def body_of(envelope: Envelope) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(envelope.data)
    return body


# 1. What Kafka itself tells.


def test_a_tombstone_is_refused() -> None:
    assert refused(raw(None)) == (Reason.TOMBSTONE, "")


@pytest.mark.parametrize("key", [None, b""])
def test_a_record_without_a_key_is_refused(key: bytes | None) -> None:
    assert refused(raw(key=key)) == (Reason.NULL_KEY, "")


def test_a_body_is_refused_when_it_is_larger_than_the_limit() -> None:
    body = b'{"airport":"EWR"' + b" " * 983 + b"}"
    assert len(body) == DOOR.max_body_bytes
    assert accepted(raw(body)).subject == "airport:EWR"
    assert refused(raw(body + b" ")) == (Reason.TOO_LARGE, "")


# 2. CloudEvents attributes.


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("id", Reason.MISSING_ID),
        ("type", Reason.MISSING_TYPE),
        ("source", Reason.MISSING_SOURCE),
        ("time", Reason.MISSING_TIME),
    ],
)
def test_an_event_without_a_required_attribute_is_refused(attribute: str, reason: Reason) -> None:
    assert refused(raw(**{attribute: None})) == (reason, attribute)
    assert refused(structured(**{attribute: ...})) == (reason, attribute)
    # Kafka allows a header without a value, and JSON a null.
    present = [(name, value) for name, value in ATTRIBUTES.items() if name != f"ce_{attribute}"]
    assert refused(raw(headers=[*present, (f"ce_{attribute}", None)])) == (reason, attribute)
    assert refused(structured(**{attribute: None})) == (reason, attribute)


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("id", Reason.EMPTY_ID),
        ("type", Reason.MISSING_TYPE),
        ("source", Reason.MISSING_SOURCE),
        ("time", Reason.MISSING_TIME),
    ],
)
def test_an_empty_attribute_says_nothing(attribute: str, reason: Reason) -> None:
    assert refused(raw(**{attribute: b""})) == (reason, attribute)


def test_an_id_of_blanks_is_empty() -> None:
    assert refused(raw(id=b" \t")) == (Reason.EMPTY_ID, "id")


@pytest.mark.parametrize("attribute", ["id", "source"])
def test_a_name_that_would_fill_every_record_about_it_is_refused(attribute: str) -> None:
    longest = "ü" * (MAX_NAME_BYTES // 2)
    assert accepted(raw(**{attribute: longest.encode()})).subject == "airport:EWR"
    assert refused(raw(**{attribute: f"{longest}x".encode()})) == (Reason.TOO_LARGE, attribute)


def test_an_attribute_in_another_encoding_is_refused() -> None:
    assert refused(raw(source="/flughäfen".encode("latin-1"))) == (Reason.WRONG_ENCODING, "headers")


def test_a_record_that_is_no_cloudevent_is_refused() -> None:
    assert refused(raw(headers=[])) == (Reason.NOT_AN_EVENT, "source")


def test_a_structured_event_must_be_an_object_with_data() -> None:
    headers = [("content-type", b"application/cloudevents+json")]
    assert refused(raw(b"[]", headers=headers)) == (Reason.NOT_AN_EVENT, "")
    assert refused(raw(b"{", headers=headers)) == (Reason.NOT_JSON, "")
    assert refused(structured(data=...)) == (Reason.MISSING_FIELD, "data")


# 3. Time.


@pytest.mark.parametrize("time", [b"noon", b"no zone", b"2013-02-30T00:00:00Z", b"9999-12-31T23:59:59-05:00"])
def test_a_time_that_is_none_is_refused(time: bytes) -> None:
    assert refused(raw(time=time), replace(DOOR, ahead_ms=1 << 60)) == (Reason.BAD_TIME, "time")


@pytest.mark.parametrize("time", [b"2013-02-08T12:00:00", b"2013-02-08"])
def test_a_time_without_a_zone_is_refused(time: bytes) -> None:
    assert refused(raw(time=time)) == (Reason.NAIVE_TIME, "time")


def test_an_event_may_be_ahead_of_its_arrival_by_a_day_and_no_more() -> None:
    assert accepted(raw(time=rfc3339(NOON_MS + DAY_MS).encode())).time_ms == NOON_MS + DAY_MS
    assert refused(raw(time=rfc3339(NOON_MS + DAY_MS + 1).encode())) == (Reason.FUTURE_TIME, "time")


def test_an_event_may_be_as_old_as_the_pipeline_says_and_no_older() -> None:
    assert accepted(raw(time=rfc3339(DOOR.earliest_ms).encode())).time_ms == DOOR.earliest_ms
    assert refused(raw(time=rfc3339(DOOR.earliest_ms - 1).encode())) == (Reason.ANCIENT_TIME, "time")


@pytest.mark.parametrize("time", [b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59.999Z"])
def test_any_time_that_is_let_in_can_be_written(time: bytes) -> None:
    envelope = accepted(raw(time=time), replace(DOOR, earliest_ms=-(1 << 60), ahead_ms=1 << 60))
    assert read_envelope(envelope_headers(envelope), envelope.data) == envelope


# 4. Type.


def test_an_unknown_type_is_refused() -> None:
    assert refused(raw(type=b"weather.forecast")) == (Reason.UNKNOWN_TYPE, "type")


# 5. Body.


@pytest.mark.parametrize("body", [b"", b"{", b'{"airport":"EWR"} x', b"airport=EWR", b"{'airport':'EWR'}"])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert refused(raw(body)) == (Reason.NOT_JSON, "")


@pytest.mark.parametrize(
    "body",
    [
        '{"airport":"EWR"}'.encode("utf-16"),
        '{"airport":"EWR"}'.encode("utf-16-le"),
        '{"airport":"EWR"}'.encode("utf-16-be"),
        '{"airport":"EWR"}'.encode("utf-32"),
        '{"airport":"Zürich"}'.encode("latin-1"),
        '{"airport":"EWR"}'.encode("utf-8-sig"),
    ],
    ids=["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "byte order mark"],
)
def test_another_encoding_is_told_from_bad_json(body: bytes) -> None:
    assert refused(raw(body)) == (Reason.WRONG_ENCODING, "")
    headers = [("content-type", b"application/cloudevents+json")]
    assert refused(raw(body, headers=headers)) == (Reason.WRONG_ENCODING, "")


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        ({}, Reason.MISSING_FIELD, "airport"),
        ({"airport": "EWR", "humidity": 3}, Reason.UNKNOWN_FIELD, "humidity"),
        ({"airport": 7}, Reason.WRONG_TYPE, "airport"),
        ({"airport": "EWR", "gusts": [1.0, "2"]}, Reason.WRONG_TYPE, "gusts.1"),
        ({"airport": "EWR", "temperature": {"value": "7", "unit": "degC"}}, Reason.WRONG_TYPE, "temperature"),
        ([], Reason.WRONG_TYPE, ""),
        ({"airport": "EWR", "wind": float("nan")}, Reason.NOT_FINITE, "wind"),
        ({"airport": "EWR", "gusts": [float("inf")]}, Reason.NOT_FINITE, "gusts.0"),
        ({"airport": "EWR", "wind": float("-inf")}, Reason.NOT_FINITE, "wind"),
        (
            {"airport": "EWR", "temperature": {"value": float("nan"), "unit": "degF"}},
            Reason.NOT_FINITE,
            "temperature",
        ),
        ({"airport": "EWR", "wind": -1}, Reason.OUT_OF_RANGE, "wind"),
        ({"airport": "EWR", "sky": "green"}, Reason.OUT_OF_RANGE, "sky"),
        ({"airport": "EWR", "temperature": {"value": 7, "unit": "R"}}, Reason.OUT_OF_RANGE, "temperature"),
        (
            {"airport": "EWR", "temperature": {"value": 10**400, "unit": "K"}},
            Reason.OUT_OF_RANGE,
            "temperature",
        ),
        ({"airport": "EWR", "at": "9999-12-31T23:59:59-05:00"}, Reason.OUT_OF_RANGE, "at"),
        ({"airport": "EWR", "at": "2013-02-08T12:00:00"}, Reason.NAIVE_TIME, "at"),
        ({"airport": "EWR", "visible": False}, Reason.VALIDATOR_FAILED, ""),
    ],
)
def test_a_body_that_its_model_does_not_take_is_refused(body: Any, reason: Reason, field: str) -> None:
    """With the path of the field, in binary and in structured mode alike."""
    assert refused(raw(json.dumps(body).encode())) == (reason, field)
    assert refused(structured(body)) == (reason, field)


def test_a_refusal_says_which_validator_of_the_authors_failed_and_how() -> None:
    judged = admit(raw(b'{"airport":"EWR","visible":false}'), DOOR)
    assert isinstance(judged, Refusal)
    assert judged.detail == "a validator of Observed raised ZeroDivisionError: division by zero"


# 6. Owner.


@pytest.mark.parametrize("airport", ['""', "null"])
def test_an_event_about_nobody_is_refused(airport: str) -> None:
    assert refused(raw(b'{"airport":%s}' % airport.encode())) == (Reason.EMPTY_ENTITY_KEY, "airport")


def test_an_entity_key_that_would_fill_every_record_about_it_is_refused() -> None:
    door = replace(DOOR, max_body_bytes=10_000)
    body = json.dumps({"airport": "x" * (MAX_NAME_BYTES + 1)}).encode()
    assert refused(raw(body), door) == (Reason.TOO_LARGE, "airport")


def test_an_entity_key_is_kept_as_it_is() -> None:
    judged = admit(raw(json.dumps({"airport": "a:b/ü "}).encode()), DOOR)
    assert isinstance(judged, Accepted)
    assert (judged.key, judged.envelope.subject) == ("a:b/ü ", "airport:a:b/ü ")


# The event that goes on.


def test_an_event_goes_on_with_all_that_was_said_about_it() -> None:
    assert accepted(raw(b'{"airport":"EWR","wind":3}')) == Envelope(
        id="e1",
        type="weather.observed",
        source="/stations",
        time_ms=NOON_MS,
        subject="airport:EWR",
        data=b'{"airport":"EWR","temperature":null,"wind":3.0,"gusts":[],"visible":true,"at":null,"sky":"clear"}',
        ingested_ms=NOON_MS,
    )


def test_an_event_goes_on_in_canonical_form() -> None:
    """UTC, canonical units, words as the model spells them."""
    body = {
        "airport": "EWR",
        "at": "2013-02-08T14:00:00+02:00",
        "temperature": {"value": 212, "unit": "degF"},
        "sky": " OVC ",
    }
    envelope = accepted(raw(json.dumps(body).encode(), time=b"2013-02-08T13:00:00+01:00"))
    assert envelope.time_ms == NOON_MS
    normal = body_of(envelope)
    assert (normal["at"], normal["temperature"], normal["sky"]) == ("2013-02-08T12:00:00Z", 100.0, "overcast")


def test_binary_and_structured_mode_say_the_same() -> None:
    data = {"airport": "EWR", "wind": 1e3, "sky": "ovc"}
    assert accepted(structured(data)) == accepted(raw(json.dumps(data).encode()))


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json", b"Application/CloudEvents+JSON;charset=utf-8"]
)
def test_a_media_type_is_read_in_any_case(content_type: bytes) -> None:
    record = raw(structured().value, headers=[("content-type", content_type)])
    assert accepted(record).id == "e1"


def test_events_of_the_cloudevents_library_are_read_in_both_modes() -> None:
    attributes = {name.removeprefix("ce_"): value.decode() for name, value in ATTRIBUTES.items()}
    noon = datetime(2013, 2, 8, 12, tzinfo=UTC)
    event = CloudEvent(attributes | {"time": noon, "datacontenttype": "application/json"}, {"airport": "EWR"})
    for message in (to_binary_event(event), to_structured_event(event)):
        record = raw(message.value, headers=list(message.headers.items()))
        assert accepted(record) == accepted(raw())


def test_a_trace_goes_on_from_the_event_or_from_the_record() -> None:
    header = ("traceparent", TRACE.encode())
    binary, plain = raw(), structured()
    assert accepted(binary._replace(headers=[*binary.headers, header])).traceparent == TRACE
    assert accepted(plain._replace(headers=[*plain.headers, header])).traceparent == TRACE
    assert accepted(structured(traceparent=TRACE)).traceparent == TRACE
    assert accepted(binary).traceparent is None


@pytest.mark.parametrize("trace", [b"", b"garbage", b"\xff\xfe", TRACE.encode() + b"x" * 1000])
def test_a_trace_that_is_none_is_left_behind(trace: bytes) -> None:
    binary = raw()
    assert accepted(binary._replace(headers=[*binary.headers, ("traceparent", trace)])).traceparent is None


def test_what_ingest_writes_the_entity_lane_can_read() -> None:
    envelope = accepted(raw(b'{"airport":"EWR","temperature":{"value":1,"unit":"degF"},"sky":"OVC"}'))
    again = Observed.model_validate_json(envelope.data)
    assert again.model_dump_json().encode() == envelope.data


# Plain JSON by a declared mapping.

STATIONS = Bare("/stations", type="meta.kind", time="meta.at", id="meta.no", data="reading")
BARE = replace(
    DOOR, bare={"stations": STATIONS, "other": replace(STATIONS, source="/other", id=None, data=None)}
)


def bare(body: Any, source: bytes | None = b"stations") -> Given:
    return raw(json.dumps(body).encode(), headers=[] if source is None else [("source", source)])


def reading(**meta: Any) -> dict[str, Any]:
    about = {"kind": "weather.observed", "at": "2013-02-08T12:00:00Z", "no": "e1"} | meta
    return {
        "meta": {name: value for name, value in about.items() if value is not ...},
        "reading": {"airport": "EWR"},
    }


def test_plain_json_of_a_declared_source_is_an_event() -> None:
    assert accepted(bare(reading()), BARE) == accepted(raw())


def test_a_number_may_be_an_id() -> None:
    assert accepted(bare(reading(no=17)), BARE).id == "17"


def test_without_an_id_a_hash_of_source_and_body_is_the_id() -> None:
    flat = replace(STATIONS, type="airport", time="at", id=None, data=None)
    door = replace(DOOR, types={"EWR": DOOR.types["weather.observed"]}, bare={"flat": flat})
    record = bare({"airport": "EWR", "at": "2013-02-08T12:00:00Z"}, b"flat")
    assert record.value is not None
    assert accepted(record, door).id == event_id("/stations", record.value)
    assert accepted(record._replace(value=record.value + b" "), door).id != accepted(record, door).id


def test_a_source_that_does_not_name_itself_is_the_only_one_declared() -> None:
    only = replace(DOOR, bare={"stations": STATIONS})
    assert accepted(bare(reading(), None), only).id == "e1"
    assert refused(bare(reading(), None), BARE) == (Reason.NO_MAPPING, "source")


def test_plain_json_of_an_unknown_source_is_refused() -> None:
    assert refused(bare(reading(), b"ships"), BARE) == (Reason.NO_MAPPING, "source")


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (reading(no=...), Reason.MISSING_ID, "id"),
        (reading(no=True), Reason.MISSING_ID, "id"),
        (reading(no=""), Reason.EMPTY_ID, "id"),
        (reading(kind=...), Reason.MISSING_TYPE, "type"),
        (reading(kind={"a": 1}), Reason.MISSING_TYPE, "type"),
        (reading(at=...), Reason.MISSING_TIME, "time"),
        (reading(at=1360324800), Reason.BAD_TIME, "time"),
        ({"meta": reading()["meta"]}, Reason.MISSING_FIELD, "reading"),
        ({"meta": 5, "reading": {"airport": "EWR"}}, Reason.MISSING_ID, "id"),
        ([], Reason.NOT_AN_EVENT, ""),
    ],
)
def test_plain_json_without_what_the_mapping_names_is_refused(body: Any, reason: Reason, field: str) -> None:
    assert refused(bare(body), BARE) == (reason, field)


# The clock of a playback.


def tick(**changes: Any) -> Given:
    clock = {"at_ms": NOON_MS, "origin": "raw/0", "origins": 1} | changes
    return raw(json.dumps(clock).encode(), headers=[("ce_type", CLOCK.encode())])


def test_a_clock_is_believed_only_in_playback() -> None:
    assert admit(tick(), replace(DOOR, playback=True)) == Clock(at_ms=NOON_MS, origin="raw/0", origins=1)
    assert refused(tick())[0] == Reason.MISSING_ID
    assert refused(raw(type=CLOCK.encode())) == (Reason.UNKNOWN_TYPE, "type")


def test_a_clock_that_shows_no_time_is_refused() -> None:
    playback = replace(DOOR, playback=True)
    assert refused(tick(at_ms="noon"), playback) == (Reason.WRONG_TYPE, "at_ms")
    assert refused(tick(at_ms=1 << 60), playback) == (Reason.OUT_OF_RANGE, "at_ms")
    assert refused(tick(origins=0), playback) == (Reason.OUT_OF_RANGE, "origins")


# Whatever comes.

INGEST_REASONS = set(Reason) - {
    *(
        Reason.ID_CONFLICT,
        Reason.BEYOND_DEDUPE,
        Reason.BEYOND_GRACE,
        Reason.REDUCER_FAILED,
        Reason.DECISION_FAILED,
    ),
    *(Reason.REVIEW_NOT_OPEN, Reason.FOREIGN_RECORD, Reason.ROW_TOO_LARGE, Reason.OUTPUT_TOO_LARGE),
    Reason.ILLEGAL_TRANSITION,
}
NAMES = st.sampled_from([*ATTRIBUTES, "content-type", "traceparent", "source", "ce_", "ce_x"]) | st.text(
    max_size=3
)
VALUES = (
    st.none()
    | st.binary(max_size=20)
    | st.sampled_from(
        [*ATTRIBUTES.values(), b"application/cloudevents+json", b"stations", b"other", CLOCK.encode()]
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["airport", "temperature", "value", "unit", "at", "data", "time", "id", "meta", "at_ms"]
            )
            | st.text(max_size=2),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
BODIES = st.none() | st.binary(max_size=40) | JSON.map(lambda body: json.dumps(body).encode())


@settings(deadline=None, max_examples=500)
@given(
    st.none() | st.binary(max_size=4),
    BODIES,
    st.lists(st.tuples(NAMES, VALUES), max_size=8),
    st.booleans(),
)
@example(b"k", b'{"airport":"\\ud800"}', [*ATTRIBUTES.items()], False)
@example(b"k", b'{"airport":' + b"[" * 900, [*ATTRIBUTES.items()], False)
@example(b"k", b'{"wind":1' + b"0" * 900 + b"}", [*ATTRIBUTES.items()], False)
@example(
    b"k", b'{"data":' * 80 + b"1" + b"}" * 80, [("content-type", b"application/cloudevents+json")], False
)
def test_whatever_comes_is_judged(
    key: bytes | None, body: bytes | None, headers: list[tuple[str, Any]], playback: bool
) -> None:
    judged = admit(raw(body, key=key, headers=headers), replace(BARE, playback=playback))
    if isinstance(judged, Accepted):
        assert read_envelope(envelope_headers(judged.envelope), judged.envelope.data) == judged.envelope
    elif isinstance(judged, Refusal):
        assert judged.reason in INGEST_REASONS
    else:
        assert playback


def test_every_reason_that_ingest_can_give_has_a_test() -> None:
    """A new reason without a test here would be a promise that nobody checks."""
    source = Path(__file__).read_text(encoding="utf-8")
    tests = source[: source.index("INGEST_REASONS = ")]
    assert {reason.name for reason in INGEST_REASONS if f"Reason.{reason.name}" not in tests} == set()
