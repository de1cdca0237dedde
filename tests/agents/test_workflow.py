"""agents/workflow.py: two states and an event in; silence, or why this step is none, out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from agents.state import StateRules, admit, reduce
from agents.workflow import IllegalTransition, TransitionRules, WorkflowRules, follow, mermaid
from schemas.event import Envelope, Event
from schemas.quarantine import Reason
from schemas.row import State
from tables.entity import new_row


class Ticket(State):
    status: Literal["new", "in work", "done"] = "new"
    agent: str | None = None


class Moved(Event, type="moved"):
    to: Literal["new", "in work", "done"]


def has_agent(state: Ticket, event: Moved) -> bool:
    return state.agent is not None


RULES = WorkflowRules(
    "status",
    (
        TransitionRules("new", "in work", frozenset({"moved"}), None),
        TransitionRules("in work", "done", frozenset(), has_agent),
        TransitionRules("in work", "new", frozenset({"returned"}), None),
    ),
)


def step(before: str, after: str, type: str = "moved", agent: str | None = "ann") -> Ticket:
    """Take it."""
    old = Ticket(status=before, agent=agent)  # type: ignore[arg-type] # one of the values
    new = old.evolve(status=after)
    follow(RULES, old, new, type, Moved(to="new"))
    return new


def why_not(before: str, after: str, type: str = "moved", agent: str | None = "ann") -> str:
    """Why it may not be taken."""
    with pytest.raises(IllegalTransition) as raised:
        step(before, after, type, agent)
    assert (raised.value.refusal.reason, raised.value.refusal.field) == (Reason.ILLEGAL_TRANSITION, "status")
    return raised.value.refusal.detail


@pytest.mark.parametrize(
    ("before", "after", "type"),
    [
        ("new", "in work", "moved"),
        ("in work", "done", "whatever"),
        ("in work", "new", "returned"),
        ("done", "done", "x"),
    ],
)
def test_a_declared_step_is_taken_and_none_is_no_step(before: str, after: str, type: str) -> None:
    assert step(before, after, type).status == after


def test_a_step_that_nobody_declared_says_where_it_goes() -> None:
    assert why_not("new", "done") == "new → done by moved: from new it goes to in work"
    assert why_not("done", "new") == "done → new by moved: from done it goes to nothing"


def test_a_step_is_taken_by_its_events_only() -> None:
    assert why_not("in work", "new", "moved") == "in work → new by moved: only by returned"


def test_a_guard_is_asked_about_the_state_before() -> None:
    assert why_not("in work", "done", agent=None) == "in work → done by moved: has_agent says no"


def test_the_state_is_as_it_was_when_a_step_is_refused() -> None:
    def moved(state: Ticket, event: Moved) -> Ticket:
        return state.evolve(status=event.to)

    rules = StateRules("ticket", Ticket, "arrival", {"moved": moved}, workflow=RULES)
    row = new_row(Ticket)
    envelope = Envelope("e1", "moved", "/test", 5, "ticket:t1", b"{}")
    judged = admit(rules, row, envelope)
    with pytest.raises(IllegalTransition, match="new → done"):
        reduce(rules, row, envelope, Moved(to="done"), judged)  # type: ignore[arg-type] # it is new
    assert row == new_row(Ticket)
    free = reduce(replace(rules, workflow=None), row, envelope, Moved(to="done"))
    assert free.row.state == Ticket(status="done")


def test_a_late_event_does_not_move_what_a_newer_one_has_moved() -> None:
    """Order `latest`: it takes no step, so there is none to refuse."""

    def moved(state: Ticket, event: Moved) -> Ticket:
        return state.evolve(status=event.to)

    rules = StateRules("ticket", Ticket, "latest", {"moved": moved}, workflow=RULES)
    row = reduce(rules, new_row(Ticket), Envelope("e2", "moved", "/t", 9, "", b""), Moved(to="in work")).row
    assert (
        reduce(rules, row, Envelope("e1", "moved", "/t", 5, "", b""), Moved(to="done")).row.state == row.state
    )


def test_a_machine_is_drawn() -> None:
    assert mermaid(RULES, "new").splitlines() == [
        "stateDiagram-v2",
        '    state "in work" as in_work',
        "    [*] --> new",
        "    new --> in_work: moved",
        "    in_work --> done: [has_agent]",
        "    in_work --> new: returned",
        "    done --> [*]",
    ]
