"""`midstream worker PIPELINE`: a pipeline file comes in; one worker, or several supervised ones, run until stopped."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from pydantic_core import to_json

from streams.commands.shared import PipelineFile, note, plan_of
from streams.exits import stop_with_stdin
from streams.plan import Plan
from streams.settings import SettingsError
from streams.where import clients, state_home

if TYPE_CHECKING:
    from streams.health import Health
    from streams.supervisor import Charge

app = App(name="worker")


@dataclass(frozen=True)
class Choice:
    """How to run."""

    playback: Annotated[
        bool, Parameter(negative="", help="Time comes from the publisher's clock, not from the wall.")
    ] = False
    home: Annotated[Path | None, Parameter(help="Where the local databases are kept.")] = None
    metrics_port: Annotated[
        int,
        Parameter(
            validator=Number(gte=0, lte=65535),
            help="/metrics, /healthz, /readyz on loopback; 0: none. With --processes, worker K has this port + K.",
        ),
    ] = 0
    instance: Annotated[
        str | None, Parameter(help="A fixed name: a restart under it keeps its partitions.")
    ] = None
    attached: Annotated[
        bool, Parameter(negative="", help="Stop when standard input closes, so with whoever started it.")
    ] = False
    processes: Annotated[
        int | None,
        Parameter(validator=Number(gte=1, lte=256), help="Supervise so many workers, and restart what ends."),
    ] = None
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="Tell the health each second as a line of JSON.")
    ] = False


@app.default
def worker(pipeline: PipelineFile, /, choice: Annotated[Choice | None, Parameter(name="*")] = None) -> int:
    """Run a pipeline until SIGINT (Ctrl-C), SIGTERM or SIGHUP; it then finishes the batches in flight.

    Exit code 0: it was stopped. 70: it stopped itself rather than do something wrong; start it again. 69: Kafka is
    not there. 78: a mistake in the pipeline, its topics or the settings; starting it again does not help.
    """
    chosen = choice or Choice()
    plan = plan_of(pipeline)
    try:
        return alone(plan, chosen) if chosen.processes is None else several(plan, pipeline, chosen)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SettingsError(
            f"--metrics-port {chosen.metrics_port} is taken: choose another, or 0 for none"
        ) from error


def alone(plan: Plan, choice: Choice) -> int:
    """Run the lanes in this process."""
    where = clients()
    # Only now: Faust, RocksDB and the rest take half a second to load.
    from streams.worker import WorkerConfig, run_worker

    config = WorkerConfig(
        where,
        (choice.home or state_home()).absolute(),
        playback=choice.playback,
        metrics_port=choice.metrics_port or None,
        instance=choice.instance,
        attached=choice.attached,
        opened=lambda count: note(f"{plan.name}: ready, {count} lanes run on {where['bootstrap_servers']}"),
        notice=note,
        report=tell if choice.as_json else None,
    )
    run_worker(plan, config)
    return 0


def tell(health: Health) -> None:
    """A worker's health as a line of JSON. Whoever read it may be gone; the worker is told so by other means."""
    with contextlib.suppress(OSError):
        sys.stdout.write(to_json(asdict(health)).decode() + "\n")
        sys.stdout.flush()


def several(plan: Plan, pipeline: Path, choice: Choice) -> int:
    """Supervise workers with fixed names and databases in one folder.

    Raises:
        SettingsError: another supervisor has their names.
    """
    from streams import health, metrics, supervisor

    home = (choice.home or state_home()).absolute()
    prefix = choice.instance or default_prefix(home)
    charges = [charge(plan, pipeline, choice, home, prefix, k) for k in range(1, (choice.processes or 1) + 1)]
    with only_one(home, plan.name, prefix):
        if choice.metrics_port:
            pages = health.pages(lambda: supervisor.together(charges))
            shown = metrics.restarts(lambda: {each.name: each.restarts for each in charges})
            metrics.serve(choice.metrics_port, shown, pages)
        if choice.attached:
            threading.Thread(target=stop_with_stdin, daemon=True).start()
        try:
            return supervisor.Supervisor(charges, lambda line: note(f"{plan.name}: {line}")).run()
        except supervisor.WorkerError as error:
            note(f"midstream: {error}")
            return error.code


def charge(plan: Plan, pipeline: Path, choice: Choice, home: Path, prefix: str, number: int) -> Charge:
    """Worker `number` of a supervisor, not started yet."""
    from streams.supervisor import Charge

    command = [sys.executable, "-m", "streams.cli", "worker", str(pipeline), "--attached", "--json"]
    command += ["--home", str(home), "--instance", f"{prefix}-{number}"]
    command += ["--metrics-port", str(choice.metrics_port + number if choice.metrics_port else 0)]
    command += ["--playback"] if choice.playback else []
    name = f"worker {number}"
    return Charge(
        name,
        command,
        notice=lambda line: note(f"{plan.name}: {line}"),
        said=lambda line: note(f"{name}: {line}"),
    )


def default_prefix(home: Path) -> str:
    """A name for the workers of this machine with databases in `home`: the same after every restart."""
    return f"{socket.gethostname()}-{blake2b(str(home).encode(), digest_size=4).hexdigest()}"


@contextlib.contextmanager
def only_one(home: Path, pipeline: str, prefix: str) -> Iterator[None]:
    """Hold the names of the workers: two of one name would take each other's place in the group again and again."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{pipeline}.{blake2b(prefix.encode(), digest_size=4).hexdigest()}.lock"
    with path.open("a") as lock:
        if not locked(lock):
            raise SettingsError(
                f"another supervisor runs {pipeline} as {prefix} (it holds {path}): stop it, or choose another "
                f"--instance"
            )
        yield


def locked(lock: IO[str]) -> bool:
    """Whether we have got the lock; the kernel gives it back when we end, however we end."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
