"""Tables and columns of a snapshot as values: a pydantic model comes in, the DuckDB types of its JSON go out.

A column says how it is computed from a staged record: `p` partition, `o` offset, `t` Kafka timestamp (epoch ms),
`k` Kafka key as text, `i` the `ms_ingested` header (epoch ms), `v` the body, typed by `Table.body`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

TEXT, WHOLE, SMALL, FLOAT, TRUTH = "VARCHAR", "BIGINT", "INTEGER", "DOUBLE", "BOOLEAN"
INSTANT, DATE, JSON, BYTES = "TIMESTAMP WITH TIME ZONE", "DATE", "JSON", "BLOB"


class SnapshotError(Exception):
    """A snapshot cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its DuckDB type, the SQL that computes it from a staged record, and what it means."""

    name: str
    type: str
    sql: str
    meaning: str
    # A record without it is not one of ours: it ends in `_unreadable`.
    required: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table and the topic it is made from."""

    name: str
    # The role of its topic ("decisions", "flight.changelog").
    role: str
    # The DuckDB type of a record's body.
    body: str
    columns: tuple[Column, ...]
    # The column that a newer record replaces a row by, and what precedes it in the Kafka key.
    # None: every record stays.
    key: str | None = None
    prefix: str = ""
    # SQL of a list made of the body: one row for each entry `f` of it.
    each: str | None = None


class _Lenient(GenerateJsonSchema):
    """Pydantic's JSON Schema, where a type that has none is any JSON value."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def fields(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Field → (DuckDB type, the author's description), from what the model looks like as JSON."""
    schema = model.model_json_schema(by_alias=False, mode="serialization", schema_generator=_Lenient)
    shared = schema.get("$defs", {})
    # A model that contains itself is one of its own definitions.
    top = shared[model.__name__] if "$ref" in schema else schema
    return {
        name: (column_type(field, shared), field.get("description", ""))
        for name, field in top.get("properties", {}).items()
    }


def column_type(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """The DuckDB type of a field, by its JSON Schema: what is not plain is JSON."""
    found = set(_plain_types(schema, shared))
    if found == {WHOLE, FLOAT}:
        return FLOAT
    return found.pop() if len(found) == 1 else JSON


def _plain_types(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[str]:
    """The type of every alternative of `schema` except null."""
    kind = schema.get("type")
    if "$ref" in schema:
        yield from _plain_types(shared[schema["$ref"].rpartition("/")[2]], shared)
    elif "anyOf" in schema or "oneOf" in schema:
        for alternative in schema.get("anyOf") or schema["oneOf"]:
            yield from _plain_types(alternative, shared)
    elif kind == "string":
        yield {"date-time": INSTANT, "date": DATE}.get(schema.get("format", ""), TEXT)
    elif kind != "null":
        yield {"integer": WHOLE, "number": FLOAT, "boolean": TRUTH}.get(str(kind), JSON)


def struct(types: Mapping[str, str]) -> str:
    """The DuckDB type of a JSON object with these fields."""
    if not types:
        return JSON
    return "STRUCT(" + ", ".join(f'"{name}" {kind}' for name, kind in types.items()) + ")"


def body(model: type[BaseModel]) -> str:
    """The DuckDB type of `model` as JSON."""
    return struct({name: kind for name, (kind, _) in fields(model).items()})


def literal(text: str) -> str:
    """A string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def instant(ms: str) -> str:
    """SQL: epoch milliseconds as an instant."""
    return f"make_timestamptz(1000 * ({ms}))"
