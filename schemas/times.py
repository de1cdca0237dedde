"""Event time in, event time out: epoch milliseconds inside, RFC 3339 UTC on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware `moment`.

    Raises:
        ValueError: `moment` has no time zone, so it names no instant.
    """
    if moment.tzinfo is None:
        raise ValueError(
            f"to_ms: expected a time with a zone, got {moment.isoformat()}; add 'Z' or an offset"
        )
    # Integer arithmetic: float seconds lose milliseconds far from 1970.
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(time_ms: int) -> datetime:
    """The UTC instant `time_ms` milliseconds after 1970."""
    return EPOCH + timedelta(milliseconds=time_ms)


def rfc3339(time_ms: int) -> str:
    """`time_ms` as RFC 3339 UTC; milliseconds are written only when they are not zero."""
    text = from_ms(time_ms).isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds")
    return text.removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 time.

    Raises:
        ValueError: not a time, or a time without a zone.
    """
    return to_ms(datetime.fromisoformat(text))


def duration_ms(duration: timedelta) -> int:
    """Whole milliseconds of `duration`."""
    return duration // timedelta(milliseconds=1)
