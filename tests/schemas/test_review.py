"""schemas/review.py: an open review has no answer yet; it and its closed form survive JSON."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.review import ReviewRecord

OPEN: dict[str, Any] = {
    "review_id": "rev_1",
    "status": "open",
    "decision_id": "dec_1",
    "decision": "knock_on",
    "entity": "aircraft",
    "key": "N1",
    "verdict": {"action": "swap_aircraft"},
    "context": {"tail": "N1"},
    "at_ms": 5,
    "deadline_ms": 90,
}


def test_an_open_review_has_no_answer() -> None:
    review = ReviewRecord.model_validate(OPEN)
    assert (review.closed_ms, review.by, review.note, review.answer_decision_id) == (None, None, "", None)


def test_a_review_survives_json() -> None:
    closed = ReviewRecord.model_validate(
        OPEN | {"status": "approved", "closed_ms": 9, "by": "ann", "note": "ok"}
    )
    assert ReviewRecord.model_validate_json(closed.model_dump_json()) == closed


def test_a_review_is_in_one_of_four_states() -> None:
    with pytest.raises(ValidationError, match="literal_error"):
        ReviewRecord.model_validate(OPEN | {"status": "pending"})
