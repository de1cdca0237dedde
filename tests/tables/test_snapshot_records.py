"""The record tables: no field of a public record is forgotten, and no column needs quotes."""

from __future__ import annotations

import duckdb
import pytest
from pydantic import BaseModel

from schemas.action import ActionRecord
from schemas.audit import AuditRecord
from schemas.decision import DecisionRecord
from schemas.review import ReviewRecord
from tables.snapshot_columns import Table
from tables.snapshot_records import ACTIONS, AUDIT, DECISIONS, RECORDS, REVIEWS


@pytest.mark.parametrize(
    ("table", "model"),
    [
        (DECISIONS, DecisionRecord),
        (ACTIONS, ActionRecord),
        (REVIEWS, ReviewRecord),
        (AUDIT, AuditRecord),
    ],
    ids=lambda value: value.name if isinstance(value, Table) else "",
)
def test_every_field_of_a_record_is_in_a_column(table: Table, model: type[BaseModel]) -> None:
    computed = " ".join(column.sql for column in table.columns)
    assert [name for name in model.model_fields if f"v.{name}" not in computed] == []


@pytest.mark.parametrize("table", RECORDS, ids=lambda table: table.name)
def test_an_analyst_can_name_every_column_without_quotes(table: Table) -> None:
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE {table.name} AS SELECT " + ", ".join(f'1 AS "{name}"' for name in names))
        assert db.execute(f"SELECT {', '.join(names)} FROM {table.name}").fetchall() == [(1,) * len(names)]
