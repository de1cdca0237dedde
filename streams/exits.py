"""How a process ends when it must not go on: one line that says why, and an exit code that says what kind."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

# sysexits.h: EX_SOFTWARE. The worker stopped itself before it could do something wrong; restart it.
EXIT_DIED = 70
# EX_CONFIG. A mistake in the pipeline or the settings; a restart does not help.
EXIT_MISTAKE = 78
# EX_UNAVAILABLE. Kafka or another service is not there.
EXIT_UNAVAILABLE = 69


def die(reason: str, error: BaseException | None = None) -> NoReturn:
    """End the process at once, without a commit: the next owner of the lanes takes over from the last one.

    `os._exit` and not `sys.exit`: nothing may run that could still write, not even a finally.
    """
    if error is not None:
        traceback.print_exception(error, file=sys.stderr)
    print(f"midstream: stopped: {reason}", file=sys.stderr, flush=True)
    os._exit(EXIT_DIED)
