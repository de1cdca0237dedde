"""Workflow: a field of the state, its value before and after an event, come in; whether that step is declared goes out.

Work in progress is state: it stands in the row, it resumes where it stood, and every step is a change with its cause. A
step that nobody has declared is a conflict; it is refused with its event and never taken in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.quarantine import Reason, Refusal
from schemas.row import State


@dataclass(frozen=True, slots=True)
class TransitionRules:
    """One step that may be taken."""

    before: str
    after: str
    # The event types that may take it; empty: any.
    on: frozenset[str]
    # `(state before, event) -> bool`: whether it may be taken now.
    guard: Callable[[Any, Any], bool] | None


@dataclass(frozen=True, slots=True)
class WorkflowRules:
    """The steps that a field of the state may take."""

    field: str
    transitions: tuple[TransitionRules, ...]


class IllegalTransition(Exception):
    """A step that is not declared, or that its guard forbids."""

    def __init__(self, refusal: Refusal) -> None:
        """Say why with `refusal`."""
        super().__init__(refusal.detail)
        self.refusal = refusal


def follow(rules: WorkflowRules, old: State, new: State, type: str, event: Any) -> None:
    """Nothing if the step from `old` to `new` that an event of `type` takes is one of the declared.

    Raises:
        IllegalTransition: it is not.
    """
    before, after = getattr(old, rules.field), getattr(new, rules.field)
    if before == after:
        return
    known = [step for step in rules.transitions if (step.before, step.after) == (before, after)]
    heard = [step for step in known if not step.on or type in step.on]
    if any(step.guard is None or step.guard(old, event) for step in heard):
        return
    detail = f"{before} → {after} by {type}"
    if heard:
        guards = sorted({step.guard.__name__ for step in heard if step.guard is not None})
        detail += f": {', '.join(guards)} says no"
    elif known:
        detail += f": only by {', '.join(sorted({name for step in known for name in step.on}))}"
    else:
        onward = sorted({step.after for step in rules.transitions if step.before == before})
        detail += f": from {before} it goes to {', '.join(onward) if onward else 'nothing'}"
    raise IllegalTransition(Refusal(Reason.ILLEGAL_TRANSITION, rules.field, detail))


def mermaid(rules: WorkflowRules, first: str) -> str:
    """The machine as a Mermaid state diagram; `first` is where it begins."""
    lines = ["stateDiagram-v2", f"    [*] --> {node(first)}"]
    names = dict.fromkeys(
        [first, *(name for step in rules.transitions for name in (step.before, step.after))]
    )
    lines[1:1] = [f'    state "{name}" as {node(name)}' for name in names if node(name) != name]
    for step in rules.transitions:
        by = ", ".join(sorted(step.on))
        guard = "" if step.guard is None else f"[{step.guard.__name__}]"
        label = " ".join(part for part in (by, guard) if part)
        lines.append(f"    {node(step.before)} --> {node(step.after)}" + (f": {label}" if label else ""))
    left = {step.before for step in rules.transitions}
    lines += [f"    {node(name)} --> [*]" for name in names if name not in left]
    return "\n".join(lines)


def node(name: str) -> str:
    """`name` as Mermaid takes it for a node."""
    return "".join(c if c.isalnum() else "_" for c in name)
