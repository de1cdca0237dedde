"""A whole Midstream on this machine: a plan and a folder come in, broker, topics and a supervised worker run.

What is started here ends with this process, however it ends: the broker and the worker each hold the reading end
of a pipe that the kernel closes for whoever dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams import kafka, topics
from streams.broker import Broker, BrokerError
from streams.embedded.folder import free_port
from streams.embedded.kafka_jars import Progress
from streams.exits import EXIT_MISTAKE, EXIT_UNAVAILABLE
from streams.metrics import Samples, scrape
from streams.plan import Plan
from streams.settings import KafkaSettings

PARTITIONS = 4
STOP_TIMEOUT_S = 25.0
# A worker that dies this often without moving anything will not get better by itself.
RESTARTS_IN_A_ROW = 5


class LocalError(Exception):
    """Something on this machine keeps the parts from running; the message says what to do."""


@dataclass
class Local:
    """Broker, topics and worker of one plan."""

    plan: Plan
    pipeline: Path
    folder: Path
    settings: KafkaSettings
    notice: Callable[[str], None]
    playback: bool = True
    broker: Broker | None = None
    worker: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    _failures: int = 0
    _port: int = field(default_factory=free_port)

    @property
    def clients(self) -> dict[str, Any]:
        """How Kafka clients reach the broker."""
        return self.settings.client_options()

    def start_broker(self, progress: Progress | None = None) -> None:
        """Use the broker that the settings name, or start one in the folder.

        Raises:
            BrokerError, JarError: it cannot be started; one line says why.
        """
        if self.settings.bootstrap is not None:
            return
        self.broker = Broker(self.folder / "broker", notice=self.notice)
        self.broker.start(attached=True, progress=progress)
        self.settings = self.broker.settings()

    async def create_topics(self, replication: int = 1) -> None:
        """Create the plan's topics.

        Raises:
            LocalError: they exist already: a playback into old state would be taken for duplicates.
        """
        wanted = topics.topics(self.plan)
        made = await kafka.create_topics(self.clients, self.plan.name, wanted, PARTITIONS, replication)
        if len(made) < len(wanted):
            raise LocalError(
                f"topics {self.plan.name}.* exist already at {self.settings.bootstrap}. Delete them first, or unset "
                f"KAFKA_BOOTSTRAP to play on a broker of our own."
            )

    def start_worker(self) -> None:
        """Start a worker process."""
        log = self.folder / "worker.log"
        command = [sys.executable, "-m", "streams.cli", "worker", str(self.pipeline), "--attached"]
        command += ["--home", str(self.folder / "state"), "--metrics-port", str(self._port)]
        command += ["--playback"] if self.playback else []
        with log.open("ab") as out:
            # A session of its own: Ctrl-C in the terminal is for us, who then stop it in our order.
            self.worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=self._environment(),
            )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KAFKA_BOOTSTRAP": str(self.settings.bootstrap)}

    def supervise(self) -> None:
        """Start the worker again if it has died.

        Raises:
            LocalError: it made a mistake that a restart does not mend, or dies again and again.
        """
        code = None if self.worker is None else self.worker.poll()
        if code is None:
            return
        self._let_go()
        reason = self.last_words()
        self._failures += 1
        if code in (EXIT_MISTAKE, EXIT_UNAVAILABLE) or self._failures > RESTARTS_IN_A_ROW:
            raise LocalError(f"the worker ended with code {code}: {reason}")
        self.restarts += 1
        self.notice(f"the worker ended with code {code} ({reason}); starting it again")
        self.start_worker()

    def _let_go(self) -> None:
        """Close our end of the worker's standard input: a living worker stops at that."""
        if self.worker is not None and self.worker.stdin is not None:
            with contextlib.suppress(OSError):
                self.worker.stdin.close()

    def last_words(self) -> str:
        """The last line of the worker's log."""
        log = self.folder / "worker.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), "no word")

    async def samples(self) -> Samples:
        """The worker's metrics; nothing while it starts."""
        try:
            found = await asyncio.to_thread(scrape, self._port)
        except (urllib.error.URLError, OSError):
            return {}
        self._failures = 0
        return found

    def stop(self) -> None:
        """Stop the worker after its batch, then the broker. Never raises; what would not stop is killed."""
        if self.worker is not None:
            self._let_go()
            with contextlib.suppress(ProcessLookupError):
                self.worker.terminate()
            try:
                self.worker.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.notice(f"the worker did not stop within {STOP_TIMEOUT_S:g} s and was killed")
                self.worker.kill()
                self.worker.wait()
            self.worker = None
        if self.broker is not None:
            try:
                self.broker.stop()
            except BrokerError as error:
                self.notice(str(error))
            self.broker = None


def arrived(samples: Samples, plan: Plan, final_ms: int) -> bool:
    """Whether every entity lane's clock has come to `final_ms` on every rank."""
    wanted = {
        (f"{plan.name}.{topics.EVENTS}.{number}", str(rank))
        for number in range(PARTITIONS)
        for rank in range(1, plan.ranks + 1)
    }
    reached = {
        (dict(given)["lane"], dict(given)["rank"])
        for (name, given), value in samples.items()
        if name == "midstream_clock_timestamp_seconds" and value * 1000 >= final_ms
    }
    return wanted <= reached
