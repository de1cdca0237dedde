"""`midstream doctor [PIPELINE]`: this machine, the cluster and a pipeline are looked at; findings with cures go out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from streams.commands.shared import Json, ask, plan_of, print_json
from streams.doctor import Finding, examine
from streams.plan import Plan
from streams.where import clients

app = App(name="doctor")

STYLE = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.default
def doctor(
    pipeline: Annotated[
        Path | None, Parameter(help="Also look at its topics, transactions, lanes and snapshot.")
    ] = None,
    /,
    *,
    snapshot: Annotated[
        Path | None, Parameter(help="The pipeline's DuckDB file; default ./PIPELINE-NAME.duckdb.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Look for what keeps Midstream from running here: Python, pins, disk, Java, broker, topics, lanes, snapshot.

    Exit code 0: nothing does (warnings may be printed). 1: something does; its line says what to do.
    """
    plan = None if pipeline is None else plan_of(pipeline)
    file = snapshot or (None if plan is None else Path(f"{plan.name}.duckdb"))
    found = ask(look(plan, file, show=not as_json))
    if as_json:
        print_json(found)
    return 1 if any(finding.outcome == "fail" for finding in found) else 0


async def look(plan: Plan | None, snapshot: Path | None, *, show: bool) -> list[Finding]:
    """Every finding; each is shown as soon as it is there."""
    console = Console(file=sys.stdout, highlight=False)
    found = []
    async for finding in examine(plan, clients, snapshot):
        found.append(finding)
        if show:
            label = f"{finding.outcome:4} {finding.check:17}"
            console.print(label, style=STYLE[finding.outcome], end=" ", markup=False)
            console.print(finding.about, markup=False, soft_wrap=True)
            if finding.cure and finding.outcome != "ok":
                console.print(f"{'':22} {finding.cure}", markup=False, soft_wrap=True)
    return found
