"""`midstream state get|sizes`: a row as it stands, or stood, and how large rows are; for people and for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from schemas.row import Row, State
from streams import entities
from streams.commands.shared import Json, PipelineFile, ask, moment, plan_of, print_json, progress, utc_ms
from streams.quarantine import printable
from streams.sizes import Sizes, sizes
from streams.where import clients

app = App(name="state", help="What is known of an entity, and how much room that takes.")

# The longest bar of a histogram, in characters.
BAR = 40

Entity = Annotated[str, Parameter(help="The kind of entity, as the pipeline calls it.")]
Key = Annotated[str, Parameter(help="Which one.")]


AsOf = Annotated[
    datetime | None,
    Parameter(help="The row as of this event time, UTC unless it says else; default: as it is."),
]


@app.command
def get(
    pipeline: PipelineFile, entity: Entity, key: Key, /, *, as_of: AsOf = None, as_json: Json = False
) -> int:
    """Print the row of one entity: its state, what explains it, its relations, windows and timers.

    As of an earlier instant it is made by folding the entity's events up to then again.

    Exit code 0: it is printed. 1: there is no such entity.
    """
    plan = plan_of(pipeline)
    at_ms = None if as_of is None else utc_ms(as_of)
    with progress(f"reading {entity}" if at_ms is None else f"reading events of {entity}") as seen:
        if at_ms is None:
            row = ask(entities.row_of(clients(), plan, entity, key, seen))
        else:
            row = ask(entities.row_as_of(clients(), plan, entity, key, at_ms, seen))
    if as_json:
        asked = {} if at_ms is None else {"asked_as_of_ms": at_ms}
        print_json({"entity": entity, "key": key, **asked, **row.model_dump(mode="json")})
    else:
        print("\n".join(lines(entity, key, row)))
    return 0


@app.command(name="sizes")
def sizes_(
    pipeline: PipelineFile,
    /,
    *,
    limit: Annotated[
        int, Parameter(validator=Number(gte=0), help="How many of the largest rows of each kind to list.")
    ] = 5,
    as_json: Json = False,
) -> int:
    """Print how large the rows of each kind of entity are, the largest ones, and what their bounds have thrown away."""
    plan = plan_of(pipeline)
    with progress("reading rows") as seen:
        found = ask(sizes(clients(), plan, limit, seen))
    if as_json:
        print_json({"entities": found})
    else:
        print("\n\n".join("\n".join(size_lines(each)) for each in found))
    return 0


def size_lines(found: Sizes) -> list[str]:
    """The rows of one kind on a page."""
    told = [f"{found.entity}: {found.rows:,} rows, {found.total_bytes:,} bytes"]
    if found.rows:
        told[0] += f", half of them at most {found.p50_bytes:,}, 99 of 100 at most {found.p99_bytes:,}"
    most = max((count for _, count in found.histogram), default=1)
    for end, count in found.histogram:
        name = "larger" if end is None else f"up to {end:,}"
        told.append(f"  {name:>15}  {'█' * max(1, round(BAR * count / most))} {count:,}")
    if found.largest:
        told.append("  largest: " + ", ".join(f"{printable(key)} ({size:,})" for key, size in found.largest))
    told += [
        f"  thrown away: {count:,} of {bound}, in {rows:,} rows"
        for bound, (count, rows) in found.evicted.items()
    ]
    return told


def lines(entity: str, key: str, row: Row[State]) -> list[str]:
    """A row on a page."""
    told = [f"{printable(entity)}:{printable(key)}  version {row.version}, as of {moment(row.as_of_ms)}"]
    told += [
        f"  {name}: {printable(str(value))}" for name, value in row.state.model_dump(mode="json").items()
    ]
    if row.cause is not None:
        told.append(f"  last event  {printable(row.cause.event_id)} ({row.cause.type}, {row.cause.source})")
    told += [
        f"  {change.version}. {moment(change.time_ms)} {printable(change.event_id)}: "
        + ", ".join(
            f"{name} {printable(str(old))} → {printable(str(new))}"
            for name, (old, new) in change.fields.items()
        )
        for change in row.changes
    ]
    for link, held in row.related.items():
        told.append(f"  {link}: {len(held)}")
        told += [
            f"    {printable(other)}: "
            + ", ".join(f"{name}={printable(str(said[-1].value))}" for name, said in fields.items() if said)
            for other, fields in held.items()
        ]
    told += [f"  window {name}: {len(items)}" for name, items in row.windows.items()]
    told += [f"  timer {name}: {moment(timer.due_ms)}" for name, timer in row.timers.items()]
    if row.fold is not None:
        told.append(f"  kept to be folded again: {len(row.fold.tail)} events")
    if row.evicted:
        told.append("  evicted: " + ", ".join(f"{count} of {bound}" for bound, count in row.evicted.items()))
    return told
