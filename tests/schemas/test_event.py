"""schemas/event.py: bodies are strict, envelopes survive their headers, and others read them as CloudEvents."""

from __future__ import annotations

from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from schemas.event import Clock, Envelope, Event, Linked, envelope_headers, read_envelope
from schemas.row import FieldValue
from schemas.times import FIRST_MS, LAST_MS, from_ms

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ENVELOPES = st.builds(
    Envelope,
    id=TEXT,
    type=TEXT,
    source=TEXT,
    time_ms=st.integers(FIRST_MS, LAST_MS),
    subject=TEXT,
    data=st.just(b'{"flight_id":"UA1","delay_min":5}'),
    ingested_ms=st.integers(0, LAST_MS),
    traceparent=st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)


class Departed(Event, type="flight.departed"):
    flight_id: str
    delay_min: int = 0
    fuel_kg: float = 0.0


# Bodies.


def test_an_event_knows_its_type() -> None:
    assert (Departed.event_type, Event.event_type) == ("flight.departed", "")


def test_a_body_with_all_it_needs_is_read() -> None:
    event = Departed.model_validate_json('{"flight_id":"UA1","delay_min":5,"fuel_kg":7}')
    assert event == Departed(flight_id="UA1", delay_min=5, fuel_kg=7.0)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"flight_id":"UA1","delay_min":"5"}', "int_type"),
        ('{"flight_id":"UA1","delay_min":5.0}', "int_type"),
        ('{"flight_id":"UA1","delay_min":true}', "int_type"),
        ('{"flight_id":1}', "string_type"),
        ('{"flight_id":"UA1","delay":5}', "extra_forbidden"),
        ('{"delay_min":5}', "missing"),
        ('{"flight_id":"UA1","fuel_kg":NaN}', "finite_number"),
        ('{"flight_id":"UA1","fuel_kg":-Infinity}', "finite_number"),
    ],
)
def test_a_body_is_read_strictly(body: str, kind: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Departed.model_validate_json(body)
    assert [error["type"] for error in raised.value.errors()] == [kind]


def test_an_event_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Departed(flight_id="UA1").flight_id = "UA2"  # type: ignore[misc] # that is the point


def test_a_field_with_an_alias_is_read_by_either_name_and_written_by_its_own() -> None:
    """What ingest has written, the entity lane must be able to read."""

    class Landed(Event, type="flight.landed"):
        flight_id: str = Field(alias="flightId")

    event = Landed.model_validate_json('{"flightId":"UA1"}')
    assert event.model_dump_json() == '{"flight_id":"UA1"}'
    assert Landed.model_validate_json(event.model_dump_json()) == event


# Envelopes.


@settings(deadline=None)
@given(ENVELOPES)
def test_an_envelope_survives_its_headers(envelope: Envelope) -> None:
    assert read_envelope(envelope_headers(envelope), envelope.data) == envelope


@settings(deadline=None)
@given(ENVELOPES)
def test_others_read_it_as_a_cloudevent(envelope: Envelope) -> None:
    read = from_binary_event(KafkaMessage(dict(envelope_headers(envelope)), b"flight:UA1", envelope.data))
    about = read.get_attributes()
    assert {name: about[name] for name in ("specversion", "id", "type", "source", "subject", "time")} == {
        "specversion": "1.0",
        "id": envelope.id,
        "type": envelope.type,
        "source": envelope.source,
        "subject": envelope.subject,
        "time": from_ms(envelope.time_ms),
    }
    assert read.get_data() == {"flight_id": "UA1", "delay_min": 5}


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source", "ce_subject", "ms_ingested"])
def test_a_record_of_somebody_elses_is_told_by_a_missing_header(name: str) -> None:
    headers = envelope_headers(Envelope("1", "t", "s", 0, "e:k", b""))
    with pytest.raises(KeyError, match=name):
        read_envelope([header for header in headers if header[0] != name], b"")


def test_the_time_is_read_from_either_header() -> None:
    headers = envelope_headers(Envelope("1", "t", "s", 1_700_000_000_123, "e:k", b""))
    for name in ("ms_time", "ce_time"):
        read = read_envelope([header for header in headers if header[0] != name], b"")
        assert read.time_ms == 1_700_000_000_123


@settings(deadline=None)
@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
@example(("flight:a/b", "c"), ("flight:a", "b/c"))
@example(("flight:a", "b/c"), ("flight:a", "b%2Fc"))
def test_a_trigger_names_one_event(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Decision keys are derived from it: two events must never share one."""
    triggers = [Envelope(id, "t", "s", 0, subject, b"").trigger for subject, id in (one, other)]
    assert (triggers[0] == triggers[1]) == (one == other)


def test_a_plain_trigger_is_subject_and_id() -> None:
    assert Envelope("e1", "t", "s", 0, "flight:UA1", b"").trigger == "flight:UA1/e1"


# What Midstream says to itself.


@pytest.mark.parametrize(
    "wrong", [{"at_ms": LAST_MS + 1}, {"at_ms": FIRST_MS - 1}, {"origins": 0}, {"at_ms": "soon"}]
)
def test_a_clock_shows_a_time_that_can_be_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Clock.model_validate({"at_ms": 0, "origin": "raw/0", "origins": 1} | wrong)


def test_a_link_message_survives_json() -> None:
    stands = {"gate": FieldValue(5, "", None), "status": FieldValue(9, "e2", ["landed"])}
    linked = Linked(link="legs", key="UA1", event_id="e1", fields={"status": "departed"}, standing=stands)
    assert Linked.model_validate_json(linked.model_dump_json()) == linked
