"""All that a decision may look at: a typed context, built from the row as of one instant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import ConfigDict

from schemas.model import Declared


class Context(Declared):
    """Base of a decision's context. Equal facts give equal bytes: its hash stands in the decision."""


class Summary(Declared):
    """Base of what one entity carries to another over a link. Its fields are fields of the linking state."""

    # Rows hold what was carried as JSON has it, where a time is a string.
    model_config = ConfigDict(strict=False)


class Item(Declared):
    """Base of one entry of a window."""


SummaryT = TypeVar("SummaryT", bound=Summary)
ItemT = TypeVar("ItemT", bound=Item)


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


@dataclass(frozen=True, slots=True)
class Timed(Generic[ItemT]):
    """One window entry with its event time."""

    time_ms: int
    event_id: str
    value: ItemT


class Window(Generic[ItemT]):
    """What fell into the window that ends at the context's instant, oldest first."""

    def __init__(self, entries: list[Timed[ItemT]]) -> None:
        """Hold `entries`, oldest first."""
        self._entries = entries

    def __iter__(self) -> Iterator[ItemT]:
        """The values, oldest first."""
        return (entry.value for entry in self._entries)

    def __len__(self) -> int:
        """How many entries fell into the window."""
        return len(self._entries)

    def last(self) -> ItemT | None:
        """The newest value, or None when the window is empty."""
        return self._entries[-1].value if self._entries else None

    def timed(self) -> list[Timed[ItemT]]:
        """The entries with their event times, oldest first."""
        return list(self._entries)
