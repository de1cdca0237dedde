"""schemas/action.py: the record that consumers of `actions` read; its fields are a public contract."""

from __future__ import annotations

import json

from schemas.action import ActionRecord

RECORD = ActionRecord(
    action_id="act_1",
    decision_id="dec_1",
    pipeline="flights",
    pipeline_version=1,
    action="rebook",
    decision="rebook",
    entity="flight",
    key="UA1",
    stakes="low",
    input={"flight_id": "UA1"},
    reason="UA1 is cancelled",
    at_ms=5,
    deadline_ms=None,
)


def test_an_action_survives_json() -> None:
    assert ActionRecord.model_validate_json(RECORD.model_dump_json()) == RECORD


def test_consumers_find_the_fields_they_were_promised() -> None:
    """A consumer is broken by a field that goes, never by one that comes."""
    promised = {
        *("action_id", "decision_id", "pipeline", "pipeline_version", "action", "decision", "entity", "key"),
        *("stakes", "input", "reason", "at_ms", "deadline_ms"),
    }
    assert promised <= json.loads(RECORD.model_dump_json()).keys()
