"""schemas/audit.py: the seal covers every field, so nothing in a chain can be changed unseen."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from schemas.audit import AuditRecord, sealed

RECORD = AuditRecord(
    sequence=3,
    at_ms=5,
    what="acted",
    by="rule:always@1",
    why="low stakes",
    entity="flight",
    key="UA1",
    decision_id="dec_1",
    action_id="act_1",
    review_id="rev_1",
    previous_hash="00",
)
CHANGED: dict[str, Any] = {
    "sequence": 4,
    "at_ms": 6,
    "what": "held",
    "by": "ann",
    "why": "",
    "entity": "aircraft",
    "key": "UA2",
    "decision_id": "dec_2",
    "action_id": None,
    "review_id": None,
    "previous_hash": "01",
}


def test_every_field_has_its_case() -> None:
    assert set(CHANGED) == set(AuditRecord.model_fields) - {"hash"}


@pytest.mark.parametrize("field", CHANGED)
def test_the_seal_changes_with_every_field(field: str) -> None:
    other = RECORD.model_copy(update={field: CHANGED[field]})
    assert sealed(other).hash != sealed(RECORD).hash


def test_the_seal_can_be_checked_with_a_stock_tool() -> None:
    """SHA-256 of the record's JSON without `hash`, as `verify` and an auditor compute it."""
    body = RECORD.model_dump_json(exclude={"hash"})
    assert sealed(RECORD).hash == sha256(body.encode()).hexdigest()


def test_sealing_twice_changes_nothing_and_the_record_itself_stays() -> None:
    assert sealed(sealed(RECORD)) == sealed(RECORD)
    assert RECORD.hash == ""
