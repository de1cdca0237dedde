"""Ends a process whose event loop has stood still: a function of the author that never returns stops every lane, and
nothing that runs in the loop could tell. Looks come in from a thread of its own; one line and an exit code go out.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from streams.exits import die
from streams.topics import EVENTS
from streams.topology import EntityLane

LOOK_S = 1.0
# Where a lane looks at one record: its frame knows which.
STEP = EntityLane.step.__code__
# Frames of these folders are ours or a library's; the innermost other one is the author's.
OURS = frozenset(str(Path(__file__).parents[1] / name) for name in ("streams", "agents", "tables", "schemas"))


class Where(NamedTuple):
    """Where a thread stands: the author's function, if one runs, and the record it was given."""

    function: str
    record: str


class Watchdog:
    """Watches the loop of one process."""

    def __init__(self, name: str, limit_s: float) -> None:
        """End the process when the loop of `name` has not turned for `limit_s`."""
        self.name, self.limit_s = name, limit_s
        self._turns = 0
        self._thread = threading.main_thread().ident

    async def turn(self) -> None:
        """Count the loop's turns, for ever."""
        self._thread = threading.get_ident()
        while True:
            self._turns += 1
            await asyncio.sleep(LOOK_S)

    def watch(self) -> None:
        """Look, for ever. Counts looks and not time: a process that was stopped and goes on has missed none."""
        seen, looks = self._turns, 0
        while True:
            time.sleep(LOOK_S)
            if self._turns != seen or not self._turns:
                seen, looks = self._turns, 0
                continue
            looks += 1
            if looks * LOOK_S >= self.limit_s:
                frame = sys._current_frames().get(self._thread or 0)  # noqa: SLF001 - documented, for just this
                die(f"{self.name}: {describe(where(frame), looks * LOOK_S)}")


def describe(at: Where, seconds: float) -> str:
    """What stands still, in words."""
    about = f" on {at.record}" if at.record else ""
    return (
        f"{at.function} has not returned for {seconds:g} s{about}, so nothing was committed. A restart meets the same "
        f"record again: mend the function first."
    )


def where(frame: FrameType | None) -> Where:
    """The innermost function outside of Midstream's folders and Python's own, and the record of the lane's step."""
    function, record, innermost = "", "", "the event loop"
    while frame is not None:
        code = frame.f_code
        name = f"{code.co_qualname} ({Path(code.co_filename).name}:{frame.f_lineno})"
        if innermost == "the event loop":
            innermost = name
        if not function and is_authors(code.co_filename):
            function = name
        if not record and code is STEP:
            lane, read = frame.f_locals["self"], frame.f_locals["record"]
            record = f"{EVENTS}/{lane.partition} offset {read.offset}"
        frame = frame.f_back
    return Where(function or innermost, record)


def is_authors(filename: str) -> bool:
    """Whether code of `filename` is the pipeline author's: not ours, not installed, not Python's."""
    if filename.startswith("<") or "site-packages" in filename:
        return False
    if filename.startswith((sys.base_prefix, sys.prefix)):
        return False
    return not any(filename.startswith(folder) for folder in OURS)
