"""tables/snapshot_parquet.py: what a snapshot holds stands in Parquet files, records by day, whole or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic_core import to_json

from schemas.record import Given
from schemas.row import Row, State
from schemas.times import to_ms
from tables.snapshot import Cut, Snapshot, Source
from tables.snapshot_columns import SnapshotError
from tables.snapshot_parquet import export
from tables.snapshot_tables import tables

CUT = Cut("cluster", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
DAYS = [datetime(2026, 1, day, 23, 59, tzinfo=UTC) for day in (1, 2, 2)]


class Box(State):
    place: str = "shelf"


def change(number: int, at: datetime) -> Given:
    body = {
        "entity": "box", "key": "a", "version": number, "time_ms": 0, "event_id": f"e{number}", "event_type": "t",
        "fields": {"place": [None, f"p{number}"]},
    }  # fmt: skip
    return Given("demo.changes", 0, number, to_ms(at), b"box:a", to_json(body))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A snapshot of one box and three changes on two days."""
    states: dict[str, type[State]] = {"box": Box}
    roles = {table.role: f"demo.{table.role}" for table in tables(states)}
    snapshot = Snapshot(tmp_path / "demo.work", Source("demo", 1, roles, states, {"box": "arrival"}))
    row = Row[Box](state=Box(place="it's"), version=3).model_dump_json().encode()
    rows = [Given("demo.box.changelog", 0, 0, 1000, b"box:a", row)]
    changes = [change(number, at) for number, at in enumerate(DAYS)]
    snapshot.apply({"demo.box.changelog": rows, "demo.changes": changes}, {}, CUT)
    path = tmp_path / "it's demo.duckdb"
    snapshot.publish(path)
    snapshot.close()
    return path


def ask(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as db:
        return db.execute(query).fetchall()


def test_records_stand_by_the_day_and_the_rest_in_one_file(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"

    rows = export(published, folder)

    assert (rows["box"], rows["changes"], rows["actions"]) == (1, 3, 0)
    assert sorted(each.name for each in (folder / "changes").iterdir()) == [
        "day=2026-01-01",
        "day=2026-01-02",
    ]
    found = ask(
        f"SELECT day::VARCHAR, new->>'$' FROM read_parquet('{folder}/changes/**/*.parquet', hive_partitioning = true) "
        "ORDER BY version"
    )
    assert found == [("2026-01-01", "p0"), ("2026-01-02", "p1"), ("2026-01-02", "p2")]
    assert ask(f"SELECT key, place, version FROM '{folder}/box/data.parquet'") == [("a", "it's", 3)]


def test_a_table_without_rows_has_its_columns(published: Path, tmp_path: Path) -> None:
    export(published, tmp_path / "out")

    columns = ask(f"DESCRIBE SELECT * FROM '{tmp_path}/out/actions/data.parquet'")
    assert {"action_id", "recorded_at"} <= {name for name, *_ in columns}


def test_an_earlier_export_is_replaced_whole(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export(published, folder)
    (folder / "changes" / "day=1999-01-01").mkdir()

    export(published, folder)

    assert sorted(each.name for each in (folder / "changes").iterdir()) == [
        "day=2026-01-01",
        "day=2026-01-02",
    ]
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("out")) == ["out"]


def test_somebody_elses_folder_is_left_alone(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("four years")

    with pytest.raises(SnapshotError, match="holds something that is no export"):
        export(published, folder)

    assert (folder / "thesis.txt").read_text() == "four years"
    assert export(published, tmp_path / "empty" / "deep")["box"] == 1
