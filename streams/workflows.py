"""A declared workflow, checked: every step names states that exist and can be reached. Made by `Entity.workflow`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agents.workflow import TransitionRules, WorkflowRules
from schemas.event import Event
from schemas.row import State
from streams.signatures import literals, mistake, wired


@dataclass(frozen=True)
class Transition:
    """One step of a workflow: from a value of its field to another one.

    `on` are the events that may take it, any if there are none. `guard` is `(state, event) -> bool`, pure: whether it
    may be taken, given the state before.
    """

    before: str
    after: str
    on: Sequence[type[Event]] = ()
    guard: Callable[[Any, Any], bool] | None = None


def checked_workflow(
    entity: str,
    state: type[State],
    field: str,
    transitions: Sequence[Transition],
    hear: Callable[[Any, str], str],
) -> WorkflowRules:
    """The rules of a workflow.

    Raises:
        PipelineError: the field is none of the state or no Literal; a step leads from or to what it cannot be, stands
            there twice, or can never be taken; a guard does not return bool.
    """
    where = f"workflow of {entity!r}"
    info = state.model_fields.get(field)
    values = () if info is None else literals(info.annotation)
    if info is None or not values:
        raise mistake(where, f"a field of {state.__name__} that is a Literal", repr(field), "See its fields.")
    reached, steps = {info.default}, list[TransitionRules]()
    for step in transitions:
        for value in (step.before, step.after):
            if value not in values:
                raise mistake(
                    where, f"one of {', '.join(values)}", repr(value), f"See {state.__name__}.{field}."
                )
        on = frozenset(hear(event, where) for event in step.on)
        steps.append(TransitionRules(step.before, step.after, on, guarded(step.guard)))
    if len({(step.before, step.after, step.on, step.guard) for step in steps}) < len(steps):
        raise mistake(where, "every step once", "one twice", "Join them.")
    # What follows from what is reached is reached, too.
    while more := {step.after for step in steps if step.before in reached} - reached:
        reached |= more
    lost = sorted({step.before for step in steps} - reached)
    if lost:
        cure = f"It begins with {info.default!r}: say how it gets there."
        raise mistake(where, "steps that can be taken", f"one from {lost[0]!r}, where nothing leads", cure)
    return WorkflowRules(field, tuple(steps))


def guarded(guard: Callable[[Any, Any], bool] | None) -> Callable[[Any, Any], bool] | None:
    """A guard whose signature is right."""
    if guard is not None:
        given, returned = wired(guard)
        if len(given) != 2 or returned is not bool:
            raise mistake(guard, "(state, event) -> bool", f"{given} -> {returned}", "Mend the annotations.")
    return guard
