"""What a lane knows besides its entities: how far time has come, and the head of its audit chain."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from schemas.event import Clock

# The row of the lane itself in its table and changelog.
ENTITY = "lane"
# Clock ranks: 0 is the wall clock and holds for every entity. Rank 1 follows the raw topic, rank n+1 follows
# what the entities of rank n have sent on.
WALL = 0


class LaneRow(BaseModel):
    """One lane's clock and audit head."""

    marks: dict[int, dict[str, int]] = Field(default_factory=dict)
    now_ms: dict[int, int] = Field(default_factory=dict)
    # Ranks on which every origin has said that nothing more will come.
    final: dict[int, list[str]] = Field(default_factory=dict)
    audit_sequence: int = 0
    audit_hash: str = ""

    def heard(self, clock: Clock) -> Self:
        """The row after `clock`: the rank's time is the least that any of its origins has reached.

        A clock never runs back: an origin that repeats an old time (a redelivery) changes nothing.
        """
        marks = dict(self.marks.get(clock.rank, {}))
        marks[clock.origin] = max(clock.at_ms, marks.get(clock.origin, clock.at_ms))
        now = dict(self.now_ms)
        if len(marks) >= clock.origins:
            heard_ms = min(marks.values())
            now[clock.rank] = max(heard_ms, now.get(clock.rank, heard_ms))
        final = dict(self.final)
        if clock.final:
            final[clock.rank] = sorted({*final.get(clock.rank, ()), clock.origin})
        return self.model_copy(
            update={"marks": self.marks | {clock.rank: marks}, "now_ms": now, "final": final}
        )

    def time_ms(self, rank: int) -> int | None:
        """How far time has come for entities of `rank`, or None before the first full round of clocks."""
        known = [t for r in (WALL, rank) if (t := self.now_ms.get(r)) is not None]
        return max(known, default=None)
