"""A command and a pipe -> the command runs, and is ended when the last holder of the pipe is gone, however it went.

Run as a script: `embedded.guard.py attached|detached PIPE_FD LOCK_FD DATA COMMAND…`. It imports nothing of the project,
so that it starts in milliseconds. Its owners hold the pipe's writing end; the kernel closes it for whoever dies, even
of SIGKILL, and when the last end closes the read below returns. A detached command is released by one byte once it is
ready: the guard leaves and the command goes on alone.

A parent-death signal (Linux) to the command straight from its owner would not do: it fires when the *thread* that
started the broker ends, and only one owner could have it. It is used one step further down, where parent and thread
are this script's: if the guard itself is killed, so is an attached command.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Kafka's controlled shutdown of one node takes half a second; what takes this long will not end by itself.
_TERMINATE_TIMEOUT_S = 20


def main(mode: str, pipe: int, lock: int, data: Path, command: list[str]) -> int:
    """Run the command until it ends, its owners are gone, or it is released.

    The one line of output is our pid and the command's.
    """
    # Nobody's child: whoever started us has nothing to wait for, and nothing to leave as a zombie.
    if os.fork():
        return 0
    bound = mode == "attached" and sys.platform == "linux"
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=(lock,),
        preexec_fn=_die_with_parent if bound else None,  # noqa: PLW1509 - there is one thread here yet
    )
    # The folder is the command's from now on.
    os.close(lock)
    print(os.getpid(), process.pid, flush=True)
    # Nothing more is said there: the reader waits for its end.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    abandoned = threading.Event()
    threading.Thread(target=_watch, args=(pipe, data, process, abandoned), daemon=True).start()
    code = process.wait()
    if abandoned.is_set() and code != -signal.SIGKILL:
        _forget(data / "broker.pid", process.pid)
    return code


def _forget(record: Path, pid: int) -> None:
    """An orderly end: the next start must not take it for a crash. It may even have written its own record by now."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(record.read_text(encoding="utf-8"))["pid"] == pid:
            record.unlink()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(pipe: int, data: Path, process: subprocess.Popen[bytes], abandoned: threading.Event) -> None:
    os.set_blocking(pipe, True)
    if os.read(pipe, 1):
        os._exit(0)
    # Nobody can join from here on; who joined between the two reads is waited for.
    (data / "owners").unlink(missing_ok=True)
    os.read(pipe, 1)
    abandoned.set()
    process.terminate()
    try:
        process.wait(_TERMINATE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:]))
