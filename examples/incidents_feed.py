"""Turn the ServiceNow incident log (UCI 498) into CloudEvents in play order; in: its CSV, out: Kafka records.

The log is the audit trail of a real company's incident process: 141,712 updates of 24,918 incidents, March 2016 to
February 2017, by Amaral, Fantinato and Peres (2018), https://doi.org/10.24432/C57S4H, CC BY 4.0. None of it is here:
say where the file is (`incident_event_log.csv`, or the zip around it; a path or a URL).

What is done to it:

- A row is one `incident.updated`, at `sys_updated_at` (minutes, no zone: read as UTC).
- `closed_at`, `resolved_at`, `resolved_by` and `closed_code` are the same on every row of an incident: they hold on
  its first row what will be true on its last. They are not published. Neither is `made_sla`, which is only decided
  when the incident is closed.
- `?` is what nobody filled in: null.
- 27,745 rows share their minute with another one of the same incident. Which came first says `sys_mod_count`, and the
  place in the file where that is the same (5 times); so both are in the id, which is what breaks ties of event time.
- 5 rows have a state `-100`. They are published as they stand: what to do with them is the pipeline's business.
- The file is sorted by incident. The play is sorted by time, as the world was.
"""

from __future__ import annotations

import csv
import json
import shutil
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from io import TextIOWrapper
from operator import attrgetter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from examples.flights_feed import FeedRecord

SOURCE = b"/servicenow/incident_event_log"
FILE = "incident_event_log.csv"
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
# Field of the event → column of the log, for what is published as it stands.
_TEXTS = {
    "incident": "number",
    "state": "incident_state",
    "caller": "caller_id",
    "group": "assignment_group",
    "assigned_to": "assigned_to",
    "problem": "problem_id",
    "category": "category",
    "symptom": "u_symptom",
    "impact": "impact",
    "urgency": "urgency",
    "priority": "priority",
}
_NUMBERS = {
    "modification": "sys_mod_count",
    "reassignments": "reassignment_count",
    "reopened": "reopen_count",
}


def feed(
    log: Path | str,
    *,
    until: datetime | None = None,
    duplicates: float = 0.0,
    displaced: float = 0.0,
    displacement: timedelta = timedelta(minutes=20),
    seed: int = 0,
) -> list[FeedRecord]:
    """All updates up to and at `until`, in play order.

    A share `displaced` is played up to `displacement` after its time; a share `duplicates` is played a second time,
    byte for byte, up to `displacement` after the first. The same arguments give the same feed.

    Raises:
        FileNotFoundError, urllib.error.URLError: there is no log at that place.
        ValueError: what is there is no such log, or a share is none.
    """
    for name, share in (("duplicates", duplicates), ("displaced", displaced)):
        if not 0 <= share <= 1:
            raise ValueError(f"feed() expected {name} as a share from 0 to 1, got {share}")
    last_ms = None if until is None else round(until.timestamp() * 1000)
    with rows(log) as lines:
        records = [
            as_record(line, row)
            for line, row in enumerate(lines, start=1)
            if last_ms is None or instant_ms(row["sys_updated_at"]) <= last_ms
        ]
    # As it was: by time, then by the ids, which carry the count of modifications.
    records.sort(key=lambda record: (record.time_ms, record.headers[1][1]))
    return disturbed(records, duplicates, displaced, round(displacement.total_seconds() * 1000), Random(seed))


@contextmanager
def rows(log: Path | str) -> Iterator[Iterable[dict[str, str]]]:
    """The rows of the log, which may be a CSV or a zip with it, a path or a URL."""
    with TemporaryDirectory() as folder:
        path = Path(log)
        if str(log).startswith(("https://", "http://")):
            path = Path(folder, "log")
            with urllib.request.urlopen(str(log), timeout=60) as response, path.open("wb") as file:  # noqa: S310 - see above
                shutil.copyfileobj(response, file)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open(FILE) as member:
                yield checked(log, csv.DictReader(TextIOWrapper(member, "utf-8")))
        else:
            with path.open(encoding="utf-8", newline="") as text:
                yield checked(log, csv.DictReader(text))


def checked(log: Path | str, reader: csv.DictReader[str]) -> csv.DictReader[str]:
    """The reader, if it has the columns of the log."""
    missing = {*_TEXTS.values(), *_NUMBERS.values(), "opened_at", "sys_updated_at"} - {
        *(reader.fieldnames or ())
    }
    if missing:
        raise ValueError(f"feed() expected the ServiceNow incident log, got {log} without {sorted(missing)}")
    return reader


def as_record(line: int, row: dict[str, str]) -> FeedRecord:
    """One row of the file, the `line`th after the head, as a CloudEvent."""
    body: dict[str, str | int | None] = {name: text(row[column]) for name, column in _TEXTS.items()}
    body |= {name: int(row[column]) for name, column in _NUMBERS.items()}
    body["opened_at"] = rfc3339(row["opened_at"])
    time_ms = instant_ms(row["sys_updated_at"])
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{row['number']}/{body['modification']:04}/{line:06}".encode()),
        ("ce_type", b"incident.updated"),
        ("ce_source", SOURCE),
        ("ce_time", rfc3339(row["sys_updated_at"]).encode()),
        ("content-type", b"application/json"),
    )
    return FeedRecord(row["number"].encode(), headers, _encode(body).encode(), time_ms, time_ms)


def disturbed(
    records: list[FeedRecord], duplicates: float, displaced: float, displacement_ms: int, random: Random
) -> list[FeedRecord]:
    """The records as a real network might bring them: some late, some twice."""
    played = []
    for record in records:
        late = random.random() < displaced
        first = replace(record, play_ms=record.time_ms + late * random.randint(0, displacement_ms))
        played.append(first)
        if random.random() < duplicates:
            played.append(replace(first, play_ms=first.play_ms + random.randint(0, displacement_ms)))
    played.sort(key=attrgetter("play_ms"))
    return played


def text(value: str) -> str | None:
    """What stands in a column; null for what nobody filled in."""
    return None if value == "?" else value


@lru_cache(maxsize=100_000)
def instant(value: str) -> datetime:
    """`29/2/2016 01:23` as an instant."""
    return datetime.strptime(value, "%d/%m/%Y %H:%M").replace(tzinfo=UTC)


def instant_ms(value: str) -> int:
    """`instant` in epoch milliseconds."""
    return round(instant(value).timestamp() * 1000)


def rfc3339(value: str) -> str:
    """`instant` as CloudEvents have it."""
    return instant(value).strftime("%Y-%m-%dT%H:%M:%SZ")
