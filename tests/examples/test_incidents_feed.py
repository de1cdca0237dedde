"""examples/incidents_feed.py on a log of four rows: what is published, in which order, and what is not."""

from __future__ import annotations

import csv
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from examples.flights_feed import FeedRecord
from examples.incidents import incidents
from examples.incidents_feed import FILE, feed
from schemas.record import Given
from streams.memory import run

COLUMNS = [
    "number",
    "incident_state",
    "active",
    "reassignment_count",
    "reopen_count",
    "sys_mod_count",
    "made_sla",
    "caller_id",
    "opened_by",
    "opened_at",
    "sys_created_by",
    "sys_created_at",
    "sys_updated_by",
    "sys_updated_at",
    "contact_type",
    "location",
    "category",
    "subcategory",
    "u_symptom",
    "cmdb_ci",
    "impact",
    "urgency",
    "priority",
    "assignment_group",
    "assigned_to",
    "knowledge",
    "u_priority_confirmation",
    "notify",
    "problem_id",
    "rfc",
    "vendor",
    "caused_by",
    "closed_code",
    "resolved_by",
    "resolved_at",
    "closed_at",
]


def row(number: str, at: str, modification: int, state: str = "New", **more: str) -> dict[str, str]:
    given = {
        "number": number,
        "incident_state": state,
        "reassignment_count": "0",
        "reopen_count": "0",
        "sys_mod_count": str(modification),
        "opened_at": "29/2/2016 01:16",
        "sys_updated_at": at,
        "closed_at": "5/3/2016 12:00",
        "closed_code": "code 5",
    }
    return dict.fromkeys(COLUMNS, "?") | given | more


ROWS = [
    row("INC1", "29/2/2016 01:23", 0, assignment_group="Group 56"),
    row("INC1", "1/3/2016 10:00", 3, "Closed"),
    row("INC1", "1/3/2016 10:00", 2, "Resolved"),
    row("INC2", "29/2/2016 23:59", 0, "-100"),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / FILE
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def ids(records: list[FeedRecord]) -> list[str]:
    return [dict(record.headers)["ce_id"].decode() for record in records]


def test_rows_come_in_the_order_in_which_they_happened(log: Path) -> None:
    assert ids(feed(log)) == ["INC1/0000/000001", "INC2/0000/000004", "INC1/0002/000003", "INC1/0003/000002"]


def test_a_zip_is_read_like_the_file_in_it(log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "log.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(log, FILE)
    assert feed(packed) == feed(log)


def test_what_is_not_known_yet_is_not_said(log: Path) -> None:
    body = json.loads(feed(log)[0].value)
    assert body["group"] == "Group 56"
    assert body["problem"] is None
    assert body["opened_at"] == "2016-02-29T01:16:00Z"
    assert "code 5" not in body.values()
    assert not {"closed_at", "closed_code", "resolved_at", "resolved_by", "made_sla"} & body.keys()


def test_until_is_the_last_minute_that_is_played(log: Path) -> None:
    assert len(feed(log, until=datetime(2016, 2, 29, 23, 59, tzinfo=UTC))) == 2
    assert len(feed(log, until=datetime(2016, 2, 29, 23, 58, tzinfo=UTC))) == 1


def test_a_disturbed_feed_has_every_event_late_at_most_by_the_displacement(log: Path) -> None:
    late = timedelta(minutes=30)
    records = feed(log, duplicates=1.0, displaced=1.0, displacement=late, seed=3)
    assert sorted(ids(records)) == sorted([*ids(feed(log))] * 2)
    assert all(0 <= record.play_ms - record.time_ms <= 2 * 30 * 60_000 for record in records)
    assert records == feed(log, duplicates=1.0, displaced=1.0, displacement=late, seed=3)
    assert records == sorted(records, key=lambda record: record.play_ms)


def test_it_says_what_is_wrong(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"feed\(\) expected duplicates as a share from 0 to 1, got 2"):
        feed(log, duplicates=2)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the ServiceNow incident log, got .*other\.csv without"):
        feed(other)
    with pytest.raises(FileNotFoundError):
        feed(tmp_path / "nowhere.csv")


def test_a_state_that_is_none_is_quarantined_and_the_rest_is_known(log: Path) -> None:
    memory = run(
        incidents,
        [
            Given("raw", 0, number, record.play_ms + 1000, record.key, record.value, record.headers)
            for number, record in enumerate(feed(log))
        ],
    )
    assert [refused["field"] for refused in memory.quarantine] == ["state"]
    state = memory.row("incident", "INC1").state.model_dump()
    assert (state["state"], state["modification"], state["working_group"]) == ("Closed", 3, None)
    # It is not open any more.
    assert memory.row("group", "Group 56").related["backlog"] == {}
