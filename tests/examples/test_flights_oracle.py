"""The oracle against hand-worked flights and a plain fold of the feed; in: CSV files, out: asserts."""

import csv
import io
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from examples.flights_feed import feed
from examples.flights_oracle import Oracle, main, oracle

DAY = date(2013, 2, 7)
Row = dict[str, Any]


# Hand-worked flights, all between New York and Boston: one time zone ----------------------------------------


def clock(hhmm: int, minutes: int) -> int:
    """Add minutes to a clock such as 1715."""
    hours, rest = divmod((hhmm // 100 * 60 + hhmm % 100 + minutes) % 1440, 60)
    return hours * 100 + rest


def flight(
    number: int,
    departs: int,
    arrives: int,
    *,
    dep_delay: int | None = 0,
    arr_delay: int | None = 0,
    day: date = DAY,
    tail: str = "N1",
    origin: str = "EWR",
) -> Row:
    """A row of flights.csv; dep_delay None is cancelled, arr_delay None never arrived."""
    flown = dep_delay is not None
    landed = flown and arr_delay is not None
    return {
        "year": day.year,
        "month": day.month,
        "day": day.day,
        "carrier": "ZZ",
        "flight": number,
        "tailnum": tail,
        "origin": origin,
        "dest": "BOS",
        "distance": 200,
        "sched_dep_time": departs,
        "sched_arr_time": arrives,
        "air_time": 40 if landed else "NA",
        "dep_time": clock(departs, dep_delay or 0) if flown else "NA",
        "dep_delay": dep_delay if flown else "NA",
        "arr_time": clock(arrives, arr_delay or 0) if landed else "NA",
        "arr_delay": arr_delay if landed else "NA",
    }


def weather(hour_utc: int, *, origin: str = "EWR", wind: Any = 5, precip: Any = 0, visib: Any = 10) -> Row:
    """A row of weather.csv, of 7 February; fine unless said otherwise."""
    return {
        "origin": origin,
        "time_hour": f"2013-02-07T{hour_utc:02}:00:00Z",
        "temp": 30,
        "pressure": 1000,
        "wind_speed": wind,
        "wind_gust": "NA",
        "precip": precip,
        "visib": visib,
    }


def find(folder: Path, flights: list[Row], observations: Iterable[Row] = ()) -> Oracle:
    """Run the oracle of 7 and 8 February on these rows."""
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", as_csv(flights))
    (folder / "weather.csv").write_text(as_csv([weather(6, origin="JFK"), *observations]), encoding="utf-8")
    (folder / "airports.csv").write_text("faa,tzone\nBOS,America/New_York\n", encoding="utf-8")
    return oracle(DAY, DAY + timedelta(days=1), folder=folder)


def as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_a_flight_ends_arrived_departed_or_cancelled(tmp_path: Path) -> None:
    found = find(
        tmp_path,
        [
            flight(1, 800, 900),
            flight(2, 800, 900, arr_delay=None),
            flight(3, 800, 900, dep_delay=None, origin="JFK"),
            flight(4, 800, 900, dep_delay=None, day=date(2013, 2, 8)),
            flight(5, 800, 900, dep_delay=None, day=date(2013, 2, 9)),  # out of the range
        ],
    )
    assert found.flights_by_status == {"scheduled": 0, "departed": 1, "arrived": 1, "cancelled": 2}
    assert found.actions["rebook"] == {"2013-02-07": {"JFK": 1}, "2013-02-08": {"EWR": 1}}


@pytest.mark.parametrize(
    ("arr_delay", "next_departs", "rule", "gate_min"),
    [
        # Due 8:00 to 9:00: 15 minutes late, it can be back at 9:15 + 45 min + 60 min = 11:00.
        (15, 1145, None, None),
        (15, 1144, "expedite_turnaround", 44),
        (15, 1100, "expedite_turnaround", 0),
        (15, 1059, "swap_aircraft", -1),
        (14, 1059, None, None),
        (15, 800, None, None),  # not after this leg
    ],
)
def test_knock_on_depends_on_the_time_left_before_the_next_leg(
    tmp_path: Path, arr_delay: int, next_departs: int, rule: str | None, gate_min: int | None
) -> None:
    found = find(
        tmp_path, [flight(1, 800, 900, arr_delay=arr_delay), flight(2, next_departs, 1300, origin="JFK")]
    )
    assert [(finding.rule, finding.gate_min) for finding in found.findings] == (
        [(rule, gate_min)] if rule else []
    )
    for finding in found.findings:
        assert (finding.subject, finding.cause) == ("2013-02-07-ZZ2-JFK", "2013-02-07-ZZ1-EWR")
        assert (finding.as_of, finding.day, finding.airport) == ("2013-02-07T14:15:00Z", "2013-02-07", "JFK")


@pytest.mark.parametrize(
    ("next_leg", "subject"),
    [
        ({"departs": 1000, "dep_delay": -45}, "ZZ3"),  # left at 9:15, as the late one landed: known
        ({"departs": 1000, "dep_delay": -44}, "ZZ2"),
        ({"departs": 1015, "dep_delay": None}, "ZZ3"),  # its cancellation was announced at 9:15: known
        ({"departs": 1016, "dep_delay": None}, "ZZ2"),
        ({"departs": 1030}, "ZZ2"),  # at the same time as 3: the smaller flight_id
        ({"departs": 1000, "tail": "N2"}, "ZZ3"),
    ],
)
def test_the_next_leg_is_the_first_one_still_scheduled_as_far_as_is_known(
    tmp_path: Path, next_leg: dict[str, Any], subject: str
) -> None:
    found = find(
        tmp_path,
        [flight(1, 800, 900, arr_delay=15), flight(3, 1030, 1130), flight(2, arrives=1200, **next_leg)],
    )
    swaps = [finding.subject for finding in found.reviews]
    assert swaps == [f"2013-02-07-{subject}-EWR"]


@pytest.mark.parametrize(("arr_delay", "swaps"), [(89, 0), (90, 1)])
def test_a_next_leg_of_tomorrow_is_known_from_the_evening_on(
    tmp_path: Path, arr_delay: int, swaps: int
) -> None:
    # Landed at 17:59 or 18:00; six hours back and 45 minutes on the ground end after 0:30.
    tomorrow = flight(2, 30, 130, day=date(2013, 2, 8))
    found = find(tmp_path, [flight(1, 1030, 1630, arr_delay=arr_delay), tomorrow])
    assert len(found.reviews) == swaps
    assert {finding.day for finding in found.reviews} <= {"2013-02-07"}


def test_each_late_arrival_decides_and_a_flight_without_tail_number_does_not(tmp_path: Path) -> None:
    first, second = flight(1, 800, 900, arr_delay=20), flight(2, 801, 901, arr_delay=19, origin="JFK")
    nameless = flight(4, 800, 900, arr_delay=20, tail="NA"), flight(5, 1000, 1100, tail="NA")
    found = find(tmp_path, [first, second, flight(3, 1000, 1100), *nameless])
    assert [finding.cause for finding in found.reviews] == ["2013-02-07-ZZ1-EWR", "2013-02-07-ZZ2-JFK"]


def trouble(number: int) -> list[Row]:
    """Flights due at 9:00 (14:00 UTC), so cancelled at 13:00 UTC, each with its own aircraft."""
    return [flight(n, 900, 1000, dep_delay=None, tail=f"N{n}") for n in range(number)]


def ground_delays(found: Oracle) -> list[str]:
    return [finding.as_of[11:16] for finding in found.findings if finding.rule == "ground_delay"]


@pytest.mark.parametrize(
    ("flights", "observations", "hours"),
    [
        # Ten at 13:00 count at 13:00 and 14:00, no longer at 15:00; an observation serves for three hours.
        (trouble(10), [weather(12, wind=23)], ["13:00", "14:00"]),
        (trouble(10), [weather(11, wind=23)], ["13:00"]),
        (trouble(10), [weather(10, wind=23)], []),
        (trouble(10), [weather(14, wind=23)], ["14:00"]),
        (trouble(9), [weather(12, wind=23)], []),
        # A departure an hour late counts when it leaves: 13:00 UTC is 8:00.
        ([*trouble(9), flight(10, 700, 900, dep_delay=60)], [weather(12, wind=23)], ["13:00", "14:00"]),
        ([*trouble(9), flight(10, 701, 900, dep_delay=59)], [weather(12, wind=23)], []),
        ([*trouble(9), flight(10, 700, 900, dep_delay=60, origin="LGA")], [weather(12, wind=23)], []),
        # 10 m/s is 22.37 mph, 5 km is 3.107 mi, 1 mm is 0.0394 in; each alone is bad.
        (trouble(10), [weather(12, wind=22.3)], []),
        (trouble(10), [weather(12, visib=3)], ["13:00", "14:00"]),
        (trouble(10), [weather(12, visib=3.2)], []),
        (trouble(10), [weather(12, precip=0.04)], ["13:00", "14:00"]),
        (trouble(10), [weather(12, precip=0.03)], []),
        (trouble(10), [weather(12, wind="NA", precip="NA", visib="NA")], []),
        (trouble(10), [weather(12, wind="NA", visib=3)], ["13:00", "14:00"]),
        # The latest observation counts, an impossible one does not exist, another airport's is of no matter.
        (trouble(10), [weather(11, wind=23), weather(13)], []),
        (trouble(10), [weather(12, wind=1048), weather(11)], []),
        (trouble(10), [weather(12, wind=1048), weather(11, wind=23)], ["13:00"]),
        (trouble(10), [weather(12, wind=23, origin="LGA")], []),
    ],
)
def test_ground_delay_takes_ten_troubles_in_two_hours_and_bad_weather(
    tmp_path: Path, flights: list[Row], observations: list[Row], hours: list[str]
) -> None:
    found = find(tmp_path, flights, observations)
    assert ground_delays(found) == hours
    assert found.actions["ground_delay"] == ({"2013-02-07": {"EWR": len(hours)}} if hours else {})


def test_a_review_is_open_from_its_arrival_until_its_deadline(tmp_path: Path) -> None:
    found = find(tmp_path, [flight(1, 800, 900, arr_delay=15), flight(2, 1000, 1100)])
    asked, deadline = datetime.fromisoformat("2013-02-07T14:15:00Z"), timedelta(minutes=20)
    second = timedelta(seconds=1)
    moments = (asked - second, asked, asked + deadline - second, asked + deadline)
    assert [found.reviews_open(moment, deadline) for moment in moments] == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="time zone"):
        found.reviews_open(datetime(2013, 2, 7), deadline)  # noqa: DTZ001 - the mistake that is tested


# Against a plain fold of the feed ---------------------------------------------------------------------------


class Fold:
    """The rules once more, event by event in play order, as the pipeline will apply them."""

    def __init__(self) -> None:
        self.findings: list[tuple[str, str, str, str]] = []  # rule, as of, airport, subject
        self.status: dict[str, str] = {}
        self.legs: dict[str, dict[str, tuple[datetime, datetime, str]]] = defaultdict(dict)
        self.trouble: dict[str, list[datetime]] = defaultdict(list)
        self.weather: dict[str, tuple[datetime, bool]] = {}
        self.full_hour: datetime | None = None

    def see(self, kind: str, time: datetime, body: dict[str, Any]) -> None:
        while self.full_hour is not None and self.full_hour < time:
            self.tick(self.full_hour)
            self.full_hour += timedelta(hours=1)
        if self.full_hour is None:
            self.full_hour = time.replace(minute=0)
        if kind == "observed":
            self.observed(time, body)
            return
        flight_id = body["flight_id"]
        self.status[flight_id] = kind
        if kind == "scheduled":
            times = (
                datetime.fromisoformat(body["scheduled_departure"]),
                datetime.fromisoformat(body["scheduled_arrival"]),
            )
            self.legs[body["tail"]][flight_id] = (*times, body["origin"])
        elif kind == "cancelled":
            self.findings.append(("rebook", time.isoformat(), body["origin"], flight_id))
        if kind == "cancelled" or (kind == "departed" and body["delay_min"] >= 60):
            self.trouble[body["origin"]].append(time)
        if kind == "arrived" and body["delay_min"] >= 15:
            self.knock_on(time, body)

    def observed(self, time: datetime, body: dict[str, Any]) -> None:
        def si(name: str, factor: float) -> float | None:
            return float(body[name]["value"]) * factor if body[name] else None

        wind, visibility = si("wind_speed", 0.44704), si("visibility", 1.609344)
        precipitation = si("precipitation", 25.4)
        if wind is None or wind <= 115:
            bad = (wind is not None and wind >= 10) or (visibility is not None and visibility < 5)
            self.weather[body["airport"]] = (time, bad or (precipitation is not None and precipitation >= 1))

    def knock_on(self, time: datetime, body: dict[str, Any]) -> None:
        legs = self.legs[body["tail"]]
        departure, arrival, _ = legs[body["flight_id"]]
        waiting = [
            (leg_departure, flight_id, origin)
            for flight_id, (leg_departure, _, origin) in legs.items()
            if leg_departure > departure and self.status[flight_id] == "scheduled"
        ]
        if body["tail"] is None or not waiting:
            return
        next_departure, flight_id, origin = min(waiting)
        left = next_departure - (time + timedelta(minutes=45) + (arrival - departure))
        if left < timedelta(minutes=45):
            rule = "swap_aircraft" if left < timedelta(0) else "expedite_turnaround"
            self.findings.append((rule, time.isoformat(), origin, flight_id))

    def tick(self, full_hour: datetime) -> None:
        for airport, times in self.trouble.items():
            times[:] = [time for time in times if time > full_hour - timedelta(hours=2)]
            observed, bad = self.weather.get(airport, (full_hour, False))
            if len(times) >= 10 and bad and observed > full_hour - timedelta(hours=3):
                self.findings.append(("ground_delay", full_hour.isoformat(), airport, airport))


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(date(2013, 2, 7), date(2013, 2, 10), id="blizzard"),
        pytest.param(date(2013, 2, 11), date(2013, 2, 12), id="impossible wind"),
        pytest.param(date(2013, 3, 8), date(2013, 3, 11), id="clocks forward"),
        pytest.param(date(2013, 11, 1), date(2013, 11, 4), id="clocks back"),
        pytest.param(date(2013, 1, 1), date(2013, 12, 31), id="year", marks=pytest.mark.slow),
    ],
)
def test_a_plain_fold_of_the_feed_finds_the_same(first: date, last: date) -> None:
    fold = Fold()
    end = datetime.max  # noqa: DTZ901 - only compared with itself
    for record in feed(first, last):
        headers = dict(record.headers)
        end = datetime.fromisoformat(headers["ce_time"].decode())
        fold.see(headers["ce_type"].decode().partition(".")[2], end, json.loads(record.value))
    for hour in range(1, 4):
        fold.tick(end.replace(minute=0) + timedelta(hours=hour))

    found = oracle(first, last)
    expected = Counter(
        (f.rule, datetime.fromisoformat(f.as_of).isoformat(), f.airport, f.subject) for f in found.findings
    )
    assert Counter(fold.findings) == expected
    assert Counter(fold.status.values()) == Counter(found.flights_by_status)
    for finding in found.findings:
        if finding.rule != "rebook":
            local = datetime.fromisoformat(finding.as_of).astimezone(ZoneInfo("America/New_York"))
            assert finding.day == local.date().isoformat()
        else:
            assert finding.day == finding.subject[:10]


# Known figures and the command ------------------------------------------------------------------------------


def test_the_figures_of_the_blizzard() -> None:
    found = oracle(date(2013, 2, 7), date(2013, 2, 10))
    assert found.flights_by_status == {"scheduled": 0, "departed": 3, "arrived": 2477, "cancelled": 895}
    assert found.totals() == {
        "rebook": 895,
        "expedite_turnaround": 46,
        "ground_delay": 41,
        "swap_aircraft": 58,
    }
    assert found.actions["ground_delay"] == {
        "2013-02-08": {"EWR": 10, "JFK": 9, "LGA": 11},
        "2013-02-09": {"EWR": 3, "JFK": 6, "LGA": 2},
    }


@pytest.mark.slow
def test_the_figures_of_the_year() -> None:
    found = oracle(date(2013, 1, 1), date(2013, 12, 31))
    assert found.flights_by_status == {
        "scheduled": 0,
        "departed": 458,
        "arrived": 328_063,
        "cancelled": 8_255,
    }
    assert found.totals() == {
        "rebook": 8_255,
        "expedite_turnaround": 5_542,
        "ground_delay": 415,
        "swap_aircraft": 7_247,
    }


def test_the_command_prints_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--from", "2013-02-08", "--to", "2013-02-08", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = oracle(date(2013, 2, 8), date(2013, 2, 8))
    assert printed == json.loads(json.dumps(found.as_json()))
    assert printed["actions"]["rebook"] == {"2013-02-08": {"EWR": 177, "JFK": 159, "LGA": 136}}
    assert len(printed["reviews"]) == printed["totals"]["swap_aircraft"]


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--from", "2013-02-08", "--to", "2013-02-08"]) == 0
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    assert (lines["cancelled"], lines["rebook"]) == ("472", "472")


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2014-02-07", "2014-02-08", "expected flights between 2014-02-07 and 2014-02-08, found none"),
        ("2013-02-08", "2013-02-07", "expected first <= last, got first=2013-02-08, last=2013-02-07"),
    ],
)
def test_the_command_refuses_a_range_without_flights(
    capsys: pytest.CaptureFixture[str], first: str, last: str, message: str
) -> None:
    assert main(["--from", first, "--to", last]) == 2
    assert message in capsys.readouterr().err
