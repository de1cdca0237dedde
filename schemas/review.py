"""A question to a person as a record: open until it is answered or its deadline has passed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class ReviewRecord(BaseModel):
    """One record of the compacted `reviews` topic; its Kafka key is `review_id`."""

    review_id: str
    status: Literal["open", "approved", "rejected", "expired"]
    decision_id: str
    decision: str
    entity: str
    key: str
    verdict: dict[str, Any]
    context: dict[str, Any]
    at_ms: int
    deadline_ms: int | None
    closed_ms: int | None = None
    by: str | None = None
    note: str = ""
    # The decision that the answer became.
    answer_decision_id: str | None = None
