"""A whole Midstream on this machine: a plan and a folder come in, broker, topics and a supervised worker run.

What is started here ends with this process, however it ends: the broker and the worker each hold the reading end
of a pipe that the kernel closes for whoever dies.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams import kafka, topics
from streams.broker import Broker, BrokerError
from streams.embedded.folder import free_port
from streams.embedded.kafka_jars import Progress
from streams.metrics import Samples, scrape
from streams.plan import Plan
from streams.settings import KafkaSettings
from streams.supervisor import Charge, WorkerError

PARTITIONS = 4
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
    worker: Charge | None = None
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
        command = [sys.executable, "-m", "streams.cli", "worker", str(self.pipeline), "--attached", "--json"]
        command += ["--home", str(self.folder / "state"), "--metrics-port", str(self._port)]
        command += ["--playback"] if self.playback else []
        environment = {**os.environ, "KAFKA_BOOTSTRAP": str(self.settings.bootstrap)}
        self.worker = Charge("the worker", command, self.notice, self._log, environment, RESTARTS_IN_A_ROW)
        self.worker.start()

    def _log(self, line: str) -> None:
        """Keep what the worker says."""
        with (self.folder / "worker.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    @property
    def restarts(self) -> int:
        """How often the worker was started again."""
        return 0 if self.worker is None else self.worker.restarts

    def supervise(self) -> None:
        """Start the worker again if it has died; to be called now and then.

        Raises:
            LocalError: it made a mistake that a restart does not mend, or dies again and again.
        """
        try:
            if self.worker is not None:
                self.worker.look(time.monotonic())
        except WorkerError as error:
            raise LocalError(str(error)) from error

    async def samples(self) -> Samples:
        """The worker's metrics; nothing while it starts."""
        try:
            return await asyncio.to_thread(scrape, self._port)
        except (urllib.error.URLError, OSError):
            return {}

    def stop(self) -> None:
        """Stop the worker after its batch, then the broker. Never raises; what would not stop is killed."""
        if self.worker is not None:
            self.worker.stop()
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
