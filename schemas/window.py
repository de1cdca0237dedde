"""A window's entries as a context function gets them: whole, cut into panes, or as one number.

All of it is computed when it is asked for, from the entries themselves, of which a window holds a bounded number: an
event that comes late is simply there the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor, fsum
from typing import Generic, TypeVar

from schemas.model import Declared
from schemas.times import duration_ms, from_ms

HOUR_MS = 3_600_000


class Item(Declared):
    """Base of one entry of a window."""


ItemT = TypeVar("ItemT", bound=Item)


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

    # --- parts ----------------------------------------------------------------------------------------------------

    def newest(self, count: int) -> Window[ItemT]:
        """The last `count` entries, or all if there are fewer."""
        return Window(self._entries[max(0, len(self._entries) - count) :])

    def tumbling(self, size: timedelta) -> list[Pane[ItemT]]:
        """The entries in panes of `size`, one after the other, from the first entry's to the last one's.

        Empty ones are there, too. Panes begin at whole multiples of `size` since 1970-01-01T00:00Z.

        Raises:
            ValueError: `size` is not positive.
        """
        return self.hopping(size, size)

    def hopping(self, size: timedelta, every: timedelta) -> list[Pane[ItemT]]:
        """The entries in panes of `size` that begin `every` so often; an entry is in each pane that covers it.

        From the first pane that holds the first entry to the last one that holds the last, empty ones too. Panes begin
        at whole multiples of `every` since 1970-01-01T00:00Z.

        Raises:
            ValueError: `size` or `every` is not positive, or entries would fall between panes.
        """
        size_ms, every_ms = positive_ms("size", size), positive_ms("every", every)
        if every_ms > size_ms:
            raise ValueError(
                f"Window.hopping: expected every <= size, got {every} > {size}: entries would be in no pane"
            )
        if not self._entries:
            return []
        first_ms = (self._entries[0].time_ms - size_ms) // every_ms * every_ms + every_ms
        last_ms = self._entries[-1].time_ms // every_ms * every_ms
        return [self._pane(begin, begin + size_ms) for begin in range(first_ms, last_ms + 1, every_ms)]

    def sessions(self, gap: timedelta) -> list[Pane[ItemT]]:
        """The entries in runs between which nothing came for longer than `gap`; a pane ends with its last entry.

        Raises:
            ValueError: `gap` is not positive.
        """
        gap_ms, runs = positive_ms("gap", gap), list[list[Timed[ItemT]]]()
        for entry in self._entries:
            if runs and entry.time_ms - runs[-1][-1].time_ms <= gap_ms:
                runs[-1].append(entry)
            else:
                runs.append([entry])
        return [Pane(from_ms(run[0].time_ms), from_ms(run[-1].time_ms), Window(run)) for run in runs]

    def _pane(self, begin_ms: int, end_ms: int) -> Pane[ItemT]:
        inside = [entry for entry in self._entries if begin_ms <= entry.time_ms < end_ms]
        return Pane(from_ms(begin_ms), from_ms(end_ms), Window(inside))

    # --- numbers --------------------------------------------------------------------------------------------------

    def sum(self, of: Callable[[ItemT], float]) -> float:
        """The sum of a number of each entry; 0 of none."""
        return fsum(map(of, self))

    def mean(self, of: Callable[[ItemT], float]) -> float | None:
        """The mean of a number of each entry; None of none."""
        return self.sum(of) / len(self) if self._entries else None

    def distinct(self, of: Callable[[ItemT], Hashable]) -> int:
        """How many different values there are: exact, because the entries are few."""
        return len(set(map(of, self)))

    def quantile(self, of: Callable[[ItemT], float], q: float) -> float | None:
        """The value below which the share `q` (0 to 1) of the entries lies; None of none.

        Between two entries it is interpolated (Hyndman and Fan's definition 7, as in NumPy and R).

        Raises:
            ValueError: `q` is no share.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"Window.quantile: expected q from 0 to 1, got {q}")
        if not self._entries:
            return None
        values = sorted(map(of, self))
        at = q * (len(values) - 1)
        below = floor(at)
        above = min(below + 1, len(values) - 1)
        return values[below] + (values[above] - values[below]) * (at - below)

    def trend_per_hour(self, of: Callable[[ItemT], float]) -> float | None:
        """How fast a number of the entries changes: the slope of the line of least squares, in units an hour.

        None where all entries are of one moment.
        """
        if not self._entries:
            return None
        # From the first entry on: epoch milliseconds squared would lose digits.
        hours = [(entry.time_ms - self._entries[0].time_ms) / HOUR_MS for entry in self._entries]
        values = list(map(of, self))
        mean_hour, mean = fsum(hours) / len(hours), fsum(values) / len(values)
        spread = fsum((hour - mean_hour) ** 2 for hour in hours)
        if not spread:
            return None
        return (
            fsum((hour - mean_hour) * (value - mean) for hour, value in zip(hours, values, strict=True))
            / spread
        )


@dataclass(frozen=True, slots=True)
class Pane(Generic[ItemT]):
    """A part of a window: when it begins and ends, and what fell into it."""

    start: datetime
    end: datetime
    items: Window[ItemT]


def positive_ms(name: str, duration: timedelta) -> int:
    """A duration in milliseconds.

    Raises:
        ValueError: it is not positive.
    """
    length_ms = duration_ms(duration)
    if length_ms <= 0:
        raise ValueError(f"Window: expected {name} to be a positive duration, got {name}={duration!r}")
    return length_ms
