"""A contender's process, seen from both sides: a task goes in, what a stopwatch inside measured comes out.

Back of the envelope: a process pays the stopwatch two calls per batch of some thousand records (one per commit in
stock Faust), 1 µs each: below a millionth of the second that it measures.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
FIGURES = "figures.json"
DEFINITION = (
    "events divided by the seconds from the first batch (stock Faust: the first event) that is given to the "
    "pipeline's code to the moment at which the transaction with the last event's offset is known to be committed"
)


class ContenderError(Exception):
    """A contender did not do its work; the message says which, and what it said last."""


@dataclass(frozen=True)
class Task:
    """What a contender has to do: read `events` records from a topic of its own, `<name>.<source>`, and stop."""

    name: str
    events: int
    # "events", or "raw" for the whole way through ingest.
    source: str
    partitions: int
    # Where its databases lie; fresh in every round.
    folder: str

    @classmethod
    def from_argv(cls) -> Task:
        """The task that `run` put on this process's command line."""
        return cls(**json.loads(sys.argv[1]))


@dataclass(frozen=True)
class Measured:
    """What the stopwatch saw. The processor time is that of the whole process, from just before the first batch on."""

    seconds: float
    cpu_s: float
    peak_rss_bytes: int


class Stopwatch:
    """Inside the contender: from the first batch taken to the last commit; then the process ends."""

    def __init__(self, task: Task) -> None:
        """Not started yet; the figures will go to the folder of `task` (Faust writes to standard output)."""
        self._figures = Path(task.folder, FIGURES)
        self._started_s: float | None = None
        self._cpu_s = 0.0

    def ready(self) -> None:
        """Note the processor time so far: what follows is work."""
        if self._started_s is None:
            self._cpu_s = time.process_time()

    def taken(self, at_s: float) -> None:
        """Note that a batch was taken at `at_s` (`time.monotonic`); the earliest counts, whenever it is told."""
        self._started_s = at_s if self._started_s is None else min(self._started_s, at_s)

    def finish(self) -> NoReturn:
        """Everything is committed: report and end the process at once, because leaving a group is not measured."""
        assert self._started_s is not None
        measured = Measured(
            seconds=time.monotonic() - self._started_s,
            cpu_s=time.process_time() - self._cpu_s,
            # Kibibytes on Linux: getrusage(2).
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        self._figures.write_text(json.dumps(asdict(measured)))
        os._exit(0)


def end_with_parent() -> None:
    """Inside the contender: end when whoever started it is gone, even if that was killed."""

    def watch() -> None:
        # The parent keeps the other end open and never writes.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def run(module: str, task: Task, environment: Mapping[str, str], timeout_s: float) -> Measured:
    """Run `module` as a process on `task` until it reports. It is gone when this returns or raises.

    Raises:
        ContenderError: it ended without a report, or had none after `timeout_s`.
    """
    folder = Path(task.folder)
    folder.mkdir(parents=True)
    log = folder / "log"
    command = [sys.executable, "-m", module, json.dumps(asdict(task))]
    read_end, write_end = os.pipe()
    try:
        with log.open("wb") as out:
            # A session of its own: Ctrl-C in the terminal is for us, who end it.
            process = subprocess.Popen(
                command,
                stdin=read_end,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=dict(environment),
                start_new_session=True,
            )
    finally:
        os.close(read_end)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ContenderError(f"{module} was not done after {timeout_s:.0f} s. {last_lines(log)}") from error
    finally:
        process.kill()
        process.wait()
        os.close(write_end)
    if process.returncode != 0:
        raise ContenderError(f"{module} ended with {process.returncode} and no figures. {last_lines(log)}")
    return Measured(**json.loads((folder / FIGURES).read_text()))


def last_lines(log: Path) -> str:
    """What the process said last."""
    lines = log.read_text(errors="replace").strip().splitlines()[-8:]
    return "Its last lines:\n" + "\n".join(lines) if lines else "It said nothing."
