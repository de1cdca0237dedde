"""All that a decision may look at: a typed context, built from the row as of one instant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from pydantic import ConfigDict

from schemas.model import Declared


class Context(Declared):
    """Base of a decision's context. Equal facts give equal bytes: its hash stands in the decision."""


class Summary(Declared):
    """Base of what one entity carries to another over a link. Its fields are fields of the linking state."""

    # Rows hold what was carried as JSON has it, where a time is a string.
    model_config = ConfigDict(strict=False)


SummaryT = TypeVar("SummaryT", bound=Summary)


class Related(Generic[SummaryT]):
    """The related entities as they were at the context's instant, by key."""

    def __init__(self, entries: dict[str, SummaryT]) -> None:
        """Hold `entries`: key of the related entity → its carried fields."""
        self._entries = entries

    def __iter__(self) -> Iterator[SummaryT]:
        """The summaries, in the order of their keys."""
        return iter(self._entries.values())

    def __len__(self) -> int:
        """How many related entities there are."""
        return len(self._entries)

    def get(self, key: str) -> SummaryT | None:
        """The related entity called `key`, or None."""
        return self._entries.get(key)

    def items(self) -> Iterator[tuple[str, SummaryT]]:
        """Pairs of key and summary, in the order of their keys."""
        return iter(self._entries.items())
