"""Keeps worker processes running: commands come in; processes that are started, watched, started again and ended.

A worker ends itself rather than do something wrong; what that costs is the time until somebody starts it again. It
is started under the same name with the same databases, so its partitions and rows are still its own. Workers hold the
reading end of a pipe that the kernel closes when their supervisor is gone, however it went.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from streams.exits import EXIT_DIED, EXIT_MISTAKE, EXIT_UNAVAILABLE
from streams.health import Health, Restore

LOOK_S = 0.2
# Before the first, second, third … restart in a row.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
# Having run and moved for so long, a worker has recovered: its next end is a new story.
STEADY_S = 30.0
# A worker tells its health every second. One that has said nothing for so many looks is stopped, as by SIGSTOP: its
# partitions have moved on, and it holds its databases. Looks and not time: a machine that slept has missed none.
SILENT_LOOKS = 150
# A worker that was told to stop ends itself within twenty seconds.
STOP_TIMEOUT_S = 25.0
# So many ends in a row, none of which the pause before it has mended.
FAILING = 5


class WorkerError(Exception):
    """A worker cannot run, and starting it again will not help; the message says why."""

    def __init__(self, message: str, code: int) -> None:
        """Say why, and with which code the worker ended."""
        super().__init__(message)
        self.code = code


@dataclass
class Charge:
    """One worker process under supervision.

    `command` must be `midstream worker … --attached --json`: it ends with its standard input and tells its health.
    """

    name: str
    command: Sequence[str]
    # One line for people about it, and each line that it says.
    notice: Callable[[str], None]
    said: Callable[[str], None]
    environment: Mapping[str, str] | None = None
    # Failures in a row after which it is hopeless; None: never.
    give_up: int | None = None
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    health: Health | None = None
    last_words: str = ""
    # It has run lanes before: what is missing now was there, and will be again.
    proven: bool = False
    _failures: int = 0
    _steady_since_s: float | None = None
    _due_s: float = 0.0
    _silent: int = 0
    _readers: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start the process."""
        self.health, self._steady_since_s, self._silent, self.last_words = None, None, 0, ""
        # A session of its own: Ctrl-C in the terminal is for the supervisor, which then stops it.
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=None if self.environment is None else dict(self.environment),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._hear, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._relay, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _hear(self, told: IO[bytes]) -> None:
        """Take in what it says of its health."""
        for line in told:
            self.health = health_of(line)
            self._silent = 0
            self.proven = self.proven or self.health.ready

    def _relay(self, said: IO[bytes]) -> None:
        """Pass on what it says to people, and remember the last of it."""
        for raw in said:
            line = raw.decode(errors="replace").rstrip("\n")
            if line.strip():
                self.last_words = line
            self.said(line)

    def look(self, now_s: float) -> None:
        """Start it again when it has ended and its time has come; end it when it has fallen silent.

        Raises:
            WorkerError: it has ended and a restart does not mend it.
        """
        if self.process is None:
            if now_s >= self._due_s:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            self._watch(now_s)
            return
        self._bury()
        self._failures += code not in (0, -signal.SIGTERM)
        reason = f"{self.name} {ending(code)}" + (
            f": {self.last_words}" if code > 0 and self.last_words else ""
        )
        hopeless = code == EXIT_MISTAKE or (code == EXIT_UNAVAILABLE and not self.proven)
        if hopeless or (self.give_up is not None and self._failures > self.give_up):
            raise WorkerError(reason, code)
        pause_s = pause(self._failures)
        self.notice(f"{reason}; starting it again" + (f" in {pause_s:g} s" if pause_s else ""))
        self.restarts += 1
        self._due_s = now_s + pause_s
        if not pause_s:
            self.start()

    def _watch(self, now_s: float) -> None:
        """Forget old failures once it is steady; kill it once it is silent."""
        if self.health is None or self.health.status != "running":
            self._steady_since_s = None
        elif self._steady_since_s is None:
            self._steady_since_s = now_s
        elif now_s - self._steady_since_s >= STEADY_S:
            self._failures = 0
        # While it loads it has nothing to say yet.
        if self.health is not None:
            self._silent += 1
        if self._silent > SILENT_LOOKS and self.process is not None:
            self._silent = 0
            self.notice(f"{self.name} has said nothing for {SILENT_LOOKS * LOOK_S:g} s; killing it")
            self.process.kill()

    @property
    def failing(self) -> bool:
        """Whether it ends again and again."""
        return self._failures >= FAILING

    def ended(self) -> bool:
        """Whether no process of it runs."""
        return self.process is None or self.process.poll() is not None

    def _bury(self) -> None:
        """It has ended: hear its last words, let go of its pipes."""
        assert self.process is not None
        self._let_go()
        for reader in self._readers:
            reader.join(2.0)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process, self.health = None, None

    def _let_go(self) -> None:
        """Close our end of its standard input: a living worker stops at that."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def ask_to_stop(self) -> None:
        """Tell it to finish the batches in flight and end; also when it does not listen for signals yet."""
        self._let_go()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """Wait until it has ended; what has not after `timeout_s` is killed. Returns its exit code, if it ran."""
        if self.process is None:
            return None
        self.ask_to_stop()
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.notice(f"{self.name} did not stop within {timeout_s:g} s and was killed")
            self.process.kill()
            code = self.process.wait()
        self._bury()
        return code

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()


class Supervisor:
    """Several charges, until a signal ends them all."""

    def __init__(self, charges: Sequence[Charge], notice: Callable[[str], None]) -> None:
        """Watch over `charges`; lines for people go to `notice`."""
        self.charges, self.notice = charges, notice
        self._signals = 0

    def run(self) -> int:
        """Start all; SIGINT, SIGTERM or SIGHUP stops them after their batches in flight, a second one kills them.

        Returns the exit code: 0, or 70 when one had to be killed.

        Raises:
            WorkerError: one of them cannot run; the others have been stopped.
        """
        heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [(number, signal.signal(number, self._on_signal)) for number in heard]
        try:
            while not self._signals:
                now_s = time.monotonic()
                for charge in self.charges:
                    charge.look(now_s)
                time.sleep(LOOK_S)
            self.notice("stopping after the batches in flight")
            return self._stop()
        except WorkerError:
            self._stop()
            raise
        finally:
            for charge in self.charges:
                charge.kill()
            for number, handler in before:
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1

    def _stop(self) -> int:
        """Stop all of them side by side."""
        for charge in self.charges:
            charge.ask_to_stop()
        asked, deadline = self._signals, time.monotonic() + STOP_TIMEOUT_S
        while not all(charge.ended() for charge in self.charges):
            if self._signals > max(asked, 1) or time.monotonic() > deadline:
                break
            time.sleep(LOOK_S / 4)
        codes = [charge.stop(0.0) for charge in self.charges]
        # A signal that came before it could be heard ends a worker that has done nothing yet.
        return 0 if all(code in (None, 0, -signal.SIGTERM) for code in codes) else EXIT_DIED


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def pause(failures: int) -> float:
    """Seconds before the restart after so many failures in a row."""
    return 0.0 if failures <= 0 else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))


def health_of(line: bytes) -> Health:
    """The health that a worker told in a line of JSON."""
    told = json.loads(line)
    restore = told.pop("restore")
    return Health(**told, restore=None if restore is None else Restore(**restore))


def together(charges: Sequence[Charge]) -> Health:
    """The health of all of them: the worst of it, and the sum of the rest. One that is not there is waited for."""
    found = [(charge.name, charge.health) for charge in charges]
    present = [health for _, health in found if health is not None]
    restores = [health.restore for health in present if health.restore is not None]
    statuses = {"waiting" if health is None else health.status for _, health in found}
    worst = next(status for status in ("stalled", "waiting", "restoring", "running") if status in statuses)
    reasons = [f"{name}: {health.reason}" for name, health in found if health is not None and health.reason]
    # One that ends again and again commits nothing: that is no progress either.
    failing = [charge for charge in charges if charge.failing]
    reasons += [f"{charge.name} ends again and again: {charge.last_words}" for charge in failing]
    restore = None
    if restores:
        etas = [each.eta_s for each in restores if each.eta_s is not None]
        restore = Restore(
            sum(each.records for each in restores),
            sum(each.total_records for each in restores),
            sum(each.records_per_s for each in restores),
            max(etas, default=None),
        )
    return Health(
        "stalled" if failing else worst,
        "; ".join(reasons),
        sum(health.lanes for health in present),
        sum(health.lag for health in present),
        sum(health.commits for health in present),
        restore,
    )
