"""When which row has a timer due: an ordered index over the rows' own timers, checked against them on use."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush


class Timers:
    """A lane's due times. An entry whose row is no longer due then is stale and is skipped by the reader."""

    def __init__(self, entries: Iterable[tuple[int, str, str]] = ()) -> None:
        """Start from stored `entries` of (due_ms, entity, key)."""
        self.start_over(entries)

    def start_over(self, entries: Iterable[tuple[int, str, str]]) -> None:
        """Forget everything but stored `entries`."""
        self._heap = list(entries)
        heapify(self._heap)

    def add(self, due_ms: int, entity: str, key: str) -> None:
        """Note that the row `entity:key` has a timer due at `due_ms`."""
        heappush(self._heap, (due_ms, entity, key))

    def next_due_ms(self) -> int | None:
        """The earliest due time, or None."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int) -> tuple[int, str, str] | None:
        """Take the earliest entry due at or before `now_ms`."""
        return heappop(self._heap) if self._heap and self._heap[0][0] <= now_ms else None
