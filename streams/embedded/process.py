"""A command -> a running process: started detached or under a guard, recognised by pid and start time, ended."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streams.embedded.folder import BrokerError, BrokerFolder, Notice, Process
from streams.embedded.java import java_environment

_GUARD = Path(__file__).with_name("guard.py")
_POLL_S = 0.02
_KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Spawned:
    """A process just started, its guard, and our end of the guard's pipe."""

    process: Process
    guard: Process
    pipe: int


def spawn(command: Sequence[str], folder: BrokerFolder, lock: int, *, attached: bool) -> Spawned:
    """Start a process under a guard that ends it when its owners are gone; we are the first (see `embedded.guard`).

    Attached, others can become owners through the named pipe. Detached, the process is let go by `release`. Either
    way it has a session of its own: Ctrl-C in the terminal is for us, who then stop the broker in our order. It
    inherits `lock`, a descriptor of the folder's locked file.
    """
    read_end, write_end = _named_pipe(folder) if attached else os.pipe()
    try:
        with folder.console.open("wb") as console:
            # Isolated and without site packages: it starts in 20 ms and imports nothing of ours.
            answer = subprocess.run(
                [
                    *(sys.executable, "-I", "-S", str(_GUARD)),
                    *("attached" if attached else "detached", str(read_end), str(lock), str(folder.root)),
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=console,
                cwd=folder.root,
                env=java_environment(),
                start_new_session=True,
                pass_fds=(read_end, lock),
                check=False,
            ).stdout.split()
        if len(answer) != 2:
            raise BrokerError(f"the broker's guard did not start its command; see {folder.console}")
    except BaseException:
        # The last writer gone, the guard ends what it may have started.
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    guard, process = (Process(int(pid), started_at(int(pid)) or "gone") for pid in answer)
    return Spawned(process, guard, write_end)


def _named_pipe(folder: BrokerFolder) -> tuple[int, int]:
    folder.owners.unlink(missing_ok=True)
    os.mkfifo(folder.owners, 0o600)
    # In this order neither blocks: a reader may open alone if it asks not to wait, a writer only once there is one.
    read_end = os.open(folder.owners, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return read_end, os.open(folder.owners, os.O_WRONLY)
    except BaseException:
        os.close(read_end)
        raise


def release(pipe: int) -> None:
    """Let a detached process go on alone: its guard leaves, and it survives us. Closes the pipe."""
    # A guard whose process has just died is gone too.
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, b".")
    os.close(pipe)


def join_owners(folder: BrokerFolder) -> int:
    """Become one more owner of the attached broker of this folder: the descriptor to hold open."""
    try:
        return os.open(folder.owners, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            raise BrokerError(f"no attached broker is running in {folder.root}") from error
        raise


def started_at(pid: int) -> str | None:
    """When the process started, in a form to compare; None if it is gone (or a zombie, which is as good as gone)."""
    if not Path("/proc/self/stat").exists():
        return _started_at_by_ps(pid)
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc_pid_stat(5): the second field, in parentheses, may hold anything; the rest begins with the third.
    fields = stat.rpartition(")")[2].split()
    state, threads, started = fields[3 - 3], int(fields[20 - 3]), fields[22 - 3]
    # While other threads are still ending, so is the process: it holds its files.
    if state in "ZX" and threads <= 1:
        return None
    # The start is counted from the boot, so the boot belongs to it.
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text(encoding='ascii').strip() if boot.exists() else ''}/{started}"


def _started_at_by_ps(pid: int) -> str | None:
    """The same where there is no /proc (macOS), in whole seconds."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, start = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else start.strip()


def is_alive(process: Process) -> bool:
    """Whether the process runs; another one under the same pid does not count."""
    return started_at(process.pid) == process.started


def resident_bytes(pid: int) -> int | None:
    """The process's memory in RAM; None where /proc does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return None


def end(process: Process, *, timeout_s: float, notice: Notice) -> None:
    """SIGTERM, then SIGKILL when the process has not ended in time, saying so. Raises `BrokerError`."""
    _signal(process, signal.SIGTERM)
    if gone_within(process, timeout_s):
        return
    notice(f"the broker (pid {process.pid}) did not end within {timeout_s:g} s of SIGTERM: killing it")
    _signal(process, signal.SIGKILL)
    if not gone_within(process, _KILL_TIMEOUT_S):
        raise BrokerError(
            f"the broker (pid {process.pid}) does not end even on SIGKILL: it hangs in the kernel"
        )


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        if is_alive(process):
            os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise BrokerError(
            f"the broker (pid {process.pid}) belongs to another user: stop it as that user"
        ) from error


def gone_within(process: Process, timeout_s: float) -> bool:
    """Wait for the end of the process; False if it did not come in time."""
    deadline = time.monotonic() + timeout_s
    while is_alive(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
