"""How large rows are and what their bounds have thrown away: the changelogs of a pipeline come in; a histogram, the
largest rows and the losses of each kind of entity go out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, NamedTuple

from pydantic_core import from_json

from streams.cluster import Seen
from streams.entities import last_rows
from streams.plan import Plan

# The upper ends of the histogram's classes, in bytes; the last class has none.
CLASSES = tuple(256 * 4**power for power in range(8))


class Size(NamedTuple):
    """One row: how many bytes its changelog record has, and bound → how many entries it has thrown away."""

    row_bytes: int
    evicted: Mapping[str, int]


class Largest(NamedTuple):
    """One of the largest rows."""

    key: str
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The rows of one kind of entity."""

    entity: str
    rows: int = 0
    total_bytes: int = 0
    # Half of the rows are at most as large as the first, 99 of 100 as the second.
    p50_bytes: int = 0
    p99_bytes: int = 0
    # Rows of up to so many bytes (and more than the class before); None: larger than all classes.
    histogram: tuple[tuple[int | None, int], ...] = ()
    largest: tuple[Largest, ...] = ()
    # Bound → how many entries it has thrown away, and in how many rows.
    evicted: Mapping[str, tuple[int, int]] = field(default_factory=dict)


async def sizes(clients: Mapping[str, Any], plan: Plan, limit: int, seen: Seen | None = None) -> list[Sizes]:
    """The rows of every kind of entity as they were committed last; of each, the `limit` largest.

    Raises:
        NoTopicError: the pipeline has no topics.
    """
    found = await last_rows(clients, plan, lambda key, value: size_of(value), seen)
    return [measured(name, rows, limit) for name, rows in found.items()]


def size_of(value: bytes) -> Size:
    """The size of a stored row."""
    return Size(len(value), from_json(value)["evicted"])


def measured(entity: str, rows: Mapping[str, Size], limit: int) -> Sizes:
    """What there is to say of the rows of one kind (key → size)."""
    if not rows:
        return Sizes(entity)
    ordered = sorted(size.row_bytes for size in rows.values())
    counts = Counter(next((end for end in CLASSES if size <= end), None) for size in ordered)
    thrown, where = Counter[str](), Counter[str]()
    for size in rows.values():
        thrown.update(size.evicted)
        where.update(bound for bound, count in size.evicted.items() if count)
    largest = nlargest(
        limit, (Largest(key, size.row_bytes) for key, size in rows.items()), key=lambda row: row[1]
    )
    return Sizes(
        entity,
        len(ordered),
        sum(ordered),
        rank(ordered, 0.5),
        rank(ordered, 0.99),
        tuple((end, counts[end]) for end in (*CLASSES, None) if counts[end]),
        tuple(largest),
        {bound: (thrown[bound], where[bound]) for bound in sorted(where)},
    )


def rank(ordered: list[int], share: float) -> int:
    """The smallest value that at least `share` of the ordered values do not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
