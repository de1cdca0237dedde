"""`midstream worker PIPELINE --processes N` as an operator runs it: started, watched by its health, ended."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from streams.metrics import Samples, scrape, total
from streams.settings import KafkaSettings
from tests.support.topics import wait_until
from tests.support.workers import ROOT, free_ports


class Crew:
    """A supervisor and its workers."""

    def __init__(self, kafka: KafkaSettings, home: Path, expression: str, processes: int) -> None:
        """Describe it; `expression` makes the pipeline: `tests.support.bank:bank('name')`."""
        module, _, call = expression.partition(":")
        home.mkdir(parents=True, exist_ok=True)
        self.file = home / "pipe.py"
        self.file.write_text(f"from {module} import {call.partition('(')[0]}\nmade = {call}\n")
        self.home, self.processes, self.port = home, processes, free_ports(1 + processes)
        self.log = home / "crew.log"
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP": str(kafka.bootstrap),
            "MIDSTREAM_HOME": str(home / "midstream"),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.seen: set[int] = set()

    def start(self, *options: str) -> "Crew":
        """Start it; its workers need not run when this returns."""
        command = [sys.executable, "-m", "streams.cli", "worker", str(self.file), "--home", str(self.home)]
        command += ["--processes", str(self.processes), "--metrics-port", str(self.port), *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The supervisor's process."""
        assert self.process is not None, "the crew was not started"
        return self.process

    def text(self) -> str:
        """All that was said."""
        return self.log.read_text(errors="replace")

    def pids(self) -> list[int]:
        """The process ids of the workers, in their order."""
        found: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_text(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(self.file) in words and "--instance" in words and "--processes" not in words:
                found[int(words[words.index("--instance") + 1].rpartition("-")[2])] = int(entry.parent.name)
        self.seen |= set(found.values())
        return [found[number] for number in sorted(found)]

    def told(self, path: str, number: int = 0) -> tuple[int, dict[str, Any]]:
        """What a page says: status and JSON. Number 0 is the supervisor."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port + number}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def samples(self, number: int) -> Samples:
        """The metrics of one worker; nothing while it starts."""
        try:
            return scrape(self.port + number)
        except OSError:
            return {}

    def lanes(self, number: int) -> set[str]:
        """The lanes that one worker runs."""
        return {
            dict(given)["lane"]
            for (name, given), value in self.samples(number).items()
            if name == "midstream_lane_state" and value and ("state", "running") in given
        }

    def commits(self, number: int) -> float:
        """How many batches one worker has committed since it began."""
        return total(self.samples(number), "midstream_batch_seconds_count")

    def wait_ready(self, lanes: int, within_s: float = 60.0) -> None:
        """Wait until so many lanes run, evenly shared."""

        def ready() -> bool:
            code = self.running.poll()
            assert code is None, f"it ended with {code}:\n{self.text()[-4000:]}"
            return all(
                len(self.lanes(number)) == lanes // self.processes for number in range(1, self.processes + 1)
            )

        wait_until(ready, f"{lanes} lanes", within_s)

    def send(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self.running.send_signal(number)

    def wait(self, within_s: float = 40.0) -> int:
        """Wait until the supervisor has ended; returns its exit code."""
        try:
            return self.running.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {within_s:g} s:\n{self.text()[-4000:]}") from None

    def end(self) -> None:
        """Leave nothing running."""
        pids = self.pids()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
