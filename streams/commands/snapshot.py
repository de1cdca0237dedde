"""`midstream snapshot PIPELINE`: a pipeline file and a cluster come in; a DuckDB file for analysts goes out."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from pydantic_core import to_json

from streams.commands.shared import Json, PipelineFile, ask, note, plan_of, progress
from streams.plan import Plan
from streams.projector import Pass, Progress, follow, project
from streams.where import clients
from tables.snapshot_columns import SnapshotError
from tables.snapshot_parquet import export

app = App(name="snapshot")


@app.default
def snapshot(
    pipeline: PipelineFile,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The file; default the pipeline's name, .duckdb.")] = None,
    following: Annotated[
        bool, Parameter(name="--follow", negative="", help="Publish again and again until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, Parameter(validator=Number(gt=0), help="With --follow: seconds between two publications.")
    ] = 10.0,
    parquet: Annotated[
        Path | None, Parameter(help="Write the tables as Parquet into this folder, too, records by day.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Write entities, changes, decisions, actions, reviews, quarantine and audit to one DuckDB file.

    It holds everything that was committed when the command began to read, and appears whole, by one rename: readers
    may have it open all the time. FILE.work beside it is where the next run continues.

    Exit code 0: it is published, or --follow was ended. 1: a file cannot be used. 69: Kafka is not there. 78: a
    mistake in the pipeline, its topics or the settings. 130: interrupted before it was published.
    """
    plan = plan_of(pipeline)
    target = out or Path(f"{plan.name}.duckdb")
    if following and parquet is not None:
        raise SnapshotError("--parquet is of one snapshot: run it without --follow, as often as you need it")
    try:
        with progress("reading") as seen:
            ask(run(clients(), plan, target, every if following else None, seen, as_json=as_json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        if not following:
            raise KeyboardInterrupt from None
        note(f"ended; {target} stays as it was published last")
    if parquet is not None:
        rows = export(target, parquet)
        note(f"{parquet}: {sum(rows.values()):,} rows of {len(rows)} tables as Parquet")
    return 0


async def run(
    where: dict[str, Any], plan: Plan, out: Path, every_s: float | None, seen: Progress, *, as_json: bool
) -> None:
    """One pass, or passes every `every_s` seconds until cancelled."""
    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C does: whoever supervises `--follow` ends it so.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    working = out.with_name(out.name + ".work")

    def tell(done: Pass) -> None:
        for line in done.notes:
            note(line)
        for lane in sorted(done.cut.torn):
            note(
                f"lane {lane} was busy all the time: its last transaction may be in one table and not in another"
            )
        if as_json:
            print(to_json(as_fields(out, done)).decode(), flush=True)
        else:
            print("\n".join(lines(out, done, brief=every_s is not None)), flush=True)

    def trouble(line: str) -> None:
        note(f"Kafka: {line}. Trying again every {every_s:g} s")

    if every_s is None:
        tell(await project(where, plan, working, out, seen))
    else:
        note(f"{out} is published anew every {every_s:g} s if something has come; Ctrl-C ends it")
        await follow(where, plan, working, out, every_s, tell, trouble, seen)


def lines(out: Path, done: Pass, *, brief: bool) -> list[str]:
    """One pass in words; unless `brief`, with what each table holds now."""
    news = f"{done.records:,} new records in {done.seconds:.1f} s" if done.published else "nothing new"
    told = [f"{out}: everything committed until {done.cut.at:%Y-%m-%d %H:%M:%S} UTC, {news}"]
    if not brief:
        told += [
            f"{rows:>12,}  {table}" for table, rows in done.rows.items() if rows or table != "_unreadable"
        ]
    if done.rows["_unreadable"]:
        told.append("_unreadable holds records that fit no table: somebody else writes to these topics")
    return told


def as_fields(out: Path, done: Pass) -> dict[str, Any]:
    """One pass as JSON."""
    return {
        "file": str(out),
        "published": done.published,
        "cut_at": done.cut.at,
        "cluster_id": done.cut.cluster,
        "records": done.records,
        "rows": done.rows,
        "notes": done.notes,
        "torn_lanes": sorted(done.cut.torn),
        "seconds": round(done.seconds, 3),
    }
