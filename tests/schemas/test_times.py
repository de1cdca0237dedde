"""schemas/times.py: instants to milliseconds and back; what names no instant is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.times import (
    FIRST_MS,
    LAST_MS,
    NaiveTime,
    age,
    duration_ms,
    from_ms,
    parse_rfc3339,
    rfc3339,
    to_ms,
)

NOON_MS = 1_360_324_800_000  # 2013-02-08 12:00 UTC


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2013-02-08T12:00:00Z", NOON_MS),
        ("2013-02-08T14:00:00+02:00", NOON_MS),
        ("2013-02-08T07:00:00-05:00", NOON_MS),
        ("2013-02-08T12:00:00.25Z", NOON_MS + 250),
        ("2013-02-08t12:00:00z", NOON_MS),
        ("0001-01-01T00:00:00Z", FIRST_MS),
        ("9999-12-31T23:59:59.999Z", LAST_MS),
    ],
)
def test_a_time_is_read(text: str, time_ms: int) -> None:
    assert parse_rfc3339(text) == time_ms


def test_what_is_finer_than_a_millisecond_is_cut_off_towards_the_past() -> None:
    assert parse_rfc3339("2013-02-08T12:00:00.000999Z") == NOON_MS
    assert parse_rfc3339("1969-12-31T23:59:59.999999Z") == -1


@pytest.mark.parametrize("text", ["2013-02-08T12:00:00", "2013-02-08"])
def test_a_time_without_a_zone_names_no_instant(text: str) -> None:
    with pytest.raises(NaiveTime, match="expected a time with a zone"):
        parse_rfc3339(text)


@pytest.mark.parametrize("text", ["", "yesterday", "no zone", "2013-02-30T12:00:00Z", "2013-02-08T25:00:00Z"])
def test_what_is_no_time_is_refused_as_that(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month|hour") as raised:
        parse_rfc3339(text)
    assert not isinstance(raised.value, NaiveTime)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
def test_an_instant_that_utc_cannot_write_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="outside the years 1 to 9999"):
        parse_rfc3339(text)


@settings(deadline=None)
@given(st.integers(FIRST_MS, LAST_MS))
@example(FIRST_MS)
@example(LAST_MS)
@example(-1)
def test_what_is_written_is_read_again(time_ms: int) -> None:
    assert parse_rfc3339(rfc3339(time_ms)) == time_ms
    assert to_ms(from_ms(time_ms)) == time_ms


def test_milliseconds_are_written_only_when_there_are_any() -> None:
    assert rfc3339(NOON_MS) == "2013-02-08T12:00:00Z"
    assert rfc3339(NOON_MS + 20) == "2013-02-08T12:00:00.020Z"


def test_a_moment_is_the_same_in_every_zone() -> None:
    moment = datetime(2013, 2, 8, 12, tzinfo=UTC)
    assert to_ms(moment) == to_ms(moment.astimezone(timezone(timedelta(hours=-9)))) == NOON_MS


def test_a_duration_is_whole_milliseconds() -> None:
    assert duration_ms(timedelta(days=1, microseconds=1999)) == 86_400_001


@pytest.mark.parametrize(
    ("old_ms", "text"),
    [
        (0, "now"),
        (1999, "now"),
        (2000, "2 s ago"),
        (119_999, "119 s ago"),
        (120_000, "2 min ago"),
        (7_199_999, "119 min ago"),
        (7_200_000, "2 h ago"),
        (172_800_000, "2 d ago"),
        (-7_200_000, "in 2 h"),
    ],
)
def test_how_long_ago_in_words(old_ms: int, text: str) -> None:
    assert age(old_ms) == text
