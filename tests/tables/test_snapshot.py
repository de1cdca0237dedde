"""The working database and the published file: typed rows, whole files, and nothing lost or doubled by a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from schemas.quarantine import Origin, Reason, Refusal, quarantine_headers
from schemas.record import Given, Placed
from schemas.row import Cause, OpenReview, Row, State, WindowItem
from schemas.units import UtcTime
from tables.snapshot import Cut, Snapshot, Source
from tables.snapshot_columns import SnapshotError
from tables.snapshot_records import VALUE_BYTES
from tables.snapshot_tables import tables

ROOT = Path(__file__).parents[2]
CUT = Cut("cluster", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


class Flight(State):
    status: Literal["scheduled", "departed"] = "scheduled"
    tail: str | None = None
    seats: int | None = None
    distance_km: float | None = None
    boarded: bool = False
    departed_at: UtcTime | None = None
    day: date | None = None
    stops: tuple[str, ...] = ()


def source(pipeline: str = "demo", state: type[State] = Flight, entity: str = "flight") -> Source:
    states = {entity: state}
    return Source(
        pipeline,
        1,
        {table.role: f"demo.{table.role}" for table in tables(states)},
        states,
        {entity: "latest"},
    )


@pytest.fixture
def snapshot(tmp_path: Path) -> Iterator[Snapshot]:
    opened = Snapshot(tmp_path / "demo.work", source())
    yield opened
    opened.close()


def changelog(key: str, row: Row[Flight] | None, offset: int = 0) -> Given:
    value = None if row is None else row.model_dump_json().encode()
    return Given("demo.flight.changelog", 0, offset, 1_000, f"flight:{key}".encode(), value)


def flight(version: int = 1, **fields: Any) -> Row[Flight]:
    return Row[Flight](state=Flight(**fields), version=version)


def apply(snapshot: Snapshot, *records: Placed, offsets: dict[tuple[str, int], int] | None = None) -> None:
    by_topic: dict[str, list[Placed]] = {}
    for record in records:
        by_topic.setdefault(record.topic, []).append(record)
    snapshot.apply(by_topic, offsets or {}, CUT)


def published(snapshot: Snapshot, query: str) -> list[tuple[Any, ...]]:
    """The answer of a snapshot that was published just now; `snapshot` stays as it is."""
    path = snapshot.working.with_name("look.duckdb")
    snapshot.publish(path)
    return ask(path, query)


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        return db.execute(query).fetchall()


# --- rows ----------------------------------------------------------------------------------------------------------


def test_an_entity_has_a_typed_column_for_each_field_and_what_explains_it(snapshot: Snapshot) -> None:
    at = datetime(2013, 2, 7, 12, 30, tzinfo=UTC)
    row = Row[Flight](
        state=Flight(
            status="departed",
            tail="N1",
            seats=2**63 - 1,
            distance_km=1.5,
            boarded=True,
            departed_at=at,
            day=at.date(),
            stops=("a",),
        ),
        version=4,
        as_of_ms=1_360_240_200_123,
        cause=Cause("e4", "flight.departed", "/test", 1_360_240_200_000),
        windows={"recent": [WindowItem(1, "e1", {"n": 1.0})]},
        reviews={
            "rev_1": OpenReview(
                decision_id="d", decision="swap", at_ms=1, deadline_ms=None, verdict={}, context={}, route="rule",
                trigger="t", event_id="e",
            )
        },
        admitted=3,
        duplicates=2,
        evicted={"seen": 1},
    )  # fmt: skip
    apply(snapshot, changelog("a:b", row))
    columns = "key, status, tail, seats, distance_km, boarded, departed_at::VARCHAR, day, stops, version"
    assert published(snapshot, f"SELECT {columns} FROM flight") == [
        ("a:b", "departed", "N1", 2**63 - 1, 1.5, True, "2013-02-07 12:30:00+00", at.date(), '["a"]', 4)
    ]
    columns = (
        "as_of::VARCHAR, cause_event_id, cause_event_type, cause_source, cause_time::VARCHAR, admitted, duplicates, "
        "windows, related, json_keys(open_reviews), evicted, recorded_at::VARCHAR"
    )
    assert published(snapshot, f"SELECT {columns} FROM flight") == [
        (
            *("2013-02-07 12:30:00.123+00", "e4", "flight.departed", "/test", "2013-02-07 12:30:00+00", 3, 2),
            *('{"recent":[[1,"e1",{"n":1.0}]]}', "{}", ["rev_1"], '{"seen":1}', "1970-01-01 00:00:01+00"),
        )
    ]


def test_a_row_without_an_event_has_no_time(snapshot: Snapshot) -> None:
    apply(snapshot, changelog("a", flight(version=0)))
    assert published(snapshot, "SELECT as_of, cause_event_id, cause_time, tail FROM flight") == [(None,) * 4]


INSTANTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
STATES = st.builds(
    Flight,
    status=st.sampled_from(["scheduled", "departed"]),
    tail=st.none() | st.text(),
    seats=st.none() | st.integers(-(2**63), 2**63 - 1),
    distance_km=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    boarded=st.booleans(),
    departed_at=st.none() | INSTANTS,
    stops=st.lists(st.text(), max_size=3).map(tuple),
)


@settings(max_examples=25, deadline=None)
@given(states=st.lists(STATES, min_size=1, max_size=40))
def test_what_a_state_holds_is_what_its_row_holds(
    states: list[Flight], tmp_path_factory: pytest.TempPathFactory
) -> None:
    snapshot = Snapshot(tmp_path_factory.mktemp("law") / "demo.work", source())
    try:
        rows = [changelog(str(i), Row[Flight](state=state, version=1)) for i, state in enumerate(states)]
        apply(snapshot, *rows)
        columns = "status, tail, seats, distance_km, boarded, epoch_us(departed_at), stops"
        found = published(snapshot, f"SELECT {columns} FROM flight ORDER BY key::INTEGER")
        refused = published(snapshot, "SELECT reason FROM _unreadable")
    finally:
        snapshot.close()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert refused == []
    assert [(*row[:6], tuple(json.loads(row[6]))) for row in found] == [
        (
            *(state.status, state.tail, state.seats, state.distance_km, state.boarded),
            None if state.departed_at is None else (state.departed_at - epoch) // timedelta(microseconds=1),
            state.stops,
        )
        for state in states
    ]


def test_a_newer_row_replaces_an_older_one_in_the_same_batch_or_a_later_one(snapshot: Snapshot) -> None:
    apply(snapshot, changelog("a", flight(1)), changelog("b", flight(1)), changelog("a", flight(2), 2))
    assert published(snapshot, "SELECT key, version FROM flight ORDER BY key") == [("a", 2), ("b", 1)]
    apply(snapshot, changelog("b", flight(2), 3), changelog("c", flight(1), 4))
    assert published(snapshot, "SELECT key, version FROM flight ORDER BY key") == [
        ("a", 2),
        ("b", 2),
        ("c", 1),
    ]


def test_a_tombstone_takes_a_row_away(snapshot: Snapshot) -> None:
    apply(snapshot, changelog("a", flight()), changelog("b", flight()), changelog("c", None, 2))
    apply(snapshot, changelog("a", None, 3))
    apply(snapshot, changelog("b", None, 4), changelog("b", flight(2), 5))
    assert published(snapshot, "SELECT key, version FROM flight") == [("b", 2)]


def test_a_change_is_a_row_for_each_field(snapshot: Snapshot) -> None:
    body = {
        "entity": "flight",
        "key": "a",
        "version": 2,
        "time_ms": 5_000,
        "event_id": "e",
        "event_type": "t",
        "fields": {"status": ["scheduled", "departed"], "seats": [None, 3], "stops": [["x"], None]},
    }
    apply(snapshot, Given("demo.changes", 2, 7, 6_000, b"flight:a", to_json(body)))
    columns = (
        "field, old, new, version, event_time::VARCHAR, recorded_at::VARCHAR, kafka_partition, kafka_offset"
    )
    place = (2, "1970-01-01 00:00:05+00", "1970-01-01 00:00:06+00", 2, 7)
    assert published(snapshot, f"SELECT {columns} FROM changes ORDER BY field") == [
        ("seats", None, "3", *place),
        ("status", '"scheduled"', '"departed"', *place),
        ("stops", '["x"]', None, *place),
    ]


def decision(name: str = "d1", offset: int = 0, **more: Any) -> Given:
    body = {
        "decision_id": name, "pipeline": "demo", "pipeline_version": 1, "decision": "rebook", "entity": "flight",
        "key": "a", "trigger": {"name": "n", "event_id": "e", "event_type": "t", "time_ms": 1_000}, "at_ms": 2_000,
        "state_version": 3, "context": {"x": 1.0}, "context_hash": "h", "hops": [{"route": "rule"}], "route": "rule",
        "verdict": {"action": "rebook", "reason": "why", "confidence": 0.75}, "stakes": "low", "gate": "proceed",
        "gate_reason": "ok", "review_id": None, "action_id": "act", "source_partition": 1, "source_offset": 9,
    }  # fmt: skip
    return Given(
        "demo.decisions", 0, offset, 7_000, b"flight:a", to_json(body | more), [("ms_ingested", b"6500")]
    )


def test_a_decision_shows_its_verdict_and_how_long_it_took(snapshot: Snapshot) -> None:
    apply(snapshot, decision())
    columns = (
        "decision_id, action, confidence, reason, trigger_event_id, trigger_time::VARCHAR, as_of::VARCHAR, context, "
        "hops, action_id, review_id, source_offset, latency_ms"
    )
    assert published(snapshot, f"SELECT {columns} FROM decisions") == [
        (
            *("d1", "rebook", 0.75, "why", "e", "1970-01-01 00:00:01+00", "1970-01-01 00:00:02+00"),
            *('{"x":1.0}', '[{"route":"rule"}]', "act", None, 9, 500),
        )
    ]


def test_a_refused_record_keeps_its_bytes(snapshot: Snapshot) -> None:
    value = bytes(range(256)) * 400
    headers = quarantine_headers(
        Refusal(Reason.NOT_JSON, "body", "x"), Origin("demo.raw", 1, 2), [("h", b"v")]
    )
    record = Given("demo.quarantine", 0, 0, 0, b"\xff", value, headers)
    tombstone = Given("demo.quarantine", 0, 1, 0, None, None, headers)
    apply(snapshot, record, tombstone)
    columns = "reason, field, detail, origin_topic, origin_partition, origin_offset, key, size_bytes, headers, value"
    why = ("not_json", "body", "x", "demo.raw", 1, 2)
    assert published(snapshot, f"SELECT {columns} FROM quarantine ORDER BY kafka_offset") == [
        (*why, "\\xff", len(value), '{"h":"v"}', value[:VALUE_BYTES]),
        (*why, None, None, '{"h":"v"}', None),
    ]


# --- records that fit no table ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"null",
        b"{}",
        b"[]",
        b"no json",
        b'{"decision_id": "x"',
        b'{"decision_id": "\xff"}',
        b'null}\n{"p":0,"o":0,"t":0,"i":0,"k":"x","v":{"decision_id":"smuggled","decision":"d"}',
        decision(at_ms="soon").value,
        decision(at_ms=2**63).value,
        decision(verdict={"confidence": "high"}).value,
        decision(decision_id=None).value,
    ],
)
def test_a_record_that_fits_no_table_is_shown_and_stops_no_other(
    snapshot: Snapshot, value: bytes | None
) -> None:
    foreign = Given("demo.decisions", 1, 5, 0, b"\xfekey", value)
    apply(snapshot, decision("d1", 0), decision("d2", 1), foreign, decision("d3", 2), decision("d4", 3))
    assert published(snapshot, "SELECT decision_id FROM decisions ORDER BY 1") == [
        ("d1",),
        ("d2",),
        ("d3",),
        ("d4",),
    ]
    ((topic, number, offset, key, reason, kept),) = published(snapshot, "FROM _unreadable")
    assert (topic, number, offset, key, kept) == ("demo.decisions", 1, 5, "\\xfekey", value)
    assert reason


def test_a_row_beyond_64_bits_is_shown_as_unreadable_and_its_older_self_is_gone(snapshot: Snapshot) -> None:
    apply(snapshot, changelog("a", flight(1)), changelog("b", flight(1)))
    apply(snapshot, changelog("a", flight(2, seats=2**70), 2), changelog("b", flight(2), 3))
    assert published(snapshot, "SELECT key, version FROM flight") == [("b", 2)]
    assert published(snapshot, "SELECT key, kafka_offset FROM _unreadable") == [("flight:a", 2)]


def test_a_row_without_a_key_is_unreadable(snapshot: Snapshot) -> None:
    row = flight().model_dump_json().encode()
    places = [(0, 0), (0, 1), (1, 0)]
    records = [Given("demo.flight.changelog", *place, 0, None, row) for place in places]
    apply(snapshot, *records, changelog("a", flight(), 2))
    assert published(snapshot, "SELECT key FROM flight") == [("a",)]
    assert published(snapshot, "SELECT kafka_partition, kafka_offset FROM _unreadable ORDER BY ALL") == places


def test_a_record_larger_than_duckdb_expects_is_read(snapshot: Snapshot) -> None:
    text = "x" * (17 << 20)
    apply(snapshot, changelog("a", flight(tail=text)))
    assert published(snapshot, "SELECT length(tail) FROM flight") == [(len(text),)]


# --- offsets and reopening -------------------------------------------------------------------------------------------


def test_rows_and_offsets_are_there_after_reopening(snapshot: Snapshot) -> None:
    apply(snapshot, decision(), offsets={("demo.decisions", 0): 1, ("demo.decisions", 1): 0})
    apply(snapshot, decision("d2", 1), offsets={("demo.decisions", 0): 2})
    snapshot.close()
    again = Snapshot(snapshot.working, source())
    assert again.offsets() == {("demo.decisions", 0): 2, ("demo.decisions", 1): 0}
    assert (again.cluster(), again.last_cut_ms()) == ("cluster", CUT.at.timestamp() * 1000)
    assert again.renewed == []
    assert again.rows()["decisions"] == 2
    again.close()


def test_the_file_says_what_it_holds(snapshot: Snapshot) -> None:
    apply(snapshot, offsets={("demo.decisions", 0): 7})
    assert published(snapshot, "SELECT * EXCLUDE cut_at, cut_at::VARCHAR FROM _offsets") == [
        ("demo.decisions", 0, 7, True, "demo", 1, "cluster", "2026-01-02 03:04:05+00")
    ]
    there = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'look'"
    told = "SELECT table_name, column_name, data_type FROM _columns"
    assert published(snapshot, f"({there} EXCEPT {told}) UNION ALL ({told} EXCEPT {there})") == []


def test_a_state_that_has_changed_is_read_anew_and_nothing_else(snapshot: Snapshot) -> None:
    class Wider(Flight):
        gate: str | None = None

    apply(
        snapshot,
        changelog("a", flight()),
        decision(),
        offsets={("demo.flight.changelog", 0): 1, ("demo.decisions", 0): 1},
    )
    snapshot.close()
    wider = Snapshot(snapshot.working, source(state=Wider))
    assert wider.renewed == ["flight"]
    assert wider.offsets() == {("demo.decisions", 0): 1}
    assert (wider.rows()["flight"], wider.rows()["decisions"]) == (0, 1)
    wider.close()


def test_a_file_with_other_books_is_read_anew_as_a_whole(snapshot: Snapshot) -> None:
    apply(snapshot, decision(), offsets={("demo.decisions", 0): 1})
    snapshot.close()
    with duckdb.connect(str(snapshot.working)) as db:
        db.execute("ALTER TABLE _unreadable ADD COLUMN more INTEGER")
    again = Snapshot(snapshot.working, source())
    assert set(again.renewed) >= {"decisions", "_offsets", "_unreadable"}
    assert (again.offsets(), again.rows()["decisions"]) == ({}, 0)
    again.close()


def test_an_entity_that_is_gone_is_gone(snapshot: Snapshot) -> None:
    offsets = {("demo.flight.changelog", 0): 1, ("demo.decisions", 0): 1}
    apply(snapshot, changelog("a", flight()), changelog("b", flight(seats=2**70)), offsets=offsets)
    snapshot.close()
    other = Snapshot(snapshot.working, source(entity="plane"))
    assert "flight" not in other.rows()
    assert other.rows()["_unreadable"] == 0
    assert other.offsets() == {("demo.decisions", 0): 1}
    assert published(other, "SELECT count(*) FROM _columns WHERE table_name = 'flight'") == [(0,)]
    other.close()


def test_forgotten_topics_are_empty_and_begin_anew(snapshot: Snapshot) -> None:
    offsets = {("demo.flight.changelog", 0): 1, ("demo.decisions", 0): 1}
    apply(snapshot, changelog("a", flight()), decision(), decision(decision_id=None), offsets=offsets)
    snapshot.forget(["demo.decisions"])
    assert snapshot.offsets() == {("demo.flight.changelog", 0): 1}
    assert {name: rows for name, rows in snapshot.rows().items() if rows} == {"flight": 1}


def test_a_batch_that_fails_changes_nothing(snapshot: Snapshot) -> None:
    apply(snapshot, decision(), offsets={("demo.decisions", 0): 1})
    with pytest.raises(duckdb.ConversionException):
        apply(snapshot, decision("d2", 1), offsets={("demo.decisions", 2**40): 2})
    assert snapshot.offsets() == {("demo.decisions", 0): 1}
    assert snapshot.rows()["decisions"] == 1


def test_another_pipelines_file_is_left_alone(snapshot: Snapshot) -> None:
    apply(snapshot, offsets={("demo.decisions", 0): 1})
    snapshot.close()
    with pytest.raises(SnapshotError, match="belongs to pipeline 'demo', not 'other'"):
        Snapshot(snapshot.working, source("other"))


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo.work").write_text("my notes " * 1000)
    with pytest.raises(SnapshotError, match=r"cannot open .*demo\.work"):
        Snapshot(tmp_path / "demo.work", source())
    assert (tmp_path / "demo.work").read_text() == "my notes " * 1000


def test_two_processes_do_not_share_a_working_file(snapshot: Snapshot) -> None:
    program = f"""
        from tests.tables.test_snapshot import *
        try:
            Snapshot(Path({str(snapshot.working)!r}), source())
        except SnapshotError as error:
            print(error)
    """
    tried, _ = started(program).communicate(timeout=20)
    assert "If another `midstream snapshot` runs, let it end" in tried


# --- killed ----------------------------------------------------------------------------------------------------------


def started(program: str) -> subprocess.Popen[str]:
    """A program in a process of its own, indented as it stands in a test."""
    command = [sys.executable, "-c", dedent(program)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def batches(working: Path, first: int) -> None:
    """Apply batch after batch without end: one row for each offset, and a row that every batch replaces."""
    snapshot = Snapshot(working, source())
    start = snapshot.offsets().get(("demo.decisions", 0), 0)
    print("started at", start, flush=True)
    for number in range(start, start + 1_000_000, 50):
        records = [decision(f"d{number + i}", number + i) for i in range(50)]
        row = changelog("a", flight(number + 50), number)
        apply(snapshot, *records, row, offsets={("demo.decisions", 0): number + 50})
        if number % 500 == 0:
            snapshot.publish(working.with_name("demo.duckdb"))


def test_a_killed_run_has_lost_and_doubled_nothing(tmp_path: Path) -> None:
    working, reached = tmp_path / "demo.work", []
    program = f"from tests.tables.test_snapshot import *; batches(Path({str(working)!r}), 0)"
    for pause_s in (0.05, 0.31, 0.17, 0.43):
        child = started(program)
        assert child.stdout is not None
        assert child.stdout.readline().startswith("started")
        time.sleep(pause_s)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=20)
        snapshot = Snapshot(working, source())
        offset = snapshot.offsets().get(("demo.decisions", 0), 0)
        reached.append(offset)
        found = (
            "SELECT count(*), count(DISTINCT decision_id), (SELECT max(version) FROM flight) FROM decisions"
        )
        assert published(snapshot, found) == [(offset, offset, offset or None)]
        snapshot.publish(tmp_path / "demo.duckdb")
        assert ask(tmp_path / "demo.duckdb", "SELECT count(*) FROM decisions") == [(offset,)]
        snapshot.close()
    assert reached == sorted(set(reached))
    assert {path.name for path in tmp_path.iterdir()} == {"demo.work", "demo.duckdb", "look.duckdb"}


# --- the published file ----------------------------------------------------------------------------------------------


def test_a_published_file_opens_in_duckdb_1(snapshot: Snapshot, tmp_path: Path) -> None:
    snapshot.publish(tmp_path / "demo.duckdb")
    header = (tmp_path / "demo.duckdb").read_bytes()[:20]
    # Magic bytes at 8, storage version at 12; 64 is DuckDB 0.9 to 1.1 (duckdb.org, Storage Versions and Format).
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 64


def test_who_has_the_old_file_open_keeps_it(snapshot: Snapshot, tmp_path: Path) -> None:
    out = tmp_path / "demo.duckdb"
    snapshot.publish(out)
    program = f"""
        import duckdb, sys
        db = duckdb.connect({str(out)!r}, read_only=True)
        print("open", flush=True)
        sys.stdin.readline()
        print(db.execute("SELECT count(*) FROM decisions").fetchall()[0][0])
    """
    reader = started(program)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "open\n"
    apply(snapshot, *(decision(f"d{i}", i) for i in range(5000)))
    snapshot.publish(out)
    told, _ = reader.communicate("\n", timeout=20)
    assert told == "0\n"
    assert ask(out, "SELECT count(*) FROM decisions") == [(5000,)]


def test_a_reader_never_sees_half_a_file(snapshot: Snapshot, tmp_path: Path) -> None:
    out, stop = tmp_path / "demo.duckdb", tmp_path / "stop"
    snapshot.publish(out)
    program = f"""
        from tests.tables.test_snapshot import *
        seen = set()
        while True:
            last = Path({str(stop)!r}).exists()
            rows, offset = ask(Path({str(out)!r}), "SELECT (SELECT count(*) FROM decisions), "
                               "(SELECT coalesce(max(next_offset), 0) FROM _offsets)")[0]
            assert rows == offset, (rows, offset)
            seen.add(rows)
            if last:
                break
        print(json.dumps(sorted(seen)))
    """
    reader = started(program)
    try:
        for number in range(0, 1000, 50):
            apply(
                snapshot,
                *(decision(f"d{number + i}", number + i) for i in range(50)),
                offsets={("demo.decisions", 0): number + 50},
            )
            snapshot.publish(out)
            time.sleep(0.05)
    finally:
        stop.touch()
        told, _ = reader.communicate(timeout=30)
    assert reader.returncode == 0
    assert len(json.loads(told)) > 3
    assert json.loads(told)[-1] == 1000


def test_what_a_killed_run_and_a_reader_left_behind_does_no_harm(snapshot: Snapshot, tmp_path: Path) -> None:
    out = tmp_path / "demo.duckdb"
    snapshot.publish(out)
    # A reader that may write, killed before its log went into the file.
    program = f"""
        import duckdb, os
        db = duckdb.connect({str(out)!r})
        db.execute("CREATE TABLE mine (x INTEGER)")
        os._exit(0)
    """
    started(program).communicate(timeout=20)
    assert (tmp_path / "demo.duckdb.wal").exists()
    (tmp_path / "demo.duckdb.tmp").write_bytes(b"half a file")
    (tmp_path / "demo.duckdb.tmp.wal").write_bytes(b"its log")
    apply(snapshot, decision())
    snapshot.publish(out)
    assert ask(out, "SELECT count(*) FROM decisions") == [(1,)]
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("demo.duckdb")} == {
        "demo.duckdb"
    }


def test_a_file_that_cannot_be_written_says_so_and_leaves_the_old_one(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    with pytest.raises(SnapshotError, match=r"cannot write .*/nowhere/demo"):
        snapshot.publish(tmp_path / "nowhere" / "demo.duckdb")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(SnapshotError, match="cannot write"):
        snapshot.publish(tmp_path / "folder")
    assert (tmp_path / "folder" / "kept").exists()
    snapshot.publish(tmp_path / "it's here.duckdb")
    assert ask(tmp_path / "it's here.duckdb", "SELECT count(*) FROM flight") == [(0,)]
    assert not list(tmp_path.glob("*.tmp*"))


def test_a_full_disk_is_told_and_costs_nothing_but_the_batch(tmp_path: Path) -> None:
    program = f"""
        import resource
        from tests.tables.test_snapshot import *
        folder = Path({str(tmp_path)!r})
        snapshot = Snapshot(folder / "demo.work", source())
        apply(snapshot, *(decision(f"d{{i}}", i) for i in range(100)), offsets={{("demo.decisions", 0): 100}})
        snapshot.publish(folder / "demo.duckdb")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            snapshot.publish(folder / "demo.duckdb")
        except SnapshotError as error:
            print(error)
        try:
            more = (decision(f"d{{i}}", i, note="x" * 500) for i in range(100, 2000))
            apply(snapshot, *more, offsets={{("demo.decisions", 0): 2000}})
        except SnapshotError as error:
            print(error)
        snapshot.close()
    """
    told, _ = started(program).communicate(timeout=60)
    publishing, applying = told.splitlines()
    assert publishing.startswith(f"cannot write {tmp_path}/demo.duckdb: ")
    assert applying.startswith(f"cannot write {tmp_path}/demo.work: ")
    assert ask(tmp_path / "demo.duckdb", "SELECT count(*) FROM decisions") == [(100,)]
    assert {path.name for path in tmp_path.iterdir()} <= {"demo.work", "demo.work.wal", "demo.duckdb"}
    again = Snapshot(tmp_path / "demo.work", source())
    assert (again.offsets(), again.rows()["decisions"]) == ({("demo.decisions", 0): 100}, 100)
    again.close()


def test_a_publication_can_be_interrupted(snapshot: Snapshot, tmp_path: Path) -> None:
    apply(snapshot, *(decision(f"d{i}", i) for i in range(20_000)))
    out = tmp_path / "demo.duckdb"
    snapshot.publish(out)
    before = out.stat().st_ino
    interrupted = publish_under_interrupts(snapshot, out)
    assert interrupted >= 1
    assert out.stat().st_ino == before
    snapshot.publish(out)
    assert ask(out, "SELECT count(*) FROM decisions") == [(20_000,)]
    assert not list(tmp_path.glob("*.tmp*"))


def publish_under_interrupts(snapshot: Snapshot, out: Path) -> int:
    """Publish while another thread interrupts; returns how often that ended it."""
    count, ended = 0, threading.Event()

    def nag() -> None:
        while not ended.wait(0.002):
            snapshot.interrupt()

    thread = threading.Thread(target=nag)
    thread.start()
    try:
        snapshot.publish(out)
    except duckdb.InterruptException:
        count += 1
    finally:
        ended.set()
        thread.join()
    return count


def test_many_records_take_seconds(snapshot: Snapshot) -> None:
    records: Sequence[Placed] = [decision(f"d{i}", i) for i in range(20_000)]
    began = time.monotonic()
    apply(snapshot, *records)
    # 0.3 s here; one statement per record would take 5 s and more.
    assert time.monotonic() - began < 3.0
