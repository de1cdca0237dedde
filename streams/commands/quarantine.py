"""`midstream quarantine list|show|redrive PIPELINE`: what was refused and why is shown, and sent back."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from schemas.quarantine import Reason
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
from streams.quarantine import NotRedrivenError, Quarantined, back, entries, printable, redrive, shown
from streams.where import clients

app = App(name="quarantine", help="Refused records: list them, look at one, send them back.")

Id = Annotated[str, Parameter(help="The quarantine id, qua_….")]
ReasonCode = Annotated[
    Reason | None,
    # The codes as they stand in the records, not as options are spelled.
    Parameter(name_transform=str.lower, help="Only records that were refused for this reason."),
]


@app.command(name="list")
def list_(
    pipeline: PipelineFile,
    /,
    *,
    reason: ReasonCode = None,
    limit: Annotated[int, Parameter(validator=Number(gte=0), help="Show the newest this many; 0: all.")] = 20,
    as_json: Json = False,
) -> int:
    """List the refused records, the newest last, with counts by reason."""
    plan = plan_of(pipeline)
    with progress("reading quarantine") as seen:
        found = ask(entries(clients(), plan, lambda entry: reason in (None, entry.reason), seen))
    chosen = found[-limit:] if limit else found
    counts = Counter(entry.reason for entry in found)
    if as_json:
        print_json(
            {
                "count": len(found),
                "by_reason": dict(counts.most_common()),
                "records": [fields(entry) for entry in chosen],
            }
        )
        return 0
    if chosen:
        print(table([row(entry) for entry in chosen], ["id", "refused", "reason", "from", "field", "detail"]))
    for code, count in counts.most_common():
        print(f"{count:>8}  {code}")
    print(f"{len(found):>8}  in all" + (f", {len(chosen)} shown" if len(chosen) < len(found) else ""))
    return 0


def row(entry: Quarantined) -> list[str]:
    """One record as cells."""
    again = "" if entry.refused_again is None else f" (redriven, refused again as {entry.refused_again})"
    detail = printable(entry.detail).replace("\n", " ")
    return [
        entry.id,
        moment(entry.at_ms),
        entry.reason,
        f"{entry.topic} {entry.partition}@{entry.offset}",
        printable(entry.field),
        (detail if len(detail) <= 100 else detail[:99] + "…") + again,
    ]


def fields(entry: Quarantined) -> dict[str, Any]:
    """One record as JSON; its bytes as far as they are shown."""
    text, what = shown(entry.value)
    return {
        "id": entry.id,
        "reason": entry.reason,
        "field": entry.field,
        "detail": entry.detail,
        "topic": entry.topic,
        "partition": entry.partition,
        "offset": entry.offset,
        "refused_ms": entry.at_ms,
        "key": None if entry.key is None else entry.key.decode(errors="replace"),
        "headers": [[name, value.decode(errors="replace")] for name, value in entry.headers],
        "size_bytes": None if entry.value is None else len(entry.value),
        "value": text,
        "value_is": what,
        "redriven_from": entry.redriven_from,
        "refused_again": entry.refused_again,
    }


@app.command
def show(
    pipeline: PipelineFile,
    id: Id,
    /,
    *,
    raw: Annotated[
        bool, Parameter(negative="", help="Write the record's own bytes to standard output, nothing else.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show one refused record: why, where it came from, its headers and its bytes.

    Exit code 0: it is shown. 1: there is no such record.
    """
    plan = plan_of(pipeline)
    entry = find(clients(), plan, id)
    if raw:
        sys.stdout.buffer.write(entry.value or b"")
        sys.stdout.buffer.flush()
    elif as_json:
        print_json(fields(entry))
    else:
        print("\n".join(lines(entry)))
    return 0


def lines(entry: Quarantined) -> list[str]:
    """One record on a page."""
    text, what = shown(entry.value)
    told = [
        f"{entry.id}  {entry.reason}",
        f"  field    {printable(entry.field) or '-'}",
        f"  detail   {printable(entry.detail) or '-'}",
        f"  from     {entry.topic}, partition {entry.partition}, offset {entry.offset}",
        f"  refused  {moment(entry.at_ms)}",
        f"  key      {'none' if entry.key is None else shown(entry.key)[0]}",
        *(f"  header   {printable(name)}: {shown(value)[0]}" for name, value in entry.headers),
    ]
    if entry.redriven_from is not None:
        told.append(f"  it was redriven from {entry.redriven_from}")
    if entry.refused_again is not None:
        told.append(f"  it was redriven and refused again as {entry.refused_again}")
    told.append(f"  value    {what}" + ("" if entry.value is None else "; --raw writes them as they are"))
    return [*told, *(f"    {line}" for line in text.split("\n") if text)]


def find(where: dict[str, Any], plan: Plan, id: str) -> Quarantined:
    """The record called `id`.

    Raises:
        NotRedrivenError: there is none.
    """
    with progress("reading quarantine") as seen:
        found = ask(entries(where, plan, lambda entry: entry.id == id, seen))
    if not found:
        raise NotRedrivenError(f"{id}: no such record. See: midstream quarantine list --limit 0")
    return found[0]


@app.command(name="redrive")
def redrive_(
    pipeline: PipelineFile,
    id: Annotated[str | None, Parameter(help="The quarantine id, qua_…; or --all.")] = None,
    /,
    *,
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="Every record that can go back.")
    ] = False,
    reason: ReasonCode = None,
    body: Annotated[Path | None, Parameter(help="Send these bytes instead of the record's own.")] = None,
    as_json: Json = False,
) -> int:
    """Send refused records back as they came, with a header that names the quarantine record.

    They are judged anew. An event whose id has been seen since is a duplicate and changes nothing, so a redrive may
    be repeated. With --all, records that were redriven and refused again stand back for their successors.

    Exit code 0: sent. 1: nothing could be sent; one line says why.
    """
    plan = plan_of(pipeline)
    where = clients()
    if (
        (id is None) == (not everything)
        or (id is not None and reason is not None)
        or (everything and body is not None)
    ):
        raise NotRedrivenError("name one id (and perhaps --body FILE), or --all (and perhaps --reason CODE)")
    left: list[tuple[Quarantined, str]] = []
    if id is not None:
        chosen = [find(where, plan, id)]
    else:
        with progress("reading quarantine") as seen:
            found = ask(entries(where, plan, lambda entry: reason in (None, entry.reason), seen))
        chosen, left = can_go([entry for entry in found if entry.refused_again is None])
    sent = ask(redrive(where, plan, chosen, None if body is None else body.read_bytes()))
    if as_json:
        print_json(
            {
                "sent": [
                    {"id": entry.id, "topic": topic, "partition": partition, "offset": offset}
                    for entry, topic, partition, offset in sent
                ],
                "left": [{"id": entry.id, "why": why} for entry, why in left],
            }
        )
    else:
        for entry, topic, partition, offset in sent:
            print(f"{entry.id} ({entry.reason}) → {topic} {partition}@{offset}")
    for _, why in left:
        note(f"left: {why}")
    note(f"{len(sent)} sent, {len(left)} left")
    return 0 if sent or not left else 1


def can_go(found: list[Quarantined]) -> tuple[list[Quarantined], list[tuple[Quarantined, str]]]:
    """Those with a way back to `raw`, and the others with the reason: a copy goes back by its own id alone."""
    chosen: list[Quarantined] = []
    left: list[tuple[Quarantined, str]] = []
    for entry in found:
        try:
            back(entry)
        except NotRedrivenError as error:
            left.append((entry, str(error)))
            continue
        if entry.way == "copy":
            left.append((entry, f"{entry.id} is a copy, to be taken once: redrive it by its id"))
        else:
            chosen.append(entry)
    return chosen, left
