"""Data: a raw record comes in; an event of a known type with a time and an owner goes out, or a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from schemas.event import CLOCK, Clock, Envelope, Event
from schemas.keys import entity_key, event_id
from schemas.quarantine import Reason, Refusal
from schemas.record import Record
from schemas.times import NaiveTime, parse_rfc3339

# Version, trace, parent, flags (W3C Trace Context, 3.2.2); later versions may add to the end.
TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,256})?")
STRUCTURED = "application/cloudevents+json"
CLOUDEVENTS_PREFIX = "ce_"
# An id, a source or an entity's key. They are copied into headers, Kafka keys and rows: a body may be large,
# a name that is would make records that Kafka does not take.
MAX_NAME_BYTES = 1024


@dataclass(frozen=True, slots=True)
class EventType:
    """A declared event: its model, and the entity that owns the fact."""

    model: type[Event]
    owner: str
    key_field: str


@dataclass(frozen=True, slots=True)
class Bare:
    """How to read a plain JSON body of one source as an event: where its attributes stand (dotted paths)."""

    source: str
    type: str
    time: str
    id: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Door:
    """All that ingest needs to know of a pipeline."""

    types: Mapping[str, EventType]
    bare: Mapping[str, Bare] = field(default_factory=dict)
    max_body_bytes: int = 1 << 20
    earliest_ms: int = 0
    ahead_ms: int = 24 * 3600 * 1000
    # Clock records on `raw` are believed only in playback, where the publisher drives time.
    playback: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event on its way to the entity that owns it."""

    envelope: Envelope
    key: str


def admit(record: Record, door: Door) -> Accepted | Clock | Refusal:
    """Judge one raw record.

    1 size and key, 2 CloudEvents attributes, 3 time, 4 type, 5 body, 6 owner.
    """
    # 1. What Kafka itself tells.
    if record.value is None:
        return Refusal(Reason.TOMBSTONE, detail="a record without a value says nothing about the world")
    if not record.key:
        return Refusal(Reason.NULL_KEY, detail="the Kafka key keeps one source's events in order; set it")
    if len(record.value) > door.max_body_bytes:
        return Refusal(Reason.TOO_LARGE, detail=f"{len(record.value)} bytes; at most {door.max_body_bytes}")
    # 2. Attributes and body.
    read = attributes(record, record.value, door)
    if isinstance(read, Refusal):
        return read
    about, body = read
    if door.playback and about.get("type") == CLOCK:
        return clock(body)
    return (
        missing(about)
        or too_long("id", about)
        or too_long("source", about)
        or event(record, about, body, door)
    )


def event(record: Record, about: Mapping[str, str], body: bytes, door: Door) -> Accepted | Refusal:
    """The event that attributes and body describe: steps 3 to 6 of `admit`."""
    # 3. Time.
    time_ms = event_time(about["time"], record.timestamp, door)
    if isinstance(time_ms, Refusal):
        return time_ms
    # 4. Type.
    known = door.types.get(about["type"])
    if known is None:
        return Refusal(Reason.UNKNOWN_TYPE, "type", f"{about['type']!r} is not a type of this pipeline")
    # 5. Body, normalised by the model's own field types.
    try:
        fact = known.model.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        return refusal_of(error, body)
    except Exception as error:  # noqa: BLE001 - validators are the author's code: one event's trouble, not the lane's
        detail = f"a validator of {known.model.__name__} raised {type(error).__name__}: {error}"
        return Refusal(Reason.VALIDATOR_FAILED, detail=detail)
    # 6. Owner.
    key = getattr(fact, known.key_field)
    if not key:
        return Refusal(Reason.EMPTY_ENTITY_KEY, known.key_field, f"names no {known.owner}")
    refusal = too_long(known.key_field, {known.key_field: key})
    if refusal is not None:
        return refusal
    envelope = Envelope(
        id=about["id"],
        type=about["type"],
        source=about["source"],
        time_ms=time_ms,
        subject=entity_key(known.owner, key),
        data=known.model.__pydantic_serializer__.to_json(fact),
        ingested_ms=record.timestamp,
        traceparent=known_trace(about.get("traceparent")),
    )
    return Accepted(envelope, key)


def clock(body: bytes) -> Clock | Refusal:
    """The clock record of a playback."""
    try:
        return Clock.model_validate_json(body)
    except ValidationError as error:
        return refusal_of(error, body)


def attributes(record: Record, value: bytes, door: Door) -> tuple[dict[str, str], bytes] | Refusal:
    """The CloudEvents attributes and the JSON body of a record in binary, structured or bare form."""
    # Kafka allows a header without a value, whatever the client's annotation says.
    headers = {name: text for name, text in record.headers if text is not None}  # type: ignore[redundant-expr]
    content_type = headers.get("content-type", b"").decode("latin-1")
    read: tuple[dict[str, str], bytes] | Refusal
    # Media types are case-insensitive (RFC 9110, 8.3.1).
    if content_type.lower().startswith(STRUCTURED):
        read = structured(value)
    elif any(name.startswith(CLOUDEVENTS_PREFIX) for name in headers):
        read = binary(headers, value)
    else:
        read = bare(value, headers.get("source", b"").decode("latin-1"), door)
    trace = headers.get("traceparent")
    if trace is not None and not isinstance(read, Refusal):
        read[0]["traceparent"] = trace.decode("latin-1")
    return read


def binary(headers: Mapping[str, bytes], value: bytes) -> tuple[dict[str, str], bytes] | Refusal:
    """Attributes and body of a binary-mode CloudEvent."""
    try:
        found = {
            name.removeprefix(CLOUDEVENTS_PREFIX): text.decode()
            for name, text in headers.items()
            if name.startswith(CLOUDEVENTS_PREFIX)
        }
    except UnicodeDecodeError as error:
        return Refusal(Reason.WRONG_ENCODING, "headers", str(error))
    return found, value


def structured(value: bytes) -> tuple[dict[str, str], bytes] | Refusal:
    """Attributes and body of a structured-mode CloudEvent."""
    envelope = json_object(value)
    if isinstance(envelope, Refusal):
        return envelope
    if "data" not in envelope:
        return Refusal(Reason.MISSING_FIELD, "data", "a structured CloudEvent carries its body in 'data'")
    found = {name: text for name, text in envelope.items() if isinstance(text, str) and name != "data"}
    return found, to_json(envelope["data"])


def bare(value: bytes, source: str, door: Door) -> tuple[dict[str, str], bytes] | Refusal:
    """Attributes and body of a plain JSON record, by the mapping that the pipeline declares for its source."""
    mapping = door.bare.get(source)
    if mapping is None and len(door.bare) == 1 and not source:
        mapping = next(iter(door.bare.values()))
    if mapping is None:
        detail = f"no ce_* headers, and no mapping is declared for source {source!r}"
        return Refusal(Reason.NO_MAPPING if door.bare else Reason.NOT_AN_EVENT, "source", detail)
    body = json_object(value)
    if isinstance(body, Refusal):
        return body
    found = {"source": mapping.source}
    for name, path in (("type", mapping.type), ("time", mapping.time), ("id", mapping.id)):
        value_at = None if path is None else at_path(body, path)
        if isinstance(value_at, (str, int)) and not isinstance(value_at, bool):
            found[name] = str(value_at)
    if mapping.id is None:
        found["id"] = event_id(mapping.source, value)
    data = body if mapping.data is None else at_path(body, mapping.data)
    if data is None:
        return Refusal(Reason.MISSING_FIELD, mapping.data or "", "the record has no body there")
    return found, to_json(data)


def known_trace(text: str | None) -> str | None:
    """A trace parent that can be one; W3C Trace Context, 3.2: any other is ignored."""
    return text if text is not None and TRACE_PARENT.fullmatch(text) else None


def at_path(body: Any, path: str) -> Any:
    """The value at a dotted `path` of a JSON object, or None."""
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


def json_object(value: bytes) -> dict[str, Any] | Refusal:
    """`value` as a JSON object."""
    try:
        # NaN passes here and is refused by the model, which can name the field.
        body = from_json(value)
    except ValueError as error:
        return unreadable(value, str(error))
    if not isinstance(body, dict):
        return Refusal(Reason.NOT_AN_EVENT, detail=f"expected a JSON object, got {type(body).__name__}")
    return body


def unreadable(value: bytes, detail: str) -> Refusal:
    """Tell bytes in another encoding from bytes that are not JSON."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return Refusal(Reason.WRONG_ENCODING, detail=f"not UTF-8: {error}")
    if b"\0" in value:
        return Refusal(Reason.WRONG_ENCODING, detail="holds NUL bytes, as UTF-16 and UTF-32 do; send UTF-8")
    if value.startswith(b"\xef\xbb\xbf"):
        return Refusal(
            Reason.WRONG_ENCODING, detail="starts with a byte order mark; JSON has none (RFC 8259)"
        )
    return Refusal(Reason.NOT_JSON, detail=detail)


def missing(about: Mapping[str, str]) -> Refusal | None:
    """The first required CloudEvents attribute that `about` lacks; an empty one says nothing."""
    for name, reason in (
        ("id", Reason.MISSING_ID),
        ("type", Reason.MISSING_TYPE),
        ("source", Reason.MISSING_SOURCE),
        ("time", Reason.MISSING_TIME),
    ):
        if name == "id" and name in about and not about[name].strip():
            return Refusal(Reason.EMPTY_ID, name, "the id is empty")
        if not about.get(name):
            return Refusal(reason, name, f"the event has no {name}")
    return None


def too_long(name: str, texts: Mapping[str, str]) -> Refusal | None:
    """The refusal of `texts[name]` when it is too long to be copied into every record about it."""
    text = texts[name]
    # A character takes at most four bytes, so most need not be encoded.
    if len(text) <= MAX_NAME_BYTES // 4 or len(text.encode()) <= MAX_NAME_BYTES:
        return None
    return Refusal(Reason.TOO_LARGE, name, f"{len(text.encode())} bytes; a name has at most {MAX_NAME_BYTES}")


def event_time(text: str, recorded_ms: int, door: Door) -> int | Refusal:
    """Epoch milliseconds of an event time, if it can be true of a record that reached Kafka at `recorded_ms`."""
    try:
        time_ms = parse_rfc3339(text)
    except NaiveTime as error:
        return Refusal(Reason.NAIVE_TIME, "time", str(error))
    except ValueError as error:
        return Refusal(Reason.BAD_TIME, "time", f"{text!r}: {error}")
    if time_ms > recorded_ms + door.ahead_ms:
        return Refusal(Reason.FUTURE_TIME, "time", f"{text} is more than {door.ahead_ms} ms after it arrived")
    if time_ms < door.earliest_ms:
        return Refusal(Reason.ANCIENT_TIME, "time", f"{text} is before the pipeline's earliest time")
    return time_ms


REASONS: Mapping[str, Reason] = {
    "missing": Reason.MISSING_FIELD,
    "extra_forbidden": Reason.UNKNOWN_FIELD,
    "finite_number": Reason.NOT_FINITE,
    "timezone_aware": Reason.NAIVE_TIME,
    "unknown_unit": Reason.OUT_OF_RANGE,
    "quantity_out_of_range": Reason.OUT_OF_RANGE,
    "time_out_of_range": Reason.OUT_OF_RANGE,
    "literal_error": Reason.OUT_OF_RANGE,
    "enum": Reason.OUT_OF_RANGE,
    "greater_than": Reason.OUT_OF_RANGE,
    "greater_than_equal": Reason.OUT_OF_RANGE,
    "less_than": Reason.OUT_OF_RANGE,
    "less_than_equal": Reason.OUT_OF_RANGE,
    "multiple_of": Reason.OUT_OF_RANGE,
    "string_too_short": Reason.OUT_OF_RANGE,
    "string_too_long": Reason.OUT_OF_RANGE,
    "string_pattern_mismatch": Reason.OUT_OF_RANGE,
    "too_short": Reason.OUT_OF_RANGE,
    "too_long": Reason.OUT_OF_RANGE,
}


def refusal_of(error: ValidationError, body: bytes) -> Refusal:
    """The refusal for a body that its model did not accept; the first error gives reason and field path."""
    first: ErrorDetails = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return unreadable(body, first["msg"])
    path = ".".join(str(part) for part in first["loc"])
    return Refusal(REASONS.get(first["type"], Reason.WRONG_TYPE), path, first["msg"])
