"""Event time in, event time out: epoch milliseconds inside, RFC 3339 UTC on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The years 1 to 9999 in UTC: what RFC 3339 and Python's datetime can write. A time outside could be read but
# never be written again.
FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999
# Milliseconds → unit, largest first.
AGES = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


class NaiveTime(ValueError):
    """A time without a zone: it names no instant."""


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware `moment`.

    Raises:
        NaiveTime: `moment` has no time zone, so it names no instant.
    """
    if moment.tzinfo is None:
        raise NaiveTime(f"to_ms: expected a time with a zone, got {moment.isoformat()}; add 'Z' or an offset")
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
        NaiveTime: a time without a zone.
        ValueError: not a time, or one that lies outside the years 1 to 9999 in UTC.
    """
    # RFC 3339, 5.6: "t" and "z" may be in lower case; Python 3.11 reads only capitals.
    time_ms = to_ms(datetime.fromisoformat(text.upper()))
    if not FIRST_MS <= time_ms <= LAST_MS:
        raise ValueError(f"{text} lies outside the years 1 to 9999 in UTC")
    return time_ms


def duration_ms(duration: timedelta) -> int:
    """Whole milliseconds of `duration`."""
    return duration // timedelta(milliseconds=1)


def age(old_ms: int) -> str:
    """How long ago something was, in the largest unit of which it is at least two: `now`, `90 s ago`, `3 h ago`.

    Whole units, rounded down; what lies ahead is `in 3 h`.
    """
    for size_ms, unit in AGES:
        if abs(old_ms) >= 2 * size_ms:
            count = abs(old_ms) // size_ms
            return f"{count} {unit} ago" if old_ms > 0 else f"in {count} {unit}"
    return "now"
