"""`midstream freshness PIPELINE`: which entities have been silent for too long, and which sources."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from streams import entities
from streams.commands.shared import (
    Json,
    PipelineFile,
    ask,
    moment,
    note,
    plan_of,
    print_json,
    progress,
    span,
    table,
    utc_ms,
)
from streams.entities import Freshness
from streams.quarantine import printable
from streams.where import clients

app = App(name="freshness")


@app.default
def freshness(
    pipeline: PipelineFile,
    /,
    *,
    at: Annotated[
        datetime | None, Parameter(help="The instant to judge at, UTC unless it says else; default: now.")
    ] = None,
    limit: Annotated[
        int, Parameter(validator=Number(gte=0), help="How many stale rows of each kind to list.")
    ] = 10,
    as_json: Json = False,
) -> int:
    """List what is stale: rows whose newest event is older than their entity's `stale_after`.

    Exit code 0: nothing is stale. 1: something is.
    """
    plan = plan_of(pipeline)
    at_ms = time.time_ns() // 1_000_000 if at is None else utc_ms(at)
    with progress("reading rows") as seen:
        found = ask(entities.freshness(clients(), plan, at_ms, limit, seen))
    if as_json:
        print_json({"at_ms": at_ms, "entities": found})
    else:
        print(table([row(each) for each in found], ["entity", "rows", "stale", "stale after", "newest"]))
        for each in found:
            print_stalest(each, at_ms)
    note(f"{plan.name} at {moment(at_ms)}: {sum(each.stale for each in found)} rows are stale")
    return 1 if any(each.stale for each in found) else 0


def row(found: Freshness) -> list[str]:
    """One kind of entity as cells."""
    after = "never" if found.stale_after_ms is None else span(found.stale_after_ms)
    return [found.entity, str(found.rows), str(found.stale), after, moment(found.newest_ms)]


def print_stalest(found: Freshness, at_ms: int) -> None:
    """Who has been silent for longest."""
    if not found.stalest:
        return
    cells = [
        [
            f"  {found.entity}:{printable(each.key)}",
            span((at_ms - each.as_of_ms) // 60_000 * 60_000),
            moment(each.as_of_ms),
            printable(f"{each.event_type} from {each.source}"),
        ]
        for each in found.stalest
    ]
    print("\n" + table(cells, ["  stale", "for", "since", "last heard"]))
    if found.stale > len(cells):
        print(f"  and {found.stale - len(cells)} more")
