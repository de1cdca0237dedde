"""One immutable fact: the body a pipeline author declares, and the CloudEvents envelope that carries it.

On Kafka an event is CloudEvents 1.0 binary mode: attributes are `ce_*` headers, the value is the JSON body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from schemas.model import Declared
from schemas.row import FieldValue
from schemas.times import FIRST_MS, LAST_MS, parse_rfc3339, rfc3339

Headers = Sequence[tuple[str, bytes]]

CLOCK = "midstream.clock"
LINKED = "midstream.linked"
ANSWERED = "midstream.review.answered"


class Event(Declared):
    """Base of every event body. Declare a subclass with its CloudEvents type:

        class Departed(Event, type="flight.departed"):
            flight_id: str
            delay_min: int

    Strict: a string is not a number, an unknown field is refused, NaN and infinity are refused.
    """

    event_type: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Remember the CloudEvents type given as `type=`."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.event_type = kwargs.get("type", cls.event_type)

    def __init_subclass__(cls, *, type: str = "", **kwargs: Any) -> None:
        """Take `type=` out of the class arguments, so that pydantic does not read it as configuration."""
        super().__init_subclass__(**kwargs)


class Clock(BaseModel):
    """How far a source of time has come: everything it will say up to `at_ms` has been said before this record."""

    model_config = ConfigDict(frozen=True)

    at_ms: int = Field(ge=FIRST_MS, le=LAST_MS)
    # Who says so ("raw/0", "events/3", "wall/1"); a lane's time is the least of what its origins said.
    origin: str
    # How many origins of this rank there are: the lane waits for all of them.
    origins: int = Field(ge=1)
    rank: int = 1
    final: bool = False


class Linked(BaseModel):
    """What one entity tells another about itself: carried fields, and the event that set them."""

    model_config = ConfigDict(frozen=True)

    link: str
    key: str
    # The id under which the telling entity knows the event: both sides then order two facts alike.
    event_id: str
    fields: dict[str, Any]
    # When the link begins: what other events had set, with their own stamps. A field that no event has set has no
    # event id.
    standing: dict[str, FieldValue] = Field(default_factory=dict)
    removed: bool = False


class Answered(BaseModel):
    """A person's answer to a review."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    review_id: str
    approve: bool
    by: str
    note: str = ""


class Envelope(NamedTuple):
    """An event as a lane sees it: who said what about whom, when."""

    id: str
    type: str
    source: str
    time_ms: int
    # The entity that owns the fact ("flight:2013-02-08-UA1545-EWR"), also on copies for other entities.
    subject: str
    data: bytes
    # Wall time at which the raw record that caused this reached Kafka: data, carried along to measure latency.
    ingested_ms: int = 0
    traceparent: str | None = None

    @property
    def trigger(self) -> str:
        """What names this event as a cause: the id is unique only per subject.

        A slash in the id is escaped, so that the last slash always parts the two.
        """
        name = self.id.replace("%", "%25").replace("/", "%2F")
        return f"{self.subject}/{name}"


def envelope_headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """The Kafka headers of `envelope` in CloudEvents binary mode; the value is `envelope.data`.

    `ce_time` is for everybody, `ms_time` says the same to a lane, which reads it ten times as fast.
    """
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.id.encode()),
        ("ce_type", envelope.type.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_time", rfc3339(envelope.time_ms).encode()),
        ("ce_subject", envelope.subject.encode()),
        ("content-type", b"application/json"),
        ("ms_time", b"%d" % envelope.time_ms),
        ("ms_ingested", b"%d" % envelope.ingested_ms),
    ]
    if envelope.traceparent is not None:
        headers.append(("traceparent", envelope.traceparent.encode()))
    return headers


@lru_cache(maxsize=1024)
def name_of(text: bytes) -> str:
    """`text` as one string for all that say the same: every row keeps the type and the source of its last event."""
    return text.decode()


def read_envelope(headers: Iterable[tuple[str, bytes]], value: bytes) -> Envelope:
    """The envelope that `envelope_headers` wrote. Only for topics that Midstream writes itself.

    Raises:
        KeyError, ValueError, AttributeError, TypeError: a header is missing, unreadable or without a value, so somebody
            else wrote to an internal topic.
    """
    found = dict(headers)
    told = found.get("ms_time")
    # The first events were written without it.
    time_ms = parse_rfc3339(found["ce_time"].decode()) if told is None else int(told)
    if not FIRST_MS <= time_ms <= LAST_MS:
        raise ValueError(f"ms_time {time_ms} is no time")
    trace = found.get("traceparent")
    return Envelope(
        found["ce_id"].decode(),
        name_of(found["ce_type"]),
        name_of(found["ce_source"]),
        time_ms,
        found["ce_subject"].decode(),
        value,
        int(found["ms_ingested"]),
        None if trace is None else trace.decode(),
    )
