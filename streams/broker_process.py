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

from streams.broker_folder import BrokerError, BrokerFolder, Notice, ProcessRecord
from streams.java import java_environment

_GUARD = Path(__file__).with_name("broker_guard.py")
_POLL_S = 0.02
_KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Spawned:
    """A process just started: its pid, its guard (our child), and our end of the guard's pipe."""

    pid: int
    guard: subprocess.Popen[bytes]
    pipe: int


def spawn(command: Sequence[str], folder: BrokerFolder, *, attached: bool) -> Spawned:
    """Start a process under a guard that ends it when its owners are gone; we are the first (see `broker_guard`).

    Attached, others can become owners through the named pipe. Detached, the process is let go by `release`. Either
    way it has a session of its own: Ctrl-C in the terminal is for us, who then stop the broker in our order.
    """
    read_end, write_end = _named_pipe(folder) if attached else os.pipe()
    guard = None
    try:
        with folder.console.open("wb") as console:
            guard = subprocess.Popen(
                # Isolated and without site packages: it starts in 20 ms and imports nothing of ours.
                [
                    *(sys.executable, "-I", "-S", str(_GUARD)),
                    *("attached" if attached else "detached", str(read_end), str(folder.root)),
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=console,
                cwd=folder.root,
                env=java_environment(),
                start_new_session=True,
                pass_fds=(read_end,),
            )
        assert guard.stdout is not None
        with guard.stdout as answer:
            pid = int(answer.readline() or 0)
        if not pid:
            raise BrokerError(f"the broker's guard did not start its command; see {folder.console}")
    except BaseException:
        # The last writer gone, the guard ends what it may have started.
        os.close(write_end)
        if guard is not None:
            guard.wait()
        raise
    finally:
        os.close(read_end)
    return Spawned(pid, guard, write_end)


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


def release(guard: subprocess.Popen[bytes], pipe: int) -> None:
    """Let a detached process go on alone: its guard leaves, and it survives us. Closes the pipe."""
    # A guard whose process has just died is gone too.
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, b".")
    os.close(pipe)
    guard.wait()


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
    # proc_pid_stat(5): the second field, in parentheses, may hold anything; state is the third, start the 22nd.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    # The start is counted from the boot, so the boot belongs to it.
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text(encoding='ascii').strip() if boot.exists() else ''}/{fields[19]}"


def _started_at_by_ps(pid: int) -> str | None:
    """The same where there is no /proc (macOS), in whole seconds."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, start = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else start.strip()


def is_alive(record: ProcessRecord) -> bool:
    """Whether the recorded process runs; another process under the same pid does not count."""
    return started_at(record.pid) == record.started


def resident_bytes(pid: int) -> int | None:
    """The process's memory in RAM; None where /proc does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return None


def end(record: ProcessRecord, *, timeout_s: float, notice: Notice) -> None:
    """SIGTERM, then SIGKILL when the process has not ended in time, saying so. Raises `BrokerError`."""
    _signal(record, signal.SIGTERM)
    if _gone_within(record, timeout_s):
        return
    notice(f"the broker (pid {record.pid}) did not end within {timeout_s:g} s of SIGTERM: killing it")
    _signal(record, signal.SIGKILL)
    if not _gone_within(record, _KILL_TIMEOUT_S):
        raise BrokerError(
            f"the broker (pid {record.pid}) does not end even on SIGKILL: it hangs in the kernel"
        )


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    try:
        if is_alive(record):
            os.kill(record.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise BrokerError(
            f"the broker (pid {record.pid}) belongs to another user: stop it as that user"
        ) from error


def _gone_within(record: ProcessRecord, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while is_alive(record):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
