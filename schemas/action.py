"""One side effect, named by its decision: the record that consumers of `actions` subscribe to."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from schemas.decision import Stakes
from schemas.model import Declared


class ActionInput(Declared):
    """Base of what an action is given."""


class ActionRecord(BaseModel):
    """One record of the `actions` topic; its Kafka key is `action_id`, the receiver's idempotency key."""

    action_id: str
    decision_id: str
    pipeline: str
    pipeline_version: int
    action: str
    decision: str
    entity: str
    key: str
    stakes: Stakes
    input: dict[str, Any]
    reason: str
    at_ms: int
    deadline_ms: int | None
