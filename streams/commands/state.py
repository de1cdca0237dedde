"""`midstream state get PIPELINE ENTITY KEY`: a row as it stands, for people and for programs."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from schemas.row import Row, State
from streams import entities
from streams.commands.shared import Json, PipelineFile, ask, moment, plan_of, print_json, progress
from streams.quarantine import printable
from streams.where import clients

app = App(name="state", help="What is known of an entity.")

Entity = Annotated[str, Parameter(help="The kind of entity, as the pipeline calls it.")]
Key = Annotated[str, Parameter(help="Which one.")]


@app.command
def get(pipeline: PipelineFile, entity: Entity, key: Key, /, *, as_json: Json = False) -> int:
    """Print the row of one entity: its state, what explains it, its relations, windows and timers.

    Exit code 0: it is printed. 1: there is no such entity.
    """
    plan = plan_of(pipeline)
    with progress(f"reading {entity}") as seen:
        row = ask(entities.row_of(clients(), plan, entity, key, seen))
    if as_json:
        print_json({"entity": entity, "key": key, **row.model_dump(mode="json")})
    else:
        print("\n".join(lines(entity, key, row)))
    return 0


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
