"""A contender is gone when its block ends, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import contender
from benchmarks.contender import ContenderError, Task, running

# It has no use for its task.
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def task(folder: Path) -> Task:
    return Task("sleeper", "kafka", "events", "in", "out", 1, 1, str(folder))


@pytest.mark.parametrize("number", contender.STOPS)
def test_a_signal_that_comes_while_it_starts_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    class Struck(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            begun.append(self)
            # To this thread, at once: another one might be told, and later.
            signal.raise_signal(number)

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Struck)
    before = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt), running(SLEEPER, task(tmp_path)):
            pytest.fail("the block must not begin")
    finally:
        signal.signal(number, before)
    assert [each.returncode for each in begun] == [-signal.SIGKILL]


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with (
        pytest.raises(ContenderError, match=f"sleeper: {missing} could not be started"),
        running([missing], task(tmp_path)),
    ):
        pytest.fail("the block must not begin")
