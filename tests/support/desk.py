"""A support desk that runs: examples/tickets.py under a name of its own, topics and worker made by the commands."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from schemas.record import Given, Out
from streams import cluster
from streams.cli import main
from streams.memory import happened
from streams.plan import Plan, compile_plan, load
from streams.settings import KafkaSettings
from tests.support.topics import wait_until
from tests.support.workers import unique

ROOT = Path(__file__).parents[2]
TICKETS = ROOT / "examples" / "tickets.py"
# Long enough ago that everything that waits to settle is due at once, on the wall clock.
OPENED = timedelta(minutes=10)
# Each has a review that one test answers.
CUSTOMERS = ("acme", "bolt", "coil", "dawn")


class Desk:
    """A pipeline file, its plan, and a folder for its worker."""

    def __init__(
        self, kafka: KafkaSettings, folder: Path, source: str | None = None, name: str = "tickets"
    ) -> None:
        """Write the pipeline file; `source` declares `Pipeline("NAME"`, default is examples/tickets.py."""
        self.kafka, self.folder = kafka, folder
        self.name = unique(name)
        text = (TICKETS.read_text() if source is None else source).replace(f'"{name}"', f'"{self.name}"', 1)
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{name}.py"
        self.file.write_text(text)
        self.plan: Plan = compile_plan(load(self.file))
        self.models: ModuleType = sys.modules[f"pipeline_{name}"]
        self.environment: Mapping[str, str] = os.environ | {
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP": str(kafka.bootstrap),
            "MIDSTREAM_HOME": str(folder / "home"),
        }
        self.worker: subprocess.Popen[bytes] | None = None
        self.log = folder / "worker.log"

    @property
    def clients(self) -> dict[str, object]:
        """The options of every client."""
        return self.kafka.client_options()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in a process of its own, with the pipeline file behind its verbs."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def command(self, *words: str) -> list[str]:
        """The command's words: verbs, the file, the rest."""
        verbs = 2 if words[0] in ("context", "offsets", "quarantine", "review", "state", "topics") else 1
        return [sys.executable, "-m", "streams.cli", *words[:verbs], str(self.file), *words[verbs:]]

    def start(self, *options: str) -> None:
        """Start the worker and wait for the line that says that it is ready."""
        with self.log.open("ab") as log:
            before = log.tell()
            self.worker = subprocess.Popen(
                self.command("worker", *options),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def ready() -> bool:
            assert self.worker is not None
            assert self.worker.poll() is None, f"the worker ended:\n{self.log.read_text()}"
            return f"{self.name}: ready, " in self.log.read_bytes()[before:].decode()

        wait_until(ready, "the worker to be ready")

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.worker is not None
        self.worker.terminate()
        try:
            return self.worker.wait(30)
        finally:
            self.worker.kill()
            self.worker.wait()

    def send(self, given: list[Given]) -> list[tuple[int, int]]:
        """Append raw records; returns partition and offset of each."""
        outs = [Out("raw", each.key, each.value, list(each.headers)) for each in given]
        return asyncio.run(cluster.send(self.clients, self.plan, outs))

    def told(self, *words: str) -> Any:
        """What a command says with --json. In this process: that takes a tenth of the time."""
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            code = main(self.command(*words, "--json")[3:])
        assert code == 0, f"{words}: {code}"
        return json.loads(out.getvalue())

    def until(self, words: tuple[str, ...], enough: Callable[[Any], bool], what: str) -> Any:
        """Ask a command with --json again and again, until its answer is `enough`."""
        deadline = time.monotonic() + 60
        while not enough(told := self.told(*words)):
            assert time.monotonic() < deadline, f"waited in vain for {what}: {told}\n{self.log.read_text()}"
            time.sleep(0.2)
        return told

    def bad_week(self, customer: str) -> list[Given]:
        """A paying customer with three complaints: it leads to a review."""
        models, at = self.models, datetime.now(UTC) - OPENED
        records = [
            happened(
                models.PlanChanged(customer_id=customer, plan="team", renews_at=None), at, f"{customer}-plan"
            )
        ]
        for number in range(3):
            event = models.Opened(
                ticket_id=f"{customer}-{number}",
                customer_id=customer,
                subject="it is down",
                severity="urgent" if number == 2 else "normal",
            )
            records.append(happened(event, at + timedelta(seconds=number), f"{customer}-opened-{number}"))
        return records
