"""`midstream review list|show|approve|reject PIPELINE`: questions are shown, a person's answer becomes an event."""

from __future__ import annotations

import time
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from schemas.event import Envelope
from schemas.review import ReviewRecord
from streams import reviews
from streams.commands.shared import (
    Json,
    PipelineFile,
    ask,
    moment,
    note,
    plan_of,
    print_json,
    progress,
    table,
)
from streams.plan import Plan
from streams.quarantine import printable
from streams.reviews import Answer, Closed
from streams.where import clients

app = App(name="review", help="Questions to people: list them, look at one, answer.")

Id = Annotated[str, Parameter(help="The review id, rev_….")]
By = Annotated[str, Parameter(help="Who answers; it stands in the decision and in the audit.")]
Note = Annotated[str, Parameter(help="Why; it stands in the decision and in the audit.")]
Wait = Annotated[bool, Parameter(help="Wait until a worker has read the answer, and print what it led to.")]
Timeout = Annotated[float, Parameter(validator=Number(gt=0), help="How long to wait, in seconds.")]


@app.command(name="list")
def list_(
    pipeline: PipelineFile,
    /,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="", help="Closed ones, too.")] = False,
    as_json: Json = False,
) -> int:
    """List the open reviews, the one with the nearest deadline first."""
    plan = plan_of(pipeline)
    with progress("reading reviews") as seen:
        found = ask(reviews.reviews(clients(), plan, seen))
    chosen = [review for review in found if everything or review.status == "open"]
    if as_json:
        print_json(chosen)
        return 0
    if chosen:
        headings = ["id", "status", "deadline", "decision", "entity", "proposal", "reason"]
        print(table([row(review) for review in chosen], headings))
    note(f"{plan.name}: {sum(review.status == 'open' for review in found)} open of {len(found)}")
    return 0


def row(review: ReviewRecord) -> list[str]:
    """One review as cells."""
    return [
        review.review_id,
        review.status,
        moment(review.deadline_ms),
        review.decision,
        printable(f"{review.entity}:{review.key}"),
        str(review.verdict["action"]),
        printable(str(review.verdict["reason"])),
    ]


@app.command
def show(pipeline: PipelineFile, id: Id, /, *, as_json: Json = False) -> int:
    """Show one review: the facts, the proposal and its reason, the deadline, the answer if there is one.

    Exit code 0: it is shown. 1: there is no such review.
    """
    plan = plan_of(pipeline)
    review = ask(reviews.find(clients(), plan, id))
    if as_json:
        print_json(review)
    else:
        print("\n".join(lines(review)))
    return 0


def lines(review: ReviewRecord) -> list[str]:
    """One review on a page."""
    told = [
        f"{review.review_id}  {review.status}",
        f"  decision  {review.decision} of {printable(review.entity)}:{printable(review.key)} ({review.decision_id})",
        f"  proposal  {review.verdict['action']}",
        f"  reason    {printable(str(review.verdict['reason']))}",
        f"  confident {review.verdict['confidence']:g}",
        f"  about     {moment(review.at_ms)}",
        f"  deadline  {moment(review.deadline_ms)}",
        "  facts",
        *(f"    {name}: {printable(str(value))}" for name, value in review.context.items()),
    ]
    if review.status != "open":
        note_ = f": {printable(review.note)}" if review.note else ""
        told.append(f"  {review.status} by {review.by}, {moment(review.closed_ms)}{note_}")
        told.append(f"  it became {review.answer_decision_id}")
    return told


@app.command
def approve(
    pipeline: PipelineFile,
    id: Id,
    /,
    *,
    by: By,
    note: Note = "",
    wait: Wait = True,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> int:
    """Agree to the proposal of an open review: its action goes ahead.

    Exit code 0: done (or sent, with --no-wait). 1: it is not open, or was refused. 69: no worker has read it in time.
    """
    return answer(plan_of(pipeline), id, True, by, note, timeout if wait else None, as_json)


@app.command
def reject(
    pipeline: PipelineFile,
    id: Id,
    /,
    *,
    by: By,
    note: Note = "",
    wait: Wait = True,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> int:
    """Turn the proposal of an open review down: nothing is done.

    Exit code 0: done (or sent, with --no-wait). 1: it is not open, or was refused. 69: no worker has read it in time.
    """
    return answer(plan_of(pipeline), id, False, by, note, timeout if wait else None, as_json)


def answer(
    plan: Plan, id: str, agree: bool, by: str, why: str, timeout_s: float | None, as_json: bool
) -> int:
    """Answer one review and print what it led to."""
    where = clients()
    review = ask(reviews.find(where, plan, id))
    reviews.require_open(review)
    event = reviews.answer_event(review, agree, by, why, time.time_ns() // 1_000_000)
    given, closed = ask(give(where, plan, event, timeout_s))
    if closed is None:
        print_json(given) if as_json else print(f"sent {given.event.id}; no worker was waited for")
        return 0
    if as_json:
        print_json({"review": closed.review, "decision": closed.decision})
        return 0
    decision = closed.decision
    print(f"{id} {closed.review.status} by {closed.review.by}")
    print(f"  decision {decision.decision_id}: {decision.gate_reason}")
    acted = f"{decision.action_id} ({decision.verdict['action']})"
    print(f"  action   {'none' if decision.action_id is None else acted}")
    return 0


async def give(
    where: dict[str, Any], plan: Plan, event: Envelope, timeout_s: float | None
) -> tuple[Answer, Closed | None]:
    """Publish the answer and, with a time-out, wait for what it leads to."""
    start = await reviews.ends(where, plan)
    given = await reviews.give(where, plan, event)
    if timeout_s is None:
        return given, None
    note("waiting for a worker …")
    return given, await reviews.outcome(where, plan, given, start, timeout_s)
