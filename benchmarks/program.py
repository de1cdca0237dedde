"""What every benchmark is as a program: words on the command line, progress on standard error, a broker and a folder
under it, and an end in order, however it ends.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka.errors import KafkaError

from benchmarks.broker import broker
from benchmarks.contender import STOPS, ContenderError
from benchmarks.probe import ProbeError
from streams.broker import BrokerError
from streams.exits import EXIT_UNAVAILABLE
from streams.settings import KafkaSettings, SettingsError

EXIT_INTERRUPTED = 130


def command_line(name: str, about: str | None, plots: bool = True) -> argparse.ArgumentParser:
    """The command line of `benchmarks.<name>`: what all of them take. `about` is its module's docstring."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=(about or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    if plots:
        parser.add_argument("--plot", type=Path, help="also draw the figures, as SVG, in this folder")
    return parser


def positive(text: str) -> int:
    """A count from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {number}")
    return number


def say(text: str) -> None:
    """Progress, for a person."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def grounds() -> Iterator[tuple[KafkaSettings, Path]]:
    """A broker and an empty folder for the block; afterwards the folder is gone, and the broker if it is ours."""
    with (
        tempfile.TemporaryDirectory(prefix="midstream-bench-", ignore_cleanup_errors=True) as folder,
        broker(Path(folder, "broker")) as settings,
    ):
        yield settings, Path(folder)


def run(name: str, measure: Callable[[], int]) -> int:
    """Measure; returns the exit code. To be told to stop is to be interrupted: what was started is ended first."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        return measure()
    except KeyboardInterrupt:
        say(f"benchmarks.{name}: stopped")
        return EXIT_INTERRUPTED
    except (ProbeError, ContenderError, TimeoutError) as error:
        say(f"benchmarks.{name}: {error}")
        return 1
    except (BrokerError, SettingsError, KafkaError) as error:
        say(f"benchmarks.{name}: {error}")
        return EXIT_UNAVAILABLE
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
