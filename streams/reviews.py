"""Questions to people: the `reviews` topic comes in; open reviews and their answers, as events of the entity, go out.

An answer is an event like any other. Its id is derived from review, answer and person, so that a command that is
repeated is the same event; the lane takes the first answer to an open review and refuses the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from schemas.decision import DecisionRecord
from schemas.event import ANSWERED, Answered, Envelope, envelope_headers
from schemas.keys import derived, entity_key, partition_of, quarantine_id
from schemas.quarantine import read_quarantine
from schemas.record import Out, Placed
from schemas.review import ReviewRecord
from streams import cluster, kafka
from streams.cluster import Seen
from streams.plan import Plan
from streams.topics import DECISIONS, EVENTS, QUARANTINE, REVIEWS, topic_name


class ReviewError(Exception):
    """The review cannot be answered (so); the message says why."""


class UnreadError(Exception):
    """Nobody has read the answer yet; the message says what happens when a worker runs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer on its way: the event, and where it stands in `events`."""

    event: Envelope
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Closed:
    """What an answer led to."""

    review: ReviewRecord
    decision: DecisionRecord


async def reviews(clients: Mapping[str, Any], plan: Plan, seen: Seen | None = None) -> list[ReviewRecord]:
    """Every review as it stands now, the most urgent first."""
    last: dict[str, ReviewRecord] = {}
    async for record in cluster.scan(clients, [topic_name(plan, REVIEWS)], seen=seen):
        if record.value is not None:
            review = ReviewRecord.model_validate_json(record.value)
            last[review.review_id] = review
    return sorted(last.values(), key=urgency)


def urgency(review: ReviewRecord) -> tuple[bool, float, str]:
    """Sorts reviews: open ones first, by deadline; those without one last."""
    deadline_ms = float("inf") if review.deadline_ms is None else review.deadline_ms
    return review.status != "open", deadline_ms, review.review_id


async def find(clients: Mapping[str, Any], plan: Plan, review_id: str) -> ReviewRecord:
    """The review called `review_id`.

    Raises:
        ReviewError: there is none.
    """
    found = [review for review in await reviews(clients, plan) if review.review_id == review_id]
    if not found:
        raise ReviewError(f"{review_id}: no such review. See: midstream review list --all")
    return found[0]


def require_open(review: ReviewRecord) -> None:
    """Refuse to answer what has been answered, or has expired.

    Raises:
        ReviewError: it is closed; says by whom and how.
    """
    if review.status != "open":
        note = f" ({review.note})" if review.note else ""
        raise ReviewError(f"{review.review_id} is not open: {review.status} by {review.by}{note}")


def answer_event(review: ReviewRecord, approve: bool, by: str, note: str, at_ms: int) -> Envelope:
    """The answer as an event of the entity that asks.

    Raises:
        ReviewError: nobody signs.
    """
    if not by.strip():
        raise ReviewError("an answer needs a name: --by NAME")
    given = Answered(review_id=review.review_id, approve=approve, by=by, note=note)
    return Envelope(
        id=derived("ans_", review.review_id, "approve" if approve else "reject", by),
        type=ANSWERED,
        source="/midstream/review",
        time_ms=at_ms,
        subject=entity_key(review.entity, review.key),
        data=given.model_dump_json().encode(),
        ingested_ms=at_ms,
    )


async def give(clients: Mapping[str, Any], plan: Plan, event: Envelope) -> Answer:
    """Publish the answer on its entity's partition, unless the same answer already waits there for a worker."""
    topic, key = topic_name(plan, EVENTS), event.subject.encode()
    partition = partition_of(key, (await kafka.partition_counts(clients, [topic]))[topic])
    group = await cluster.group(clients, plan.name)
    unread = {(topic, partition): group.committed.get((topic, partition), 0)}
    waiting = cluster.scan(clients, [topic], partition=partition, start=unread)
    async with aclosing(waiting):
        async for record in waiting:
            if ("ce_id", event.id.encode()) in record.headers and record.key == key:
                return Answer(event, partition, record.offset)
    out = Out(EVENTS, key, event.data, envelope_headers(event), partition)
    ((_, offset),) = await cluster.send(clients, plan, [out])
    return Answer(event, partition, offset)


async def ends(clients: Mapping[str, Any], plan: Plan) -> dict[tuple[str, int], int]:
    """Where the topics end in which the outcome of an answer will stand; to be asked before it is given."""
    names = [topic_name(plan, role) for role in (REVIEWS, DECISIONS, QUARANTINE)]
    return {(span.topic, span.partition): span.last for span in await cluster.spans(clients, names)}


async def outcome(
    clients: Mapping[str, Any],
    plan: Plan,
    answer: Answer,
    start: Mapping[tuple[str, int], int],
    timeout_s: float,
) -> Closed:
    """Wait until a worker has read the answer.

    Args:
        clients: aiokafka options.
        plan: the pipeline.
        answer: what was given.
        start: what `ends` said before.
        timeout_s: how long to wait.

    Raises:
        ReviewError: it was refused, or somebody else's answer came first.
        UnreadError: no worker has read it in time.
    """
    topic = topic_name(plan, EVENTS)
    ours = {where: offset for where, offset in start.items() if where[1] == answer.partition}
    review: ReviewRecord | None = None
    decision: DecisionRecord | None = None
    following = cluster.follow(clients, ours)
    try:
        async with asyncio.timeout(timeout_s), aclosing(following):
            async for record in following:
                if record.topic == topic_name(plan, QUARANTINE):
                    refuse_if_ours(record, quarantine_id(topic, answer.partition, answer.offset))
                elif record.topic == topic_name(plan, REVIEWS):
                    review = closed_by(record, answer) or review
                else:
                    decision = made_by(record, answer) or decision
                if review is not None and decision is not None:
                    return Closed(review, decision)
    except TimeoutError:
        pass
    raise UnreadError(
        f"the answer stands in {topic} ({answer.partition}@{answer.offset}), but no worker has read it within"
        f" {timeout_s:g} s. It counts as soon as one does: midstream worker PIPELINE"
    )


def refuse_if_ours(record: Placed, ours: str) -> None:
    """Tell of a quarantined answer.

    Raises:
        ReviewError: the lane could not follow it.
    """
    said = read_quarantine(record.headers)
    if said.get("id") == ours:
        raise ReviewError(
            f"the answer was refused ({said['reason']}): {said['detail']}. See quarantine {ours}"
        )


def made_by(record: Placed, answer: Answer) -> DecisionRecord | None:
    """The decision of the record, if it is what the answer became."""
    if answer.event.id.encode() not in (record.value or b""):
        return None
    decision = DecisionRecord.model_validate_json(record.value or b"")
    return decision if decision.trigger.event_id == answer.event.id else None


def closed_by(record: Placed, answer: Answer) -> ReviewRecord | None:
    """The review that the record closes, if it is the one that was answered."""
    if record.value is None:
        return None
    review = ReviewRecord.model_validate_json(record.value)
    given = Answered.model_validate_json(answer.event.data)
    return review if review.review_id == given.review_id and review.status != "open" else None
