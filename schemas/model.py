"""Base of everything that a pipeline's author declares: a model comes in; it is one that survives JSON, or an error.

Events, states, contexts, items, summaries, verdicts and action inputs are all written as JSON and read again, by
another process or years later: what comes back must be what went out, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

# Sets: their order differs from process to process, and with it the bytes, hashes and fingerprints of equal facts.
UNORDERED = {"set", "frozenset"}


class Declared(BaseModel):
    """Strict: a string is not a number, an unknown field is refused, NaN and infinity are refused. Frozen.

    A field with an alias is read by either name (a source may say `flightId`), and always written by its own.

    Raises:
        TypeError: at declaration, when a field would not come back from JSON as it went.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_by_name=True
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Look at the fields once, when the class is declared."""
        super().__pydantic_init_subclass__(**kwargs)
        for name in cls.model_computed_fields:
            raise unstable(cls, name, "computed", "written, but refused when it is read", "Use @property.")
        for name, field in cls.model_fields.items():
            if field.exclude:
                raise unstable(cls, name, "excluded", "lost when it is written", "Keep it, or leave it out.")
        schema = cls.__pydantic_core_schema__
        if isinstance(schema, dict) and UNORDERED & set(kinds(schema)):
            raise unstable(cls, "", "a set", "its order differs between processes", "Use tuple[X, ...].")


def unstable(model: type[BaseModel], field: str, what: str, why: str, cure: str) -> TypeError:
    """The error for a field that would not come back from JSON as it went."""
    where = f"{model.__module__}.{model.__qualname__}{'.' if field else ''}{field}"
    return TypeError(f"{where}: expected fields that JSON keeps, got one that is {what}: {why}. {cure}")


def kinds(schema: Any) -> Iterator[str]:
    """The type of every node of a pydantic-core schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema["type"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from kinds(part)
