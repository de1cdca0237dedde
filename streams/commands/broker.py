"""`midstream broker …`: arguments -> the embedded broker started, stopped, asked; lines for people.

Standard output holds the answer alone (an address, JSON); progress and notices go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console

from streams.broker import Broker, BrokerError, BrokerStatus, connect
from streams.embedded.java import java_environment
from streams.embedded.kafka_jars import KAFKA_VERSION, Progress
from streams.embedded.launch import java_command
from streams.exits import EXIT_MISTAKE, EXIT_UNAVAILABLE
from streams.settings import SettingsError, load_settings

EXIT_NOT_RUNNING = 3
EXIT_NOT_ANSWERING = 4
EXIT_INTERRUPTED = 130

_CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"

app = App(name="broker", help="The embedded broker: a real Apache Kafka on this machine, one KRaft node.")

Data = Annotated[
    Path | None, Parameter(name="--data", help="The broker's folder; default the user's data folder.")
]
Port = Annotated[
    int | None,
    Parameter(
        validator=Number(gte=0, lte=65535),
        help="The clients' port; 0 for any free one; default the last one.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


@app.command
def start(
    *,
    data: Data = None,
    port: Port = None,
    as_json: Json = False,
) -> int:
    """Start the broker and print its address; it runs until it is stopped.

    Exit code 0: it answers (also if it ran already). 69: it did not start.
    """
    console = Console(stderr=True, highlight=False)
    with _errors(console):
        other = load_settings().bootstrap
        broker = Broker(data, port=port, notice=lambda line: _say(console, line))
        status = broker.status()
        if status.state == "running":
            _say(console, f"it was started before: {status.detail}")
        else:
            with _terminated_like_interrupted(), jar_progress(console) as progress:
                status = broker.start(progress=progress)
            _say(
                console,
                f"Apache Kafka {KAFKA_VERSION} is ready (pid {status.pid}); data and log in {status.data}",
            )
        if other is not None:
            _say(console, f"KAFKA_BOOTSTRAP is set: the other commands use {other}, not this broker")
        print(_as_json(status) if as_json else status.bootstrap)
        return 0


@app.command
def stop(*, data: Data = None, as_json: Json = False) -> int:
    """Stop the broker, and wait until it has ended.

    Exit code 0: it is not running now (also if it was not before). 69: it could not be stopped.
    """
    console = Console(stderr=True, highlight=False)
    with _errors(console):
        broker = Broker(data, notice=lambda line: _say(console, line))
        stopped = broker.stop()
        _say(console, "stopped" if stopped else f"no broker is running in {broker.folder.root}")
        if as_json:
            print(_as_json(broker.status()))
        return 0


@app.command
def status(*, data: Data = None, as_json: Json = False) -> int:
    """Say whether the broker runs and answers.

    Exit code 0: it answers. 3: it does not run. 4: its process runs but does not answer.
    """
    console = Console(stderr=True, highlight=False)
    with _errors(console):
        known = Broker(data).status()
        if as_json:
            print(_as_json(known))
        elif known.rss_bytes is not None:
            print(f"{known.detail}, {known.rss_bytes // 2**20} MB, data in {known.data}")
        else:
            print(f"{known.detail} (data in {known.data})")
        return {"running": 0, "unresponsive": EXIT_NOT_ANSWERING}.get(known.state, EXIT_NOT_RUNNING)


@app.command
def console_consumer(
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    data: Data = None,
) -> int:
    """Run Kafka's own console consumer against the broker in use; what follows `--` is passed on.

    Example: midstream broker console-consumer -- --topic flights.actions --from-beginning
    """
    console = Console(stderr=True, highlight=False)
    with _errors(console):
        settings = connect(load_settings(), data)
        if settings.security_protocol != "PLAINTEXT" and "--command-config" not in arguments:
            # Passwords have no place in a command line, which every user of the machine can read.
            raise SettingsError(
                f"KAFKA_SECURITY_PROTOCOL is {settings.security_protocol}: write Kafka's client properties to a file"
                " and pass -- --command-config FILE"
            )
        with jar_progress(console, "starting the console consumer") as progress:
            java = java_command(tools=True, progress=progress)
        command = [*java, _CONSOLE_CONSUMER, "--bootstrap-server", str(settings.bootstrap), *arguments]
        sys.stdout.flush()
        # In our place, not under us: signals, exit code and pipes are then the consumer's own.
        os.execve(command[0], command, java_environment())  # noqa: S606 - no shell is what is wanted


@contextlib.contextmanager
def jar_progress(console: Console, doing: str = "starting Kafka") -> Iterator[Progress]:
    """The `progress` to give to `Broker.start`: a spinner on a terminal, and a line if jars were fetched."""
    with console.status(doing) as shown:

        def progress(done: int, total: int, name: str) -> None:
            shown.update(f"fetching Kafka {KAFKA_VERSION}: {done} of {total} jars")
            if done == total:
                _say(console, f"fetched what was missing of Kafka {KAFKA_VERSION} (jars: {total})")
                shown.update(doing)

        yield progress


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM and a closed terminal end a start as Ctrl-C does: with nothing left behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _errors(console: Console) -> Iterator[None]:
    """Say what failed in one line, after the log's last lines if the broker itself failed, and exit."""
    # What a client says of a broker that does not answer is said by the command itself.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        yield
    except BrokerError as error:
        for line in error.log_tail:
            _say(console, f"  {line}", style="dim")
        _say(console, f"error: {error}", style="red")
        raise SystemExit(EXIT_UNAVAILABLE) from None
    except SettingsError as error:
        _say(console, f"error: {error}", style="red")
        raise SystemExit(EXIT_MISTAKE) from None
    except KeyboardInterrupt:
        _say(console, "interrupted: no process was left behind")
        raise SystemExit(EXIT_INTERRUPTED) from None


def _say(console: Console, line: str, style: str | None = None) -> None:
    """One line as it is: paths and Kafka's own words are neither markup nor to be broken."""
    console.print(line, style=style, markup=False, soft_wrap=True)


def _as_json(status: BrokerStatus) -> str:
    return json.dumps({name: str(v) if isinstance(v, Path) else v for name, v in asdict(status).items()})
