"""`midstream offsets show|reset PIPELINE`: a pipeline file comes in; where its lanes go on is shown, or changed."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from streams.commands.shared import Json, PipelineFile, ask, note, plan_of, print_json, table
from streams.offsets import Move, OffsetsError, Position, To, plan_reset, positions, reset
from streams.where import clients

app = App(name="offsets", help="Where the lanes go on: show it, or change it when records are lost.")


@app.command
def show(pipeline: PipelineFile, /, *, as_json: Json = False) -> int:
    """Show for every source partition the next record to read, and what Kafka has.

    Exit code 0: every lane can go on. 1: some cannot; the last column says why.
    """
    found = ask(positions(clients(), plan_of(pipeline)))
    if as_json:
        print_json(found)
    else:
        print(table([row(position) for position in found], ["partition", "next", "first", "end", ""]))
    return 1 if any(position.trouble for position in found) else 0


def row(position: Position) -> list[str]:
    """One partition as cells."""
    committed = "-" if position.committed is None else str(position.committed)
    return [position.name, committed, str(position.first), str(position.last), position.trouble]


@app.command(name="reset")
def reset_(
    pipeline: PipelineFile,
    /,
    *,
    to: Annotated[
        str,
        Parameter(
            help="earliest: the first record that Kafka still has. An offset: that record. keep: no other record, but "
            "the changelogs as they are now, with what they have lost."
        ),
    ],
    partition: Annotated[
        list[str] | None,
        Parameter(negative="", help="raw:N or events:N, may be repeated; default: those that cannot go on."),
    ] = None,
    yes: Annotated[
        bool, Parameter(negative="", help="Do it; without it, only say what would be done.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Let lanes go on elsewhere, while no worker runs.

    Records that are skipped are never read; records that are read again are duplicates while their ids are remembered.

    Exit code 0: done, or there was nothing to do. 1: refused, or --yes is missing.
    """
    plan, where = plan_of(pipeline), clients()
    moves = ask(plan_reset(where, plan, goal(to), partition or []))
    if yes and moves:
        ask(reset(where, plan, moves))
    if as_json:
        print_json({"done": yes, "moves": moves})
    else:
        for move in moves:
            print(line(move))
    if not moves:
        note("every lane can go on; name one with --partition to move it all the same")
    elif not yes:
        note("nothing has been changed; repeat with --yes")
    return 0 if yes or not moves else 1


def goal(to: str) -> To:
    """What `--to` means.

    Raises:
        OffsetsError: it is neither of the words nor an offset.
    """
    if to == "earliest":
        return "earliest"
    if to == "keep":
        return "keep"
    if not to.isdecimal():
        raise OffsetsError(f"--to {to}: expected earliest, keep or an offset")
    return int(to)


def line(move: Move) -> str:
    """One move for a person."""
    before = "-" if move.before is None else str(move.before)
    if move.before == move.after:
        return f"{move.name}  stays at {before}, with the changelogs as they are"
    return f"{move.name}  {before} → {move.after}"
