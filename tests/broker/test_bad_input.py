"""What the world can send, on a real broker with a real worker: each bad record ends in quarantine with its own reason
and its own bytes, none stops a lane, and the good event behind it is processed.

One worker reads it all, published by librdkafka and by aiokafka.
"""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic_core import to_json

from schemas.event import ANSWERED, CLOCK, LINKED, Envelope, Linked, envelope_headers
from schemas.record import Given
from schemas.times import rfc3339, to_ms
from streams import kafka as door
from streams.settings import KafkaSettings
from streams.topics import MAX_RECORD_BYTES
from tests.support.meter import meters
from tests.support.topics import Got, Header, Watcher, publish, read
from tests.support.workers import Worker, create, unique

# One group: the worker that reads it all is started once.
pytestmark = [pytest.mark.broker, pytest.mark.timeout(120), pytest.mark.xdist_group("bad_input")]

NOW = datetime.now(UTC).replace(microsecond=0)
LIBRDKAFKA, AIOKAFKA = "librdkafka", "aiokafka"
# Kafka has headers without a value, whatever the clients' annotations say.
NO_VALUE: Any = None
PUBLISHERS = (LIBRDKAFKA, AIOKAFKA)
BODY: dict[str, Any] = {"meter": "bad", "value": 1.5}


def body(**changes: Any) -> bytes:
    """A good body with changes; None takes a field away."""
    return json.dumps({name: value for name, value in (BODY | changes).items() if value is not None}).encode()


def headers(**changes: str | bytes | None) -> list[Header]:
    """Good binary-mode headers with changes; None takes one away."""
    given: dict[str, str | bytes | None] = {
        "specversion": "1.0",
        "id": "@",
        "type": "meter.measured",
        "source": "/roof",
        "time": rfc3339(to_ms(NOW)),
    }
    given |= changes
    return [
        (f"ce_{name}", text if isinstance(text, bytes) else text.encode())
        for name, text in given.items()
        if text is not None
    ]


@dataclass(frozen=True)
class Case:
    """One bad record, and what must be said of it."""

    reason: str
    value: bytes | None = field(default=body(), repr=False)
    where: str = ""
    given: list[Header] = field(default_factory=headers)
    key: bytes | None = b"roof"
    publishers: Sequence[str] = PUBLISHERS


STRUCTURED = ("content-type", b"application/cloudevents+json; charset=utf-8")
PLAIN = ("source", b"plain")
ENVELOPE = {
    "specversion": "1.0",
    "id": "s",
    "type": "meter.measured",
    "source": "/roof",
    "time": rfc3339(to_ms(NOW)),
}

CASES: dict[str, Case] = {
    "not JSON": Case("not_json", b"{'meter': 1}"),
    "an empty body": Case("not_json", b""),
    "half a body": Case("not_json", body()[:-4]),
    "a body nested too deep": Case("not_json", b"[" * 100_000),
    "a list": Case("wrong_type", b"[1, 2]"),
    "a number as text": Case("wrong_type", body(value="1.5"), "value"),
    "a number with a fraction where none may be": Case("wrong_type", body(count=1.5), "count"),
    "a number of the size of a book": Case("not_json", b'{"meter":"bad","value":' + b"9" * 10_000 + b"}"),
    "a truth value as a number": Case("wrong_type", body(value=True), "value"),
    "a missing field": Case("missing_field", body(value=None), "value"),
    "an unknown field": Case("unknown_field", body(colour="red"), "colour"),
    "an unknown field with an endless name": Case("unknown_field", body(**{"x" * 300_000: 1}), "x" * 500),
    "a value out of range": Case("out_of_range", body(share=1.5), "share"),
    "an unknown unit": Case("out_of_range", body(outside={"value": 1, "unit": "stone"}), "outside"),
    "a quantity too large to convert": Case(
        "out_of_range", body(outside={"value": 10**400, "unit": "degF"}), "outside"
    ),
    "NaN": Case("not_finite", b'{"meter":"bad","value":NaN}', "value"),
    "infinity": Case("not_finite", b'{"meter":"bad","value":-Infinity}', "value"),
    "a number that overflows": Case("not_finite", b'{"meter":"bad","value":1e999}', "value"),
    "no id": Case("missing_id", given=headers(id=None), where="id"),
    "an empty id": Case("empty_id", given=headers(id=""), where="id"),
    "an id of spaces": Case("empty_id", given=headers(id="  "), where="id"),
    "an id as long as a book": Case("too_large", given=headers(id="x" * 5000), where="id"),
    "no type": Case("missing_type", given=headers(type=None), where="type"),
    "an unknown type": Case("unknown_type", given=headers(type="meter.eaten"), where="type"),
    "a clock, although nobody plays": Case("unknown_type", given=headers(type=CLOCK), where="type"),
    "a link from outside": Case("unknown_type", given=headers(type=LINKED), where="type"),
    "an answer from outside": Case("unknown_type", given=headers(type=ANSWERED), where="type"),
    "no source": Case("missing_source", given=headers(source=None), where="source"),
    "no time": Case("missing_time", given=headers(time=None), where="time"),
    "a time that is none": Case("bad_time", given=headers(time="yesterday"), where="time"),
    "a time without a zone": Case("naive_time", given=headers(time="2024-05-01T12:00:00"), where="time"),
    "a future time": Case(
        "future_time", given=headers(time=rfc3339(to_ms(NOW + timedelta(days=2)))), where="time"
    ),
    "an ancient time": Case("ancient_time", given=headers(time="1999-12-31T23:59:59Z"), where="time"),
    "the last instant of the calendar": Case(
        "bad_time", given=headers(time="9999-12-31T23:59:59-23:59"), where="time"
    ),
    "a naive time in the body": Case("naive_time", body(at="2024-05-01T12:00:00"), "at"),
    "a time in the body before the calendar": Case(
        "out_of_range", body(at="0001-01-01T00:00:00+14:00"), "at"
    ),
    "UTF-16": Case("wrong_encoding", body().decode().encode("utf-16")),
    "UTF-16 without a mark": Case("wrong_encoding", body().decode().encode("utf-16-le")),
    "Latin-1": Case("wrong_encoding", body(note="Zürich").replace(b"\\u00fc", b"\xfc")),
    "a byte order mark": Case("wrong_encoding", b"\xef\xbb\xbf" + body()),
    "bytes": Case("wrong_encoding", bytes(range(256))),
    "a header in Latin-1": Case(
        "wrong_encoding", given=headers(source="Zürich".encode("latin-1")), where="headers"
    ),
    "a header without a value": Case(
        "missing_id", given=[("ce_id", NO_VALUE), *headers(id=None)], where="id", publishers=[LIBRDKAFKA]
    ),
    "a null key": Case("null_key", key=None),
    "an empty key": Case("null_key", key=b""),
    "a tombstone": Case("tombstone", None),
    "an empty entity key": Case("empty_entity_key", body(meter=""), "meter"),
    "an entity key as long as a book": Case("too_large", body(meter="m" * 5000), "meter"),
    "10 MB": Case("too_large", os.urandom(10 << 20)),
    "as large as Kafka lets in": Case("too_large", os.urandom(MAX_RECORD_BYTES - 8192)),
    "no CloudEvent, and not what plain JSON is declared to be": Case("missing_field", given=[], where="body"),
    "plain JSON from an unknown source": Case("no_mapping", given=[("source", b"nobody")], where="source"),
    "plain JSON without its id": Case("missing_id", b'{"kind":"meter.measured","body":{}}', "id", [PLAIN]),
    "plain text": Case("not_json", b"hello", given=[PLAIN]),
    "a plain number": Case("not_an_event", b"42", given=[PLAIN]),
    "a structured event without a body": Case("missing_field", to_json(ENVELOPE), "data", [STRUCTURED]),
    "a structured event that is no JSON": Case("not_json", b"{", given=[STRUCTURED]),
    "a structured event with a bad body": Case(
        "wrong_type", to_json(ENVELOPE | {"data": {"meter": 1, "value": 1.0}}), "meter", [STRUCTURED]
    ),
}


def filled(case: Case, label: str) -> Given:
    """The record of a case: with an id and a label of its own."""
    given = [(name, label.encode() if value == b"@" else value) for name, value in case.given]
    return Given("raw", 0, 0, 0, case.key, case.value, [*given, ("x-case", label.encode())])


def good(id: str, meter: str, after_s: int = 0, **changes: Any) -> Given:
    time = rfc3339(to_ms(NOW + timedelta(seconds=after_s)))
    return Given("raw", 0, 0, 0, b"roof", body(meter=meter, **changes), headers(id=id, time=time))


async def publish_aiokafka(kafka: KafkaSettings, topic: str, records: Iterable[Given]) -> None:
    """As any Python service would."""
    async with door.plain_producer(kafka.client_options()) as producer:
        futures = [
            await producer.send(topic, record.value, key=record.key, headers=list(record.headers))
            for record in records
        ]
        await asyncio.gather(*futures)


# Written straight to `events`, where only Midstream writes.


def envelope(type: str) -> list[Header]:
    return envelope_headers(Envelope("f", type, "/foreign", to_ms(NOW), "meter:bad", b""))


MEASURED = envelope("meter.measured")
LINK = to_json(Linked(link="x", key="x", event_id="e1", fields={}))
FOREIGN: dict[str, Given] = {
    "a stranger": Given("", 0, 0, 0, b"hello", b"world"),
    "a stranger without a key": Given("", 0, 0, 0, None, b"world"),
    "a tombstone": Given("", 0, 0, 0, b"meter:bad", None),
    "an unknown entity": Given("", 0, 0, 0, b"cat:tom", body(), MEASURED),
    "an unknown type": Given("", 0, 0, 0, b"meter:bad", body(), envelope("meter.eaten")),
    "a bad body": Given("", 0, 0, 0, b"meter:bad", b'{"meter":1}', MEASURED),
    "a bad clock": Given("", 0, 0, 0, b"clock", b"noon", envelope(CLOCK)),
    "a bad link": Given("", 0, 0, 0, b"meter:bad", LINK, envelope(LINKED)),
    "a header without a value": Given("", 0, 0, 0, b"meter:bad", body(), [("ce_id", NO_VALUE)]),
}


@dataclass
class Played:
    """Everything that came of it."""

    worker: Worker
    quarantine: list[Got]
    meters: dict[str, dict[str, Any]]
    actions: list[Got]

    def refused(self, label: str) -> Got:
        """The one quarantine record with that label."""
        (found,) = [got for got in self.quarantine if ("x-case", label.encode()) in got.headers]
        return found


@pytest.fixture(scope="module")
def played(kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    name = unique("meters")
    asyncio.run(create(kafka, meters(name), 2))
    worker = Worker(kafka, tmp_path_factory.mktemp("bad"), f"tests.support.meter:meters({name!r})").start()
    try:
        for publisher in PUBLISHERS:
            records: list[Given] = []
            for number, (label, case) in enumerate(CASES.items()):
                if publisher in case.publishers:
                    records.append(filled(case, f"{publisher}: {label}"))
                records.append(good(f"{publisher}/{label}", f"behind-{publisher}", number))
            # The same id about the same meter, with another body.
            records += [good(f"{publisher}-twice", "twice", value=value) for value in (1.0, 2.0, 1.0)]
            # As large as a body may be: it becomes an event, and a row.
            limit = 1 << 20
            space = limit - len(body(meter=f"large-{publisher}", note=" ", value=150.5)) + 1
            note = b64encode(os.urandom(space)).decode()[:space]
            records.append(good(f"{publisher}-large", f"large-{publisher}", note=note, value=150.5))
            if publisher == LIBRDKAFKA:
                publish(kafka, f"{name}.raw", records, compression="zstd")
            else:
                asyncio.run(publish_aiokafka(kafka, f"{name}.raw", records))
        foreign = [
            g._replace(headers=[*g.headers, ("x-case", f"events: {label}".encode())])
            for label, g in FOREIGN.items()
        ]
        publish(kafka, f"{name}.events", foreign, partition=0)
        publish(kafka, f"{name}.raw", [good("last", f"last-{n}", value=100.0) for n in range(8)])
        watcher = Watcher(kafka, name, f"{name}.raw", f"{name}.events")
        watcher.wait(60)
        watcher.close()
        worker.check()
        rows = {got.key or b"": got.value or b"" for got in read(kafka, f"{name}.meter.changelog")}
        yield Played(
            worker,
            read(kafka, f"{name}.quarantine"),
            {key.decode().partition(":")[2]: json.loads(value)["state"] for key, value in rows.items()},
            read(kafka, f"{name}.actions"),
        )
        assert worker.stop() == 0
    finally:
        worker.end()


LABELS = [
    f"{publisher}: {label}"
    for publisher in PUBLISHERS
    for label, c in CASES.items()
    if publisher in c.publishers
]


@pytest.mark.parametrize("label", LABELS)
def test_a_bad_record_ends_in_quarantine_with_its_reason_and_its_bytes(played: Played, label: str) -> None:
    case = CASES[label.partition(": ")[2]]
    record = filled(case, label)
    got = played.refused(label)
    assert (got.why["reason"], got.why["field"]) == (case.reason, case.where)
    assert got.key == record.key
    # Not `==` on both sides of the assertion: a difference in 24 MB is no message.
    same = got.value == record.value
    assert same, f"{len(got.value or b'')} bytes came back, {len(record.value or b'')} were sent"
    assert got.original == list(record.headers)
    assert got.why["topic"].endswith(".raw")


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_the_good_event_behind_each_is_processed(played: Played, publisher: str) -> None:
    assert played.meters[f"behind-{publisher}"]["readings"] == len(CASES)


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_an_id_used_again_with_another_body_is_a_conflict(played: Played, publisher: str) -> None:
    found = [got for got in played.quarantine if ("ce_id", f"{publisher}-twice".encode()) in got.headers]
    assert [(got.why["reason"], got.why["field"]) for got in found] == [("id_conflict", "id")]
    assert json.loads(found[0].value or b"")["value"] == 2.0
    assert set(headers(id=f"{publisher}-twice")) <= set(found[0].original)
    assert found[0].why["topic"].endswith(".events")


def test_the_same_event_twice_counts_once(played: Played) -> None:
    # Two publishers, three sendings each: one reading, one conflict, one duplicate.
    assert played.meters["twice"]["readings"] == len(PUBLISHERS)


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_a_body_of_just_the_allowed_size_goes_all_the_way(played: Played, publisher: str) -> None:
    assert len(played.meters[f"large-{publisher}"]["note"]) > 1_000_000
    assert played.meters[f"large-{publisher}"]["readings"] == 1


@pytest.mark.parametrize("label", FOREIGN)
def test_what_somebody_else_writes_to_events_ends_there_too(played: Played, label: str) -> None:
    record, got = FOREIGN[label], played.refused(f"events: {label}")
    assert got.why["reason"] == "foreign_record"
    assert (got.key, got.value) == (record.key, record.value)
    assert got.original[:-1] == list(record.headers)


def test_nothing_else_was_refused_and_nothing_bad_was_counted(played: Played) -> None:
    assert len(played.quarantine) == len(LABELS) + len(FOREIGN) + len(PUBLISHERS)
    assert "bad" not in played.meters


def test_what_came_last_led_to_its_action(played: Played) -> None:
    assert {f"last-{n}" for n in range(8)} <= set(played.meters)
    alarms = [json.loads(got.value or b"")["key"] for got in played.actions]
    assert sorted(alarms) == sorted([*(f"large-{p}" for p in PUBLISHERS), *(f"last-{n}" for n in range(8))])


def test_one_worker_went_through_it_all(played: Played) -> None:
    played.worker.check()
    assert "Traceback" not in played.worker.text()
