"""`midstream check PIPELINE`: a pipeline file in; what it declares, or its first mistake in one line, out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import App, Parameter

from streams.commands.shared import Json, PipelineFile, plan_of, print_json, span
from streams.describe import described

app = App(name="check")


@app.default
def check(
    pipeline: PipelineFile,
    /,
    *,
    mermaid: Annotated[
        bool, Parameter(negative="", help="Print the workflows as Mermaid diagrams, for documentation.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Check a pipeline without a broker, and print what it declares.

    Exit code 0: it can run. 78: its author made a mistake; one line names the function and the way out.
    """
    told = described(plan_of(pipeline))
    if as_json:
        print_json(told)
        return 0
    if mermaid:
        diagrams = (each["workflow"]["mermaid"] for each in told["entities"] if each["workflow"])
        print("\n".join(f"```mermaid\n{diagram}\n```" for diagram in diagrams))
        return 0
    print("\n".join(lines(told)))
    return 0


def lines(told: dict[str, Any]) -> Iterator[str]:
    """The description as text."""
    yield f"{told['pipeline']} version {told['version']}: every check passed"
    yield "\nEvents"
    for event in told["events"]:
        copies = "".join(f", copy to {entity} by {key}" for entity, key in event["copies"].items())
        yield f"  {event['type']} → {event['owner']} by {event['key_field']}{copies}"
    for bare in told["bare_json"]:
        yield f"  plain JSON of source {bare['source']!r}: type at {bare['type']}, time at {bare['time']}"
    yield "\nEntities"
    for entity in told["entities"]:
        yield from entity_lines(entity)
    yield "\nDecisions"
    for decision in told["decisions"]:
        yield from decision_lines(decision)
    yield "\nTopics"
    for topic in told["topics"]:
        yield f"  {topic['name']}: {topic['about']}; key: {topic['key']}; written by {topic['written_by']}"


def entity_lines(entity: dict[str, Any]) -> Iterator[str]:
    """One entity as text."""
    stale = entity["stale_after_ms"]
    current = "" if stale is None else f", current for {span(stale)}"
    yield f"  {entity['entity']} ({entity['state']}): order {entity['order']}, rank {entity['rank']}{current}"
    for event, function in entity["reducers"].items():
        yield f"    {event} is folded by {function}"
    for window in entity["windows"]:
        yield (
            f"    window {window['window']}: the last {span(window['within_ms'])} of {', '.join(window['of'])},"
            f" at most {window['limit']}"
        )
    for link in entity["links"]:
        yield (
            f"    link {link['link']}: tells {link['to']} by {link['on']}: {', '.join(link['carries'])};"
            f" at most {link['limit']}"
        )
    if entity["workflow"] is not None:
        yield f"    {entity['workflow']['field']} begins as {entity['workflow']['first']}"
        for step in entity["workflow"]["transitions"]:
            by = f" by {', '.join(step['on'])}" if step["on"] else ""
            guard = f" if {step['guard']}" if step["guard"] else ""
            yield f"      {step['before']} → {step['after']}{by}{guard}"
    kept = f", {entity['tail_limit']} events to fold again" if entity["tail_limit"] else ""
    yield (
        f"    remembers {entity['dedupe_limit']} event ids of {span(entity['dedupe_within_ms'])}, the changes of"
        f" {entity['history_limit']} events; grace {span(entity['grace_ms'])}{kept}"
    )


def decision_lines(decision: dict[str, Any]) -> Iterator[str]:
    """One decision as text."""
    if decision["every_ms"]:
        when = f"every {span(decision['every_ms'])}"
    else:
        when = f"on {', '.join(decision['on'])}"
    settle = f", {span(decision['settle_ms'])} later" if decision["settle_ms"] else ""
    yield f"  {decision['decision']} of {decision['entity']}: {when}{settle}; sees {', '.join(decision['sees'])}"
    for number, route in enumerate(decision["routes"], 1):
        yield f"    {number}. {route['route']} {route['name']}@{route['version']}: {' '.join(route['why'].split())}"
    for action in decision["actions"]:
        deadline = action["deadline_ms"]
        until = "" if deadline is None else f", within {span(deadline)}"
        yield f"    → {action['action']} ({action['stakes']} stakes{until}): {', '.join(action['input'])}"
    review = decision["review"]
    if review is not None:
        yield (
            f"    high stakes wait for a person, {span(review['deadline_ms'])} at most; then the proposal is"
            f" {review['on_timeout']}{'ed' if review['on_timeout'] == 'reject' else 'd'}"
        )
