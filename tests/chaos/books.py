"""The oracle: the raw log comes in; what every topic and row must hold goes out. A plain fold, no code of Midstream.

Derived keys are written down here once more, so that a change of their formula is found too.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from tests.chaos.ledger import MAX_BODY_BYTES, QUARTER, ROUND, UNLUCKY
from tests.support.topics import Got

FIELDS = {"money.moved": {"account", "branch", "amount"}, "money.flagged": {"account"}}


def derived(prefix: str, *parts: str) -> str:
    """Prefix and 96 bits of BLAKE2b over the parts, each behind its length."""
    text = b"".join(b"%d:%b" % (len(part.encode()), part.encode()) for part in parts)
    return prefix + blake2b(text, digest_size=12).hexdigest()


class Refused(NamedTuple):
    """A quarantine record: the lane that refused it, the event's id, why."""

    lane: str
    id: str
    reason: str


@dataclass
class Entry:
    """What a row must come to."""

    state: Counter[str] = field(default_factory=Counter)
    version: int = 0
    admitted: int = 0
    duplicates: int = 0


@dataclass
class Books:
    """What a raw log must come to. `pipeline` is part of the derived keys."""

    pipeline: str
    rows: dict[str, Entry] = field(default_factory=dict)
    # Kafka key and event id → how often it stands on `events`.
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[Refused] = field(default_factory=Counter)
    decisions: set[str] = field(default_factory=set)
    actions: set[str] = field(default_factory=set)
    seen: dict[tuple[str, str], tuple[str, Any]] = field(default_factory=dict)

    def enter(self, records: Iterable[Got]) -> "Books":
        """Fold raw records, each partition in its order."""
        for record in records:
            self._enter(record)
        return self

    def _enter(self, record: Got) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        id, type, value = headers["ce_id"], headers["ce_type"], record.value or b""
        reason = why_not(type, value)
        if reason:
            self.refused[Refused("raw", id, reason)] += 1
            return
        body = json.loads(value)
        owner = f"account:{body['account']}"
        self.events[owner, id] += 1
        known = self.seen.get((owner, id))
        if known is not None:
            if known == (type, body):
                self.rows[owner].duplicates += 1
            else:
                self.refused[Refused("events", id, "id_conflict")] += 1
        elif body.get("amount") == UNLUCKY:
            self.refused[Refused("events", id, "reducer_failed")] += 1
        else:
            self.seen[owner, id] = type, body
            self._fold(owner, id, type, body)

    def _fold(self, owner: str, id: str, type: str, body: dict[str, Any]) -> None:
        account = self.rows.setdefault(owner, Entry())
        account.admitted += 1
        account.version += 1
        if type == "money.flagged":
            account.state["flags"] += 1
            self._decide("inspect", owner, owner, id)
            return
        amount = body["amount"]
        account.state["moves"] += 1
        account.state["balance"] += amount
        if amount % ROUND == 0:
            self._decide("alert", owner, owner, id)
        branch_key = f"branch:{body['branch']}"
        self.events[branch_key, id] += 1
        branch = self.rows.setdefault(branch_key, Entry())
        branch.version += 1
        branch.state["moves"] += 1
        branch.state["total"] += amount
        if amount % QUARTER == 0:
            self._decide("report", branch_key, owner, id)

    def _decide(self, decision: str, entity: str, subject: str, id: str) -> None:
        key = derived("dec_", self.pipeline, "1", decision, entity, f"{subject}/{id}")
        self.decisions.add(key)
        self.actions.add(derived("act_", key, decision, "0"))


def why_not(type: str, value: bytes) -> str:
    """Why ingest must refuse a record; empty when it must not."""
    if len(value) > MAX_BODY_BYTES:
        return "too_large"
    if type not in FIELDS:
        return "unknown_type"
    try:
        body = json.loads(value)
    except ValueError:
        return "not_json"
    return "" if body.keys() == FIELDS[type] else "missing_field"
