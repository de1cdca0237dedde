"""Every benchmark ends in order: a line that says why, an exit code of its own, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contender import ContenderError
from benchmarks.program import EXIT_INTERRUPTED, command_line, grounds, run
from streams.broker import BrokerError
from streams.settings import KafkaSettings

ROOT = Path(__file__).parents[2]
# Name → what keeps it from making environments first.
PROGRAMS = {
    "latency": [],
    "scale": [],
    "restore": [],
    "soak": [],
    "throughput": ["--contenders=midstream_eos"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_broker_that_is_not_there_is_one_line_and_its_own_exit_code(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json", *PROGRAMS[name]],
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 69
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"benchmarks.{name}: ")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContenderError("it ended"), 1),
        (TimeoutError("it takes too long"), 1),
        (BrokerError("no Java"), 69),
        (KeyboardInterrupt(), EXIT_INTERRUPTED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_has_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure() -> int:
        raise error

    assert run("this", measure) == code
    assert capsys.readouterr().err == f"benchmarks.this: {str(error) or 'stopped'}\n"


def test_a_mistake_of_ours_is_a_traceback() -> None:
    def measure() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("this", measure)


def test_the_command_line_has_what_all_have() -> None:
    asked = command_line("this", "What it measures.\n\nMore.").parse_args(["--json", "--plot", "images"])
    assert (asked.json, asked.plot) == (True, Path("images"))
    assert "What it measures." in command_line("this", "What it measures.\n\nMore.").format_help()


@pytest.mark.broker
def test_the_folder_is_gone_afterwards_and_a_broker_that_was_named_is_not(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", str(kafka.bootstrap))
    with grounds() as (settings, home):
        (home / "file").touch()
        assert settings.bootstrap == kafka.bootstrap
    assert not home.exists()
