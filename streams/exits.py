"""How a process ends when it must not go on: one line that says why, and an exit code that says what kind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import NoReturn

# sysexits.h: EX_SOFTWARE. The worker stopped itself before it could do something wrong; restart it.
EXIT_DIED = 70
# EX_CONFIG. A mistake in the pipeline or the settings; a restart does not help.
EXIT_MISTAKE = 78
# EX_UNAVAILABLE. Kafka or another service is not there.
EXIT_UNAVAILABLE = 69


def say(line: str) -> None:
    """Tell whoever runs the process what it has done on its own about something that was wrong; it goes on."""
    with contextlib.suppress(OSError):
        print(f"midstream: {line}", file=sys.stderr, flush=True)


def die(reason: str, error: BaseException | None = None, code: int = EXIT_DIED) -> NoReturn:
    """End the process at once, without a commit: the next owner of the lanes takes over from the last one.

    `os._exit` and not `sys.exit`: nothing may run that could still write, not even a finally.
    """
    # Whoever listened may be gone: that must not keep it from ending.
    with contextlib.suppress(OSError):
        if error is not None:
            traceback.print_exception(error, file=sys.stderr)
        print(f"midstream: stopped: {reason}", file=sys.stderr, flush=True)
    os._exit(code)


def stop_with_stdin() -> None:
    """Wait until standard input closes, then stop this process as SIGTERM does: who started it is gone."""
    # Not by `sys.stdin`: at its end Python aborts when a thread still holds the lock of that buffer.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
