"""The incidents pipeline against SQL over the whole log; in: the real log, disturbed; out: asserts.

Each comparison is made at three instants. The SQL knows nothing of events, lanes or rows: it takes, of each incident,
the last row of the file as of the instant.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

from examples.incidents import Incident, incidents
from examples.incidents_feed import FILE, feed
from schemas.record import Given
from schemas.row import Row
from schemas.times import from_ms, to_ms
from streams.memory import Memory, passed

LOG = Path(__file__).parents[3] / "shared" / "data" / "servicenow_incidents" / f"{FILE}.zip"
INSTANTS = [datetime(2016, 3, 8, 12, tzinfo=UTC), datetime(2016, 3, 21, 7, 30, tzinfo=UTC)]
INSTANTS.append(datetime(2016, 4, 1, tzinfo=UTC))
DAY_MS = 24 * 3600 * 1000
# Inside the grace of an hour.
DISPLACEMENT = timedelta(minutes=50)

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("incidents"),
    pytest.mark.skipif(
        not LOG.exists(), reason=f"{LOG.parent.name}: the incident log is not beside the repository"
    ),
]

VIEWS = """
CREATE TABLE log AS
SELECT *, row_number() OVER () AS line, strptime(sys_updated_at, '%d/%m/%Y %H:%M') AS updated,
    sys_mod_count::INT AS modification
FROM read_csv(?, all_varchar = true, nullstr = '?', header = true)
WHERE incident_state <> '-100';
CREATE MACRO as_of(moment) AS TABLE
SELECT * FROM log WHERE updated <= moment
QUALIFY row_number() OVER (PARTITION BY number ORDER BY updated DESC, modification DESC, line DESC) = 1;
CREATE MACRO open(moment) AS TABLE SELECT * FROM as_of(moment) WHERE incident_state <> 'Closed';
"""


@dataclass
class Then:
    """The pipeline's rows at one instant."""

    at: datetime
    rows: dict[str, dict[str, Row[Any]]]

    @property
    def incidents(self) -> dict[str, Incident]:
        """Number → state."""
        return {key: row.state for key, row in self.rows["incident"].items()}

    def count(self, of: Callable[[Incident], Any], where: Callable[[Incident], bool]) -> dict[Any, int]:
        """How many incidents have what in common."""
        return Counter(of(each) for each in self.incidents.values() if where(each))

    def related(self, entity: str, link: str, field: str) -> dict[tuple[str, Any], int]:
        """(key, value of a carried field) → how many related incidents have it now."""
        return Counter(
            (key, fields[field][-1].value)
            for key, row in self.rows[entity].items()
            for fields in row.related.get(link, {}).values()
        )

    def window(self, entity: str, window: str) -> dict[str, int]:
        """Key → how many items the window has, looked at now."""
        since_ms = to_ms(self.at) - DAY_MS
        return Counter(
            key
            for key, row in self.rows[entity].items()
            for item in row.windows.get(window, ())
            if since_ms < item.time_ms <= to_ms(self.at)
        )


def is_open(state: Incident) -> bool:
    return state.state != "Closed"


# What → the SQL that says it, with `$at` the instant, and how the rows say it.
COMPARISONS: dict[str, tuple[str, Callable[[Then], dict[Any, int]]]] = {
    "incidents by state": (
        "SELECT incident_state, count(*) FROM as_of($at) GROUP BY 1",
        lambda then: then.count(lambda i: i.state, lambda i: True),
    ),
    "open by priority": (
        "SELECT priority, count(*) FROM open($at) GROUP BY 1",
        lambda then: then.count(lambda i: i.priority, is_open),
    ),
    "open by group, without one too": (
        "SELECT assignment_group, count(*) FROM open($at) GROUP BY 1",
        lambda then: then.count(lambda i: i.group, is_open),
    ),
    "reassigned three times or more": (
        "SELECT reassignment_count::INT, count(*) FROM open($at) WHERE reassignment_count::INT >= 3 GROUP BY 1",
        lambda then: then.count(lambda i: i.reassignments, lambda i: is_open(i) and i.reassignments >= 3),
    ),
    "reopened": (
        "SELECT number, reopen_count::INT FROM as_of($at) WHERE reopen_count::INT > 0",
        lambda then: {key: i.reopened for key, i in then.incidents.items() if i.reopened},
    ),
    "last modification of each": (
        "SELECT number, modification FROM as_of($at)",
        lambda then: {key: i.modification for key, i in then.incidents.items()},
    ),
    "opened, by day": (
        "SELECT strptime(opened_at, '%d/%m/%Y %H:%M')::DATE::VARCHAR, count(*) FROM as_of($at) GROUP BY 1",
        lambda then: then.count(lambda i: str(i.opened_at)[:10], lambda i: True),
    ),
    "a caller's open incidents by state": (
        "SELECT (caller_id, incident_state), count(*) FROM open($at) WHERE caller_id IS NOT NULL GROUP BY 1",
        lambda then: then.related("caller", "waiting", "state"),
    ),
    "a group's open incidents by state": (
        (
            "SELECT (assignment_group, incident_state), count(*) FROM open($at) "
            "WHERE assignment_group IS NOT NULL GROUP BY 1"
        ),
        lambda then: then.related("group", "backlog", "state"),
    ),
    "a group's open incidents by reassignments": (
        (
            "SELECT (assignment_group, reassignment_count::INT), count(*) FROM open($at) "
            "WHERE assignment_group IS NOT NULL GROUP BY 1"
        ),
        lambda then: then.related("group", "backlog", "reassignments"),
    ),
    "a problem's open incidents by priority": (
        "SELECT (problem_id, priority), count(*) FROM open($at) WHERE problem_id IS NOT NULL GROUP BY 1",
        lambda then: then.related("problem", "symptoms", "priority"),
    ),
    "new for a group within a day": (
        (
            "SELECT assignment_group, count(*) FROM log WHERE modification = 0 AND updated <= $at "
            "AND updated > $at - INTERVAL 1 DAY AND assignment_group IS NOT NULL GROUP BY 1"
        ),
        lambda then: then.window("group", "arrivals"),
    ),
    "heard of a problem within a day": (
        (
            "SELECT problem_id, count(*) FROM log WHERE updated <= $at AND updated > $at - INTERVAL 1 DAY "
            "AND problem_id IS NOT NULL GROUP BY 1"
        ),
        lambda then: then.window("problem", "reports"),
    ),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The whole log in DuckDB."""
    folder = tmp_path_factory.mktemp("log")
    with zipfile.ZipFile(LOG) as archive:
        path = archive.extract(FILE, folder)
    with duckdb.connect() as db:
        create, *macros = VIEWS.split(";\n")
        db.execute(create, [path])
        for macro in macros:
            db.execute(macro)
        yield db


@pytest.fixture(scope="module")
def played() -> tuple[Memory, dict[datetime, Then], int]:
    """The log through the pipeline, half of it late, a tenth of it twice: the rows at each instant, and how often an
    event came again.
    """
    records = feed(LOG, until=INSTANTS[-1], duplicates=0.1, displaced=0.5, displacement=DISPLACEMENT, seed=5)
    memory, thens, day_ms, number = Memory(incidents), dict[datetime, Then](), 0, 0
    spans = pairwise([0, *map(to_ms, INSTANTS)])
    for at, (since_ms, until_ms) in zip(INSTANTS, spans, strict=True):
        for record in records:
            if not since_ms < record.time_ms <= until_ms:
                continue
            number += 1
            # Time comes when the last late one of the day before has come.
            if (heard_ms := (record.play_ms - 3600_000) // DAY_MS * DAY_MS) > day_ms:
                day_ms = heard_ms
                memory.send([passed(from_ms(day_ms))])
                for role in memory.records.keys() - {"quarantine"}:
                    memory.records[role].clear()
            arrived_ms = record.play_ms + 1000
            memory.send([Given("raw", 0, number, arrived_ms, record.key, record.value, record.headers)])
        rows: dict[str, dict[str, Row[Any]]] = {name: {} for name in memory.plan.entities}
        # Rows are never changed in place: what is held here stays as it is.
        for row_key, row in memory.lane.rows._live.items():
            entity, _, key = row_key.decode().partition(":")
            if entity in rows:
                rows[entity][key] = row
        thens[at] = Then(at, rows)
    return memory, thens, number - len({record.headers[1][1] for record in records})


@pytest.mark.parametrize("at", INSTANTS, ids=lambda at: f"{at:%m-%d %H:%M}")
@pytest.mark.parametrize("what", COMPARISONS)
def test_the_rows_say_what_sql_says(
    database: duckdb.DuckDBPyConnection, played: Any, what: str, at: datetime
) -> None:
    sql, said = COMPARISONS[what]
    expected = dict(database.execute(sql, {"at": at.replace(tzinfo=None)}).fetchall())
    assert expected
    assert said(played[1][at]) == expected


def test_the_first_of_april_is_as_it_is_known(played: Any) -> None:
    """Figures that were found without this code."""
    then: Then = played[1][INSTANTS[-1]]
    states = then.count(lambda i: i.state, lambda i: True)
    assert states == {
        "Active": 587,
        "New": 314,
        "Resolved": 1865,
        "Closed": 5856,
        "Awaiting User Info": 544,
        "Awaiting Problem": 36,
    }
    groups = then.count(lambda i: i.group, is_open)
    assert (groups["Group 70"], groups[None], groups["Group 25"]) == (681, 538, 215)
    related = {
        (entity, key): len(then.rows[entity][key].related[link])
        for entity, key, link in (
            ("caller", "Caller 1904", "waiting"),
            ("problem", "Problem ID  52", "symptoms"),
            ("group", "Group 70", "backlog"),
        )
    }
    assert [*related.values()] == [77, 12, 681]
    assert sum(i.reassignments >= 3 for i in then.incidents.values() if is_open(i)) == 462


def test_what_came_twice_counts_once(played: Any) -> None:
    memory, thens, again = played
    last = thens[INSTANTS[-1]]
    assert again > 4000
    assert memory.lane.tally["duplicate", "incident.updated"] == again
    assert sum(row.version for row in last.rows["incident"].values()) == 50_316
    assert memory.quarantine == []


def test_no_row_knows_what_came_later(played: Any) -> None:
    """The log's own columns do: when an incident will be closed, by whom and why stands on its first row."""
    assert not {"closed_at", "resolved_at", "resolved_by", "closed_code"} & Incident.model_fields.keys()
    for then in played[1].values():
        latest_ms = max(row.as_of_ms for row in then.rows["incident"].values())
        assert latest_ms <= to_ms(then.at)
