"""A verdict, and the record of who reached it, from what, and what was allowed to follow."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from schemas.model import Declared

Stakes = Literal["low", "medium", "high"]
NO_ACTION = "none"


class Verdict(Declared):
    """Base of a decision's answer. A subclass narrows `action` to the closed set that it may name:

    class Rebook(Verdict):
        action: Literal["rebook", "none"]
    """

    action: str
    reason: str = Field(min_length=1)
    confidence: float = Field(default=1.0, ge=0.0, le=1.0)


class Trigger(BaseModel):
    """What made a decision look: an event, or a moment (`event_id` is then empty)."""

    name: str
    event_id: str
    event_type: str
    time_ms: int


class Hop(BaseModel):
    """One route that was asked."""

    route: str
    tool: str
    tool_version: str
    outcome: Literal["verdict", "declined", "below_threshold"]
    confidence: float | None = None
    reason: str = ""


class DecisionRecord(BaseModel):
    """One record of the `decisions` topic."""

    decision_id: str
    pipeline: str
    pipeline_version: int
    decision: str
    entity: str
    key: str
    trigger: Trigger
    at_ms: int
    state_version: int
    context: dict[str, Any]
    context_hash: str
    hops: list[Hop]
    route: str
    verdict: dict[str, Any]
    stakes: Stakes
    gate: Literal["proceed", "review", "none"]
    gate_reason: str
    review_id: str | None = None
    action_id: str | None = None
    # Where the events record stands that the lane read: the way back to the raw bytes.
    source_partition: int
    source_offset: int
