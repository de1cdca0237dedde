"""The DuckDB types of a model's JSON: what an author may write in a state, and the column it becomes."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, PlainSerializer, create_model

from schemas.row import State
from schemas.units import Celsius, UtcTime
from tables.snapshot_columns import body, fields, struct


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Mixed(Enum):
    ONE = 1
    WORD = "word"


class Part(BaseModel):
    width: int = 0


class Pair(NamedTuple):
    first: int
    second: str


def hexed(value: int) -> str:
    return hex(value)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, "VARCHAR"),
        (int, "BIGINT"),
        (float, "DOUBLE"),
        (bool, "BOOLEAN"),
        (datetime, "TIMESTAMP WITH TIME ZONE"),
        (UtcTime, "TIMESTAMP WITH TIME ZONE"),
        (date, "DATE"),
        (Celsius, "DOUBLE"),
        (Annotated[int, Field(ge=0)], "BIGINT"),
        (Literal["a", "b"], "VARCHAR"),
        (Literal["a"], "VARCHAR"),
        (Literal[1, 2], "BIGINT"),
        (Literal[1, "a"], "JSON"),
        (Colour, "VARCHAR"),
        (Level, "BIGINT"),
        (Mixed, "JSON"),
        (UUID, "VARCHAR"),
        (Decimal, "VARCHAR"),
        (timedelta, "VARCHAR"),
        (int | None, "BIGINT"),
        (Optional[UtcTime], "TIMESTAMP WITH TIME ZONE"),  # noqa: UP045 - both spellings occur
        (Colour | None, "VARCHAR"),
        (int | float, "DOUBLE"),
        (int | str, "JSON"),
        (Any, "JSON"),
        (None, "JSON"),
        (list[int], "JSON"),
        (tuple[int, ...], "JSON"),
        (dict[str, int], "JSON"),
        (Part, "JSON"),
        (Pair, "JSON"),
        (complex, "VARCHAR"),
        (Annotated[int, PlainSerializer(hexed)], "VARCHAR"),
    ],
)
def test_a_field_becomes_the_column_that_its_json_fits(annotation: Any, expected: str) -> None:
    model = create_model("Model", field=(annotation, ...))
    assert fields(model)["field"][0] == expected


def test_a_field_is_called_by_its_own_name_and_described_by_its_author() -> None:
    class Named(State):
        gate: str = Field(default="", alias="theGate", description="where it stands")

    assert fields(Named) == {"gate": ("VARCHAR", "where it stands")}


def test_a_model_that_contains_itself() -> None:
    class Tree(State):
        name: str = ""
        children: tuple[Tree, ...] = ()

    Tree.model_rebuild(_types_namespace={"Tree": Tree})
    assert fields(Tree) == {"name": ("VARCHAR", ""), "children": ("JSON", "")}


def test_a_body_is_a_struct_and_one_without_fields_any_json() -> None:
    assert body(Part) == 'STRUCT("width" BIGINT)'
    assert struct({}) == "JSON"
