"""The past in SQL: a state model and its order come in, the macro `<entity>_as_of(moment)` over `changes` goes out."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import to_json

from schemas.row import FoldOrder, State
from tables.snapshot_columns import JSON, TEXT, Column, literal
from tables.snapshot_tables import own_columns, table_name

# Which of two sayings about a field holds: in order of arrival the one heard last; else the one of the newer event, and
# of what is said anew of one event the latest.
NEWER: Mapping[FoldOrder, str] = {
    "arrival": "version",
    "latest": "event_time, event_id, version",
    "refold": "event_time, event_id, version",
}


def macro(schema: str, entity: str, state: type[State], order: FoldOrder) -> str:
    """The statement that creates the macro of one entity in `schema`: a row for each key that was heard of by then."""
    defaults = state().model_dump(mode="json")
    columns = [
        f'{value(field, column, to_json(defaults[field]).decode(), NEWER[order])} AS "{column.name}"'
        for field, column in own_columns(state)
    ]
    listed = ",\n    ".join(['key AS "key"', *columns])
    return (
        f'CREATE MACRO {schema}."{table_name(entity)}_as_of"(moment) AS TABLE\n'
        f"SELECT {listed}\nFROM changes\n"
        f"WHERE entity = {literal(entity)} AND event_time <= moment\nGROUP BY key"
    )


def value(field: str, column: Column, default: str, newer: str) -> str:
    """SQL: what was last said of `field`, as its column has it; its default where nothing was."""
    of = f"FILTER (field = {literal(field)})"
    said = (
        f"CASE WHEN count(*) {of} = 0 THEN {literal(default)}::JSON ELSE last(new ORDER BY {newer}) {of} END"
    )
    if column.type == JSON:
        return said
    plain = f"({said})->>'$'"
    return plain if column.type == TEXT else f"({plain})::{column.type}"
