"""streams/workflows.py: what a declared workflow is, and what is said of a mistake in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from streams import Event, Pipeline, State, Transition
from streams.memory import happened, run
from streams.signatures import PipelineError

AT = datetime(2024, 5, 1, tzinfo=UTC)


class Moved(Event, type="ticket.moved"):
    ticket: str
    to: Literal["new", "open", "closed"]


class Ticket(State):
    status: Literal["new", "open", "closed"] = "new"
    title: str = ""


def tickets(transitions: Sequence[Transition], field: str = "status") -> Pipeline:
    pipeline = Pipeline("moving-tickets", version=1)
    ticket = pipeline.entity("ticket", Ticket, key="ticket", order="arrival")

    @ticket.on(Moved)
    def moved(state: Ticket, event: Moved) -> Ticket:
        return state.evolve(status=event.to)

    ticket.workflow(field, transitions)
    return pipeline


FORTH = [Transition("new", "open", on=[Moved]), Transition("open", "closed")]


def test_an_illegal_step_is_quarantined_with_its_event_and_the_rest_goes_on() -> None:
    memory = run(
        tickets(FORTH),
        [
            happened(Moved(ticket="t1", to="closed"), AT, "e1"),
            happened(Moved(ticket="t1", to="open"), AT, "e2"),
            happened(Moved(ticket="t1", to="closed"), AT, "e3"),
        ],
    )
    assert [(each["reason"], each["field"], each["detail"]) for each in memory.quarantine] == [
        ("illegal_transition", "status", "new → closed by ticket.moved: from new it goes to open")
    ]
    row = memory.row("ticket", "t1")
    assert row.state == Ticket(status="closed")
    assert [change.event_id for change in row.changes] == ["e2", "e3"]


def guessed(state: Ticket, event: Moved) -> str:
    return "perhaps"


# The mistake, past the type checker.
GUESSED: Any = guessed


@pytest.mark.parametrize(
    ("transitions", "field", "said"),
    [
        (FORTH, "title", "a field of Ticket that is a Literal, got 'title'"),
        (FORTH, "stat", "a field of Ticket that is a Literal, got 'stat'"),
        ([Transition("new", "lost")], "status", "one of new, open, closed, got 'lost'"),
        ([Transition("open", "closed")], "status", "got one from 'open', where nothing leads"),
        ([*FORTH, FORTH[1]], "status", "every step once, got one twice"),
        ([Transition("new", "open", guard=GUESSED)], "status", r"\(state, event\) -> bool"),
    ],
)
def test_a_mistake_is_named(transitions: list[Transition], field: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        tickets(transitions, field)


def test_a_second_workflow_is_a_mistake_and_not_in_silence_the_only_one() -> None:
    pipeline = tickets(FORTH)
    with pytest.raises(PipelineError, match="expected one workflow, got a second one, of 'status'"):
        pipeline.entities["ticket"].workflow("status", FORTH)
