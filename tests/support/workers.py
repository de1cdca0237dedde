"""Real worker processes: started, killed, frozen, stopped; and the topics and pipelines that they run."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from streams import kafka as door
from streams import topics
from streams.pipeline import Pipeline
from streams.plan import Plan, compile_plan
from streams.settings import KafkaSettings
from tests.support.topics import wait_until

ROOT = Path(__file__).parents[2]
BELOW_EPHEMERAL = 10_000, 30_000


def free_port() -> int:
    """A port that nobody listens on, and that the system does not give to somebody's connection a moment later."""
    while True:
        port = SystemRandom().randrange(*BELOW_EPHEMERAL)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def free_ports(number: int) -> int:
    """The first of `number` ports in a row that nobody listens on."""
    while True:
        first = free_port()
        try:
            for port in range(first + 1, first + number):
                socket.create_server(("127.0.0.1", port)).close()
        except (OSError, OverflowError):
            continue
        return first


def unique(name: str) -> str:
    """A pipeline name that nobody else uses on this broker."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


async def create(kafka: KafkaSettings, pipeline: Pipeline, partitions: int = 3, replication: int = 1) -> Plan:
    """Make the pipeline's topics; returns its plan."""
    plan = compile_plan(pipeline)
    await door.create_topics(kafka.client_options(), plan.name, topics.topics(plan), partitions, replication)
    return plan


class Worker:
    """One worker in a process of its own. `expression` makes its pipeline: `tests.support.shop:shop('name')`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        home: Path,
        expression: str,
        *,
        playback: bool = False,
        instance: str | None = None,
        metrics_port: int | None = None,
        session_s: float | None = None,
        pause_s: float = 0.0,
        patch: str = "",
        attached: bool = False,
        stuck_s: float | None = None,
        file_limit_bytes: int | None = None,
    ) -> None:
        """Describe the worker; `start` starts it.

        Args:
            kafka: the broker.
            home: where it keeps its databases.
            expression: module and call that make the pipeline.
            playback: time comes from the publisher.
            instance: static membership: a restart need not wait until the dead one is given up.
            metrics_port: where it shows metrics.
            session_s: after how long without a heartbeat it is given up, when not the usual time.
            pause_s: how long it pauses after an assignment, between the seek and the first poll.
            patch: Python that the process runs first, to break something.
            attached: it ends with the process that started it, however that ends.
            stuck_s: after how long a lane is given up as stuck, when not the usual time.
            file_limit_bytes: how large a file may grow that it writes: its disk is full then.
        """
        self.home = home
        self.metrics_port = metrics_port
        self.attached = attached
        self._arguments = json.dumps(
            {
                "bootstrap": kafka.bootstrap,
                "home": str(home),
                "expression": expression,
                "playback": playback,
                "instance": instance,
                "metrics_port": metrics_port,
                "session_s": session_s,
                "pause_s": pause_s,
                "patch": patch,
                "attached": attached,
                "stuck_s": stuck_s,
                "file_limit_bytes": file_limit_bytes,
            }
        )
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Worker":
        """Start the process; it need not be ready when this returns."""
        self.let_go()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.worker_process", self._arguments],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                # Nobody writes to it: it closes when this process is gone.
                stdin=subprocess.PIPE if self.attached else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process."""
        assert self.process is not None, "the worker was not started"
        return self.process

    def let_go(self) -> None:
        """Close our end of the pipe to a process that is attached."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def text(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Fail with what it wrote if it has ended by itself."""
        code = self.running.poll()
        assert code is None, f"the worker ended with {code}:\n{self.text()[-4000:]}"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.running.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until the kernel has taken it away."""
        self.check()
        self.running.kill()
        self.running.wait(10)

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self.check()
        self.send(signal.SIGTERM)
        return self.wait(within_s)

    def wait(self, within_s: float = 30.0) -> int:
        """Wait until it has ended; returns the exit code."""
        try:
            return self.running.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the worker still ran after {within_s:g} s:\n{self.text()[-4000:]}"
            ) from None

    def metrics(self) -> str:
        """One scrape."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def wait_running(self, lanes: int, within_s: float = 40.0) -> None:
        """Wait until it runs that many lanes; it needs a metrics port for it."""

        def found() -> bool:
            self.check()
            try:
                return self.metrics().count('state="running"} 1.0') == lanes
            except OSError:
                return False

        wait_until(found, f"{lanes} running lanes", within_s)

    def end(self) -> None:
        """Make sure that it is gone, whatever the test did to it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
        self.let_go()


def sleep_while(workers: Sequence[Worker], seconds: float) -> None:
    """Let `workers` work for a while; fail at once when one ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for worker in workers:
            worker.check()
        time.sleep(0.02)
