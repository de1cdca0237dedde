"""An entity as of an earlier instant: all its events come in, as they came to its lane; the row that those up to the
instant make goes out.

It is not looked up but folded again, by the steps of the lane itself. So it is exact in every order, with windows,
relations and timers, and it knows what came late: the row as of noon holds what was so at noon, not what was known.
"""

from __future__ import annotations

from typing import TypeVar

from schemas.event import read_envelope
from schemas.keys import entity_key
from schemas.record import Record
from schemas.row import Row, State
from streams.plan import Plan
from streams.topics import QUARANTINE
from streams.topology import CLOCK_KEY, EntityLane
from tables.entity import Rows
from tables.timers import Timers

LaneT = TypeVar("LaneT", bound=EntityLane)


class Past:
    """One entity's events, once as they were and once only those up to an instant."""

    def __init__(
        self, plan: Plan, partitions: int, partition: int, entity: str, key: str, at_ms: int
    ) -> None:
        """Begin.

        Args:
            plan: the pipeline as it is now: its reducers make the past, too.
            partitions: of `events`.
            partition: the one that the entity is on.
            entity: its kind.
            key: which one.
            at_ms: the instant, event time in epoch milliseconds.
        """
        self.entity, self.key, self.at_ms = entity, key, at_ms
        self._row_key = entity_key(entity, key).encode()
        self._all, self._until = (lane(plan, partitions, partition, EntityLane) for _ in range(2))

    def hear(self, record: Record) -> None:
        """Take in the next record of the partition.

        What was refused when all was heard, such as an event that came too late, has no part in the past either.
        """
        if record.key not in (self._row_key, CLOCK_KEY.encode()):
            return
        try:
            time_ms = read_envelope(record.headers, record.value or b"").time_ms
        except (KeyError, ValueError, AttributeError, TypeError):
            # Somebody else's: no lane took it in.
            return
        outs = self._all.step(record)
        # What a clock refuses is timers of its own making.
        refused = record.key == self._row_key and any(out.topic == QUARANTINE for out in outs)
        if time_ms <= self.at_ms and not refused:
            self._until.step(record)

    def row(self) -> Row[State] | None:
        """The row as of the instant; None if nothing had been heard of the entity."""
        row = self._until.rows.get(self.entity, self.key)
        return row if row.version else None


def lane(plan: Plan, partitions: int, partition: int, kind: type[LaneT]) -> LaneT:
    """A lane of some kind, without a broker and without a database."""
    rows = Rows({name: entity.state for name, entity in plan.entities.items()}, lambda key: None)
    return kind(plan, partition, partitions, rows, Timers(), playback=True)
