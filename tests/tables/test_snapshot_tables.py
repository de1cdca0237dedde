"""The tables of a pipeline: names that clash find another, and every column is explained."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from pydantic import create_model

from schemas.row import State
from tables.snapshot_columns import SnapshotError
from tables.snapshot_records import RECORDS
from tables.snapshot_tables import ABOUT, ENTITY, dictionary, tables


class Box(State):
    width: int = 0


def test_an_entity_is_a_table_called_like_it_from_its_changelog() -> None:
    box, *others = tables({"box": Box})
    assert (box.name, box.role, box.key, box.prefix) == ("box", "box.changelog", "key", "box:")
    names = [column.name for column in box.columns]
    assert names == ["key", "width", *(column.name for column in ENTITY[1:])]
    assert tuple(others) == RECORDS


@pytest.mark.parametrize("name", ["changes", "Decisions", "_offsets", "_columns"])
def test_an_entity_called_like_another_table_gets_a_longer_name(name: str) -> None:
    assert tables({name: Box})[0].name == f"entity_{name}"


@pytest.mark.parametrize("name", ["version", "Key", "windows"])
def test_a_state_field_called_like_an_explaining_column_gets_a_longer_name(name: str) -> None:
    state = create_model("S", __base__=State, **{name: (int, 0)})  # type: ignore[call-overload]
    table = tables({"box": state})[0]
    assert table.columns[1].name == f"state_{name}"
    assert table.columns[1].sql == f'v.state."{name}"'


def test_names_that_sql_cannot_tell_apart_are_refused_by_name() -> None:
    state = create_model("Twins", __base__=State, size=(int, 0), Size=(int, 0))
    with pytest.raises(SnapshotError, match="fields of Twins: 'Size'"):
        tables({"box": state})
    with pytest.raises(SnapshotError, match="entities: 'Box'"):
        tables({"box": Box, "Box": Box})
    with pytest.raises(SnapshotError, match="entities: 'entity_changes'"):
        tables({"changes": Box, "entity_changes": Box})


def test_the_dictionary_explains_every_column() -> None:
    known = tables({"box": Box})
    rows = dictionary(known)
    expected = sum(len(table.columns) for table in known) + sum(map(len, ABOUT.values()))
    assert len({row[:2] for row in rows}) == len(rows) == expected
    assert all(meaning for *_, meaning in rows)


def test_the_analysts_page_names_every_table_and_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text()
    named = set(re.findall(r"`(\w+)`", page))
    columns = {column.name for table in tables({}) for column in table.columns}
    columns |= {column.name for column in ENTITY}
    assert columns | {table.name for table in RECORDS} | ABOUT.keys() <= named


def test_an_analyst_can_name_every_explaining_column_without_quotes() -> None:
    for columns in (ENTITY, *ABOUT.values()):
        names = [column.name for column in columns]
        with duckdb.connect() as db:
            db.execute("CREATE TABLE t AS SELECT " + ", ".join(f'1 AS "{name}"' for name in names))
            assert db.execute(f"SELECT {', '.join(names)} FROM t").fetchone() == (1,) * len(names)
