"""A contender's process, seen from both sides: its task on the command line, its life in the hands of the benchmark.

Standard library only: peers import this in environments of their own. A contender measures nothing; it reads, works,
writes and commits until it is ended from outside (benchmarks/progress.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROC = Path("/proc")
# What a person, or the system, ends a program with.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ContenderError(Exception):
    """A contender did not do its work; the message says which, and what it said last."""


@dataclass(frozen=True)
class Task:
    """What a contender has to do: read `events` records from the topic `source`, one output each to `output`.

    `name` is its consumer group, its application id and the beginning of every topic that it makes for itself.
    """

    name: str
    bootstrap: str
    # "events", or "raw" for the whole way through ingest.
    role: str
    source: str
    output: str
    events: int
    partitions: int
    # Where its databases lie; fresh in every round.
    folder: str

    @classmethod
    def from_argv(cls) -> Task:
        """The task that `running` put on this process's command line."""
        return cls(**json.loads(sys.argv.pop()))


def end_with_parent() -> None:
    """Inside the contender: end when whoever started it is gone, even if that was killed."""

    def watch() -> None:
        # The parent keeps the other end open and never writes.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


@dataclass(frozen=True)
class Process:
    """A contender at work, from outside."""

    name: str
    pid: int
    log: Path
    popen: subprocess.Popen[bytes]

    def check(self) -> None:
        """Nothing while it runs: no contender ends by itself.

        Raises:
            ContenderError: it has ended.
        """
        if self.popen.poll() is not None:
            raise ContenderError(f"{self.name} ended with {self.popen.returncode}. {last_lines(self.log)}")

    def cpu_s(self) -> float | None:
        """Processor seconds so far, all threads; None where there is no /proc."""
        try:
            # proc(5): the name in parentheses may hold blanks; utime and stime are fields 14 and 15.
            fields = (PROC / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_rss_bytes(self) -> int | None:
        """The most memory that it had resident; None where there is no /proc."""
        return self._status_bytes("VmHWM:")

    def rss_bytes(self) -> int | None:
        """The memory that it has resident now; None where there is no /proc."""
        return self._status_bytes("VmRSS:")

    def _status_bytes(self, field: str) -> int | None:
        try:
            status = (PROC / str(self.pid) / "status").read_text()
        except OSError:
            return None
        return next(
            (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field)), None
        )


@contextmanager
def running(command: Sequence[str], task: Task) -> Iterator[Process]:
    """`command` as a process with `task` as its last argument. It is gone, killed, when the block ends."""
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    read_end, write_end = os.pipe()
    popen = None
    try:
        try:
            with log.open("ab") as out, signals_held():
                # A session of its own: Ctrl-C in the terminal is for us, who end it.
                popen = subprocess.Popen(
                    [*command, json.dumps(asdict(task))],
                    stdin=read_end,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    start_new_session=True,
                )
        except OSError as error:
            raise ContenderError(f"{task.name}: {command[0]} could not be started: {error}") from error
        finally:
            os.close(read_end)
        yield Process(task.name, popen.pid, log, popen)
    finally:
        if popen is not None:
            popen.kill()
            popen.wait()
        os.close(write_end)


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals that end the program wait until the block is over: a process that has just begun is known by then."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        # Python tells the main thread alone of signals.
        yield
        return
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in came[:1]:
            signal.raise_signal(first)


def last_lines(log: Path) -> str:
    """What the process said last."""
    lines = log.read_text(errors="replace").strip().splitlines()[-8:]
    return "Its last lines:\n" + "\n".join(lines) if lines else "It said nothing."
