"""What the commands share: arguments they have in common, the plan of a file, JSON and progress as they are shown."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter
from pydantic_core import to_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from schemas.times import rfc3339, to_ms
from streams.cluster import Seen
from streams.plan import Plan, compile_plan, load

PipelineFile = Annotated[Path, Parameter(help="The Python file that declares the pipeline.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]

T = TypeVar("T")


def plan_of(pipeline: Path) -> Plan:
    """The compiled pipeline of a file.

    Raises:
        PipelineError: it cannot be read, or its author made a mistake.
    """
    return compile_plan(load(pipeline))


def ask(question: Coroutine[Any, Any, T]) -> T:
    """Run a question to Kafka; what its client would log on the way is said by the error itself."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(question)


def print_json(value: Any) -> None:
    """`value` (models and dataclasses too) as JSON on standard output."""
    print(to_json(value, indent=2).decode())


@contextmanager
def progress(what: str) -> Iterator[Seen]:
    """A bar on standard error, if that is a terminal, for a scan that takes a while."""
    with steps() as step:
        yield step(what)


@contextmanager
def steps() -> Iterator[Callable[[str], Seen]]:
    """The same for several scans in a row: each is announced by what it is."""
    console = Console(stderr=True)
    bar = ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=None)

    def step(what: str) -> Seen:
        bar.update(task, description=what, completed=0, total=None)
        return lambda done, total: bar.update(task, completed=done, total=total)

    with bar:
        yield step


def note(line: str) -> None:
    """One line for people, on standard error."""
    print(line, file=sys.stderr)


def moment(time_ms: int | None) -> str:
    """An instant in UTC; "-" for none."""
    return "-" if time_ms is None else rfc3339(time_ms)


def utc_ms(at: datetime) -> int:
    """An instant that somebody typed, epoch milliseconds: UTC unless it says else."""
    return to_ms(at if at.tzinfo else at.replace(tzinfo=UTC))


def span(duration_ms: int) -> str:
    """A duration in its largest whole unit: `2 h`, `90 s`, `5 d`."""
    for size_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if duration_ms and duration_ms % size_ms == 0:
            return f"{duration_ms // size_ms} {unit}"
    return str(timedelta(milliseconds=duration_ms)) if duration_ms else "0"


def table(rows: list[list[str]], headings: list[str]) -> str:
    """`rows` under `headings` in columns as wide as their widest cell, the last one as long as it is."""
    cells = [headings, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in cells
    )
