"""`midstream explain PIPELINE ID`: the id of any link of the chain in; the whole chain, on one page, out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import App, Parameter

from schemas.decision import DecisionRecord
from schemas.keys import entity_key
from streams.commands.quarantine import fields as quarantine_fields
from streams.commands.shared import Json, PipelineFile, ask, moment, plan_of, print_json, steps
from streams.explain import EventSeen, Explanation, explain
from streams.quarantine import printable
from streams.where import clients

app = App(name="explain")

# A page is for reading: longer bodies are cut there, and whole in --json.
BODY_CHARACTERS = 300


@app.default
def explain_(
    pipeline: PipelineFile,
    id: Annotated[
        str,
        Parameter(help="An event's own id, or dec_…, act_…, rev_…, qua_…: any link of the chain."),
    ],
    /,
    *,
    as_json: Json = False,
) -> int:
    """Print what happened and why: event → state → context → routes → decision → review → action → audit.

    Exit code 0: it is known. 1: no topic of the pipeline knows the id.
    """
    plan = plan_of(pipeline)
    where = clients()
    with steps() as step:
        found = ask(explain(where, plan, id, step))
    if as_json:
        quarantined = [quarantine_fields(entry) for entry in found.quarantined]
        print_json(parts(found) | {"quarantined": quarantined})
    else:
        print("\n".join(page(found)).strip("\n"))
    return 0


def parts(found: Explanation) -> dict[str, Any]:
    """The parts of an explanation by name."""
    return {name: getattr(found, name) for name in Explanation.__slots__}


def page(found: Explanation) -> Iterator[str]:
    """The chain as text."""
    for entry in found.quarantined:
        yield line(
            "refused", f"{entry.reason} {entry.field}: {entry.detail} ({entry.id}, {moment(entry.at_ms)})"
        )
    for records in by_fact(found.events):
        yield from event_lines(found, records)
    for decision in found.decisions:
        yield ""
        yield from decision_lines(found, decision)
    if found.silent:
        yield ""
        names = ", ".join(dict.fromkeys(found.silent))
        yield line("no record", f"{names}: every rule passed on it, or it has not looked yet")
    if found.audit:
        yield ""
    for done in found.audit:
        what = f"#{done.sequence} {done.what} {done.decision_id} by {done.by}"
        yield line("audit", f"{what}: {done.why} ({done.hash[:12]})")


def by_fact(events: list[EventSeen]) -> list[list[EventSeen]]:
    """The records of each fact together, in the order in which the facts come."""
    together: dict[tuple[str, str], list[EventSeen]] = {}
    for event in events:
        together.setdefault((event.id, event.subject), []).append(event)
    return list(together.values())


def line(label: str, text: str) -> str:
    """One line of the page; nothing in `text` is obeyed by a terminal."""
    return f"{label:<10} {printable(text)}".rstrip().replace("\n", " ")


def event_lines(found: Explanation, records: list[EventSeen]) -> Iterator[str]:
    """One event: what it says, where it stands, and what it changed."""
    event = records[0]
    yield line("event", f"{event.id}  {event.type} at {moment(event.time_ms)} about {event.subject}")
    yield line("", short(event.body))
    for raw in found.raw:
        if raw.event_id == event.id and raw.subject == event.subject:
            again = raw.headers.get("ms_redriven")
            since = "" if again is None else f", redriven from {again}"
            place = f"raw {raw.partition}@{raw.offset}, {moment(event.ingested_ms)}"
            yield line("", f"from {event.source}: {place}{since}")
    for record in records:
        what = "" if record.key == record.subject else " (a copy)"
        more = f", and {record.repeated} more times: duplicates" if record.repeated else ""
        yield line("", f"read by {record.key}{what} at events {record.partition}@{record.offset}{more}")
    for change in found.changes:
        if change.event_id == event.id:
            key = entity_key(change.entity, change.key)
            anew = f" (anew, because {change.late} came late)" if change.late else ""
            what = diff(change.fields) or f"no change; it said {', '.join(change.said)}"
            yield line("state", f"{key} version {change.version}: {what}{anew}")


def diff(fields: dict[str, list[Any]]) -> str:
    """Changed fields as `name old → new`."""
    return ", ".join(f"{name} {compact(old)} → {compact(new)}" for name, (old, new) in fields.items())


def compact(value: Any) -> str:
    """JSON without spaces to spare."""
    return json.dumps(value, ensure_ascii=False)


def short(value: Any) -> str:
    """JSON, cut to what a page has room for."""
    text = compact(value)
    return text if len(text) <= BODY_CHARACTERS else f"{text[:BODY_CHARACTERS]}… ({len(text)} characters)"


def decision_lines(found: Explanation, decision: DecisionRecord) -> Iterator[str]:
    """One decision: what it saw, whom it asked, what was allowed to follow, and what did."""
    key = entity_key(decision.entity, decision.key)
    cause = decision.trigger.event_id or decision.trigger.name
    yield line(
        "decision", f"{decision.decision_id}  {decision.decision} of {key} at {moment(decision.at_ms)}"
    )
    yield line("", f"because of {cause}, read at events {decision.source_partition}@{decision.source_offset}")
    state = found.states.get(decision.decision_id, {})
    yield line("state", f"{key} version {decision.state_version}: {facts(state)}")
    yield line("context", f"{facts(decision.context)} (hash {decision.context_hash[:12]})")
    for number, hop in enumerate(decision.hops, 1):
        sure = "" if hop.confidence is None else f", confidence {hop.confidence:g}"
        version = f"@{hop.tool_version}" if hop.tool_version else ""
        yield line(
            "route",
            f"{number}. {hop.route} {hop.tool}{version}: {hop.outcome}{sure}: {hop.reason or 'no reason given'}",
        )
    yield line("verdict", f"{decision.verdict['action']}: {decision.verdict['reason']}")
    yield line("gate", f"{decision.gate}: {decision.gate_reason}")
    for review in found.reviews:
        if review.decision_id == decision.decision_id:
            closed = "" if review.closed_ms is None else f" by {review.by} at {moment(review.closed_ms)}"
            note = f": {review.note}" if review.note else ""
            yield line("review", f"{review.review_id}  {review.status}{closed}{note}")
    for action in found.actions:
        if action.decision_id == decision.decision_id:
            until = "" if action.deadline_ms is None else f" until {moment(action.deadline_ms)}"
            yield line("action", f"{action.action_id}  {action.action}{until}: {short(action.input)}")


def facts(values: dict[str, Any]) -> str:
    """Named values on one line."""
    return ", ".join(f"{name}={compact(value)}" for name, value in values.items()) or "nothing known"
