"""Action: an allowed verdict comes in; the record that consumers of `actions` act on goes out, once per decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.action import ActionInput, ActionRecord
from schemas.context import Context
from schemas.decision import DecisionRecord, Stakes, Verdict
from schemas.errors import wrong_return
from schemas.keys import action_id


@dataclass(frozen=True, slots=True)
class ActionRules:
    """How one action's input is made of a context and a verdict."""

    name: str
    input: type[ActionInput]
    function: Callable[[Any, Any], ActionInput]
    stakes: Stakes
    # How long after the decision's instant the action still makes sense; None: for ever.
    deadline_ms: int | None


def act(rules: ActionRules, decision: DecisionRecord, context: Context, verdict: Verdict) -> ActionRecord:
    """The action that `decision` leads to. Its key is derived from the decision's, so a retry names the same one.

    Raises:
        WrongReturn: the user's function returned something else than its declared input.
    """
    given = rules.function(context, verdict)
    if type(given) is not rules.input:
        raise wrong_return(rules.function, rules.input.__name__, given)
    return ActionRecord(
        action_id=action_id(decision.decision_id, rules.name, 0),
        decision_id=decision.decision_id,
        pipeline=decision.pipeline,
        pipeline_version=decision.pipeline_version,
        action=rules.name,
        decision=decision.decision,
        entity=decision.entity,
        key=decision.key,
        stakes=rules.stakes,
        input=given.model_dump(mode="json"),
        reason=verdict.reason,
        at_ms=decision.at_ms,
        deadline_ms=None if rules.deadline_ms is None else decision.at_ms + rules.deadline_ms,
    )
