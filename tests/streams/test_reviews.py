"""Questions and answers: the same answer is the same event, and the lane takes what the command sends."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from schemas.event import envelope_headers
from schemas.record import Given, Out
from schemas.review import ReviewRecord
from streams.memory import Memory, happened, passed
from streams.plan import load
from streams.reviews import ReviewError, answer_event, require_open, urgency

TICKETS = Path(__file__).parents[2] / "examples" / "tickets.py"
DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def memory() -> Memory:
    """A customer with a bad week, and time past everything that waits to settle."""
    memory = Memory(load(TICKETS))
    models: ModuleType = sys.modules["pipeline_tickets"]
    plan = models.PlanChanged(customer_id="acme", plan="enterprise", renews_at=None)
    tickets = [
        models.Opened(ticket_id=f"T{number}", customer_id="acme", subject="down", severity="normal")
        for number in range(3)
    ]
    memory.send(
        [
            happened(plan, DAY, "plan"),
            *(happened(ticket, DAY + timedelta(minutes=n), f"o{n}") for n, ticket in enumerate(tickets)),
            passed(DAY + timedelta(hours=1)),
        ]
    )
    return memory


def send(memory: Memory, out: Out) -> list[Out]:
    return memory.lane.step(Given("p.events", 0, 99, 0, out.key, out.value, out.headers))


@pytest.mark.parametrize(("approve", "actions"), [(True, ["credit"]), (False, [])])
def test_the_lane_takes_the_answer_once(memory: Memory, approve: bool, actions: list[str]) -> None:
    (review,) = memory.reviews
    event = answer_event(review, approve, "ann", "because", 1_800_000_000_000)
    out = Out("events", event.subject.encode(), event.data, envelope_headers(event))

    first, second = send(memory, out), send(memory, out)

    assert [each.topic for each in first].count("actions") == len(actions)
    closed = [
        ReviewRecord.model_validate_json(each.value or b"") for each in first if each.topic == "reviews"
    ]
    assert [(each.status, each.by, each.note) for each in closed] == [
        ("approved" if approve else "rejected", "ann", "because")
    ]
    assert [each.topic for each in second] == ["quarantine"]


def test_a_repeated_command_is_the_same_event(memory: Memory) -> None:
    (review,) = memory.reviews
    first = answer_event(review, True, "ann", "", 1)

    assert answer_event(review, True, "ann", "another note", 2).id == first.id
    assert answer_event(review, False, "ann", "", 1).id != first.id
    assert answer_event(review, True, "bob", "", 1).id != first.id


def test_nobody_signs_with_an_empty_name(memory: Memory) -> None:
    with pytest.raises(ReviewError, match="--by NAME"):
        answer_event(memory.reviews[0], True, "  ", "", 1)


def test_what_is_closed_cannot_be_answered(memory: Memory) -> None:
    (review,) = memory.reviews
    require_open(review)
    closed = review.model_copy(update={"status": "rejected", "by": "bob", "note": "too much"})

    with pytest.raises(ReviewError, match=r"not open: rejected by bob \(too much\)"):
        require_open(closed)


def test_the_most_urgent_comes_first(memory: Memory) -> None:
    (review,) = memory.reviews
    late = review.model_copy(update={"review_id": "late", "deadline_ms": 2})
    soon = review.model_copy(update={"review_id": "soon", "deadline_ms": 1})
    never = review.model_copy(update={"review_id": "never", "deadline_ms": None})
    closed = review.model_copy(update={"review_id": "closed", "deadline_ms": 0, "status": "expired"})

    ordered = sorted([never, closed, late, soon], key=urgency)

    assert [each.review_id for each in ordered] == ["soon", "late", "never", "closed"]
