"""What was done, by whom or what, and why it was allowed: hash-chained per partition of a pipeline."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

from pydantic import BaseModel


class AuditRecord(BaseModel):
    """One record of the `audit` topic. `hash` covers every other field and the hash before it."""

    sequence: int
    at_ms: int
    what: Literal["decided", "acted", "held", "answered", "expired"]
    by: str
    why: str
    entity: str
    key: str
    decision_id: str
    action_id: str | None = None
    review_id: str | None = None
    previous_hash: str
    hash: str = ""


def sealed(record: AuditRecord) -> AuditRecord:
    """`record` with its hash: SHA-256 over its JSON without `hash` (fields in declared order)."""
    body = record.model_dump_json(exclude={"hash"})
    return record.model_copy(update={"hash": sha256(body.encode()).hexdigest()})
