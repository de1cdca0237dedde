"""The work of every Python peer: a decoded payment and the account before it -> the account after it and the output.

Standard library only: each peer runs in an environment of its own. Our lane does the same in benchmarks/payments.py,
Kafka Streams in kafka_streams/.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

NEW: dict[str, Any] = {"payments": 0, "total": 0, "last_payment": "", "last_status": ""}


def paid(before: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """The account after the payment."""
    return {
        "payments": before["payments"] + 1,
        "total": before["total"] + event["amount"],
        "last_payment": event["payment_id"],
        "last_status": event["status"],
    }


def changed(event: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What the payment changed, field by field: the body that our lane writes to `changes`."""
    return {
        "entity": "account",
        "key": event["account_id"],
        "version": after["payments"],
        "time_ms": round(datetime.fromisoformat(event["at"]).timestamp() * 1000),
        "event_id": event["payment_id"],
        "event_type": "payment.made",
        "fields": {name: [before[name], value] for name, value in after.items() if before[name] != value},
    }
