"""A record that could not become an event: original key, bytes and headers, and the reason in added headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.event import Headers
from schemas.keys import quarantine_id

PREFIX = "ms_q_"


class Reason(StrEnum):
    """Why a record was refused. One code, one cause."""

    TOMBSTONE = "tombstone"
    NULL_KEY = "null_key"
    TOO_LARGE = "too_large"
    WRONG_ENCODING = "wrong_encoding"
    NOT_JSON = "not_json"
    NOT_AN_EVENT = "not_an_event"
    NO_MAPPING = "no_mapping"
    MISSING_ID = "missing_id"
    EMPTY_ID = "empty_id"
    MISSING_TYPE = "missing_type"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_SOURCE = "missing_source"
    MISSING_TIME = "missing_time"
    BAD_TIME = "bad_time"
    NAIVE_TIME = "naive_time"
    FUTURE_TIME = "future_time"
    ANCIENT_TIME = "ancient_time"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    VALIDATOR_FAILED = "validator_failed"
    EMPTY_ENTITY_KEY = "empty_entity_key"
    ID_CONFLICT = "id_conflict"
    BEYOND_DEDUPE = "beyond_dedupe"
    BEYOND_GRACE = "beyond_grace"
    ILLEGAL_TRANSITION = "illegal_transition"
    REDUCER_FAILED = "reducer_failed"
    DECISION_FAILED = "decision_failed"
    ROW_TOO_LARGE = "row_too_large"
    OUTPUT_TOO_LARGE = "output_too_large"
    REVIEW_NOT_OPEN = "review_not_open"
    FOREIGN_RECORD = "foreign_record"


@dataclass(slots=True, frozen=True)
class Refusal:
    """Why, where in the record, and in words."""

    reason: Reason
    field: str = ""
    detail: str = ""


@dataclass(slots=True, frozen=True)
class Origin:
    """Where the refused record stood."""

    topic: str
    partition: int
    offset: int
    # Set when one record caused several refusals: a clock whose timers failed.
    part: str = ""

    @property
    def id(self) -> str:
        """The quarantine id of the record that stood here."""
        return quarantine_id(self.topic, self.partition, self.offset, self.part)


def quarantine_headers(refusal: Refusal, origin: Origin, original: Headers) -> list[tuple[str, bytes]]:
    """The original headers and, with the prefix `ms_q_`, id, reason, field, detail and origin."""
    added = {
        "id": origin.id,
        "reason": refusal.reason.value,
        # The path may be a field name that the sender made up, the detail may quote what was sent: keep both small.
        "field": refusal.field[:500],
        "detail": refusal.detail[:500],
        "topic": origin.topic,
        "partition": str(origin.partition),
        "offset": str(origin.offset),
    }
    return [*original_headers(original), *((PREFIX + name, text.encode()) for name, text in added.items())]


def original_headers(headers: Headers) -> list[tuple[str, bytes]]:
    """The headers that the record had before it was quarantined."""
    return [(name, value) for name, value in headers if not name.startswith(PREFIX)]


def read_quarantine(headers: Headers) -> dict[str, str]:
    """The added headers of a quarantine record without their prefix."""
    return {name.removeprefix(PREFIX): value.decode() for name, value in headers if name.startswith(PREFIX)}
