"""Worker processes under a supervisor: started, killed, frozen, started again at once; how each ended is kept.

Each has an instance id (static membership), so that one that comes back takes up its partitions without a rebalance;
unless it is `static=False`: then those that stay take over at once.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.exits import EXIT_DIED, EXIT_MISTAKE, EXIT_UNAVAILABLE
from streams.settings import KafkaSettings
from tests.support.workers import Worker

# Kafka's shortest: how long a member may be silent before its partitions move on.
SESSION_S = 6.0
TICK_S = 0.02
STOPPED = "midstream: stopped: "
# How the line begins with which a worker may end itself, by exit code: it stopped; Kafka was not there to begin with.
SAID = {EXIT_DIED: STOPPED, EXIT_UNAVAILABLE: "midstream: Kafka"}
NEVER = "\0"
# An orderly stop; our SIGKILL; and a SIGTERM that came before the worker listened to it: it had nothing open.
ORDERLY = (0, -signal.SIGKILL, -signal.SIGTERM)
# What a program that is wrong raises; a worker that ends itself because of the world says something else.
BUGS = ("TypeError", "AttributeError", "KeyError", "IndexError", "NameError", "AssertionError", "ValueError")


@dataclass
class Ended:
    """How a process ended: its exit code (negative: the signal) and its last line."""

    place: str
    code: int
    line: str
    failpoint: str = ""


@dataclass
class Crew:
    """The workers of one pipeline."""

    kafka: KafkaSettings
    home: Path
    expression: str
    plant: str = ""
    static: bool = True
    workers: dict[str, Worker] = field(default_factory=dict)
    # Processes that ended, by themselves or by us.
    ended: list[Ended] = field(default_factory=list)
    kills: int = 0
    _failpoints: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        place: str,
        *,
        failpoint: tuple[str, int, str] | tuple[str, int, str, int] | None = None,
        expression: str | None = None,
        stuck_s: float | None = None,
        file_limit_bytes: int | None = None,
    ) -> Worker:
        """Start the worker of `place`; each place has a database and an instance id of its own.

        `failpoint`: name, how many times it is passed before it strikes, "kill" or "freeze", and perhaps the process
        that is killed before.
        """
        if place in self.workers:
            self.workers[place].end()
            self.look()
        patch = ""
        if self.plant:
            patch += f"from tests.chaos.plants import PLANTS\nPLANTS[{self.plant!r}]()\n"
        if failpoint is not None:
            patch += f"from tests.chaos.failpoints import install\ninstall(*{failpoint!r})\n"
        self._failpoints[place] = "" if failpoint is None else failpoint[0]
        worker = Worker(
            self.kafka,
            self.home / place,
            expression or self.expression,
            instance=place if self.static else None,
            session_s=SESSION_S,
            patch=patch,
            attached=True,
            stuck_s=stuck_s,
            file_limit_bytes=file_limit_bytes,
        )
        self.workers[place] = worker
        return worker.start()

    def look(self) -> list[Ended]:
        """Take note of the processes that have ended since the last look."""
        new = []
        for place, worker in list(self.workers.items()):
            code = worker.running.poll()
            if code is not None:
                worker.let_go()
                lines = worker.text().strip().splitlines() or [""]
                new.append(Ended(place, code, lines[-1], self._failpoints[place]))
                del self.workers[place]
        self.ended += new
        self.kills += sum(each.code == -signal.SIGKILL for each in new)
        return new

    def tend(self, seconds: float = 0.0, until: Callable[[], bool] = lambda: False) -> bool:
        """Start again whoever ends, for so long or until something holds; returns whether it came to hold."""
        deadline = time.monotonic() + seconds
        while True:
            for each in self.look():
                # What a restart does not help is left as it is, as `midstream worker --processes` does.
                if each.code != EXIT_MISTAKE:
                    self.start(each.place)
            if until():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(TICK_S)

    def kill(self, place: str) -> None:
        """SIGKILL, and wait until the kernel has taken it away."""
        worker = self.workers[place]
        worker.running.kill()
        worker.running.wait(10)

    def wait_end(self, place: str, within_s: float) -> Ended | None:
        """Wait for a worker to end by itself, tending the others; None if it does not."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            mine = None
            for each in self.look():
                if each.place == place:
                    mine = each
                else:
                    self.start(each.place)
            if mine is not None:
                return mine
            time.sleep(TICK_S)
        return None

    def stop(self, places: Sequence[str] | None = None, within_s: float = 30.0) -> None:
        """SIGTERM to some, or all, and wait; one that does not end is killed, which `ended` shows."""
        chosen = [self.workers[place] for place in (places or list(self.workers)) if place in self.workers]
        for worker in chosen:
            worker.send(signal.SIGTERM)
        deadline = time.monotonic() + within_s
        for worker in chosen:
            while worker.running.poll() is None and time.monotonic() < deadline:
                time.sleep(TICK_S)
            worker.end()
        self.look()

    def end(self) -> None:
        """Leave nothing running."""
        for worker in self.workers.values():
            worker.end()
        self.workers.clear()

    def reasons(self) -> Counter[str]:
        """Why processes ended by themselves: the line without what differs from run to run."""
        return Counter(reason(each) for each in self.ended if each.code not in ORDERLY)

    def surprises(self) -> list[str]:
        """Ends that are nobody's fault but Midstream's: neither our signal, nor an orderly stop, nor a clear line."""
        return [
            f"{each.place} ended with {each.code}: {each.line}"
            for each in self.ended
            if each.code not in ORDERLY
            and (not each.line.startswith(SAID.get(each.code, NEVER)) or any(b in each.line for b in BUGS))
        ]


def reason(each: Ended) -> str:
    """`code: what`, short enough to count."""
    words = each.line.removeprefix(STOPPED)
    return f"{each.code}: " + next(
        (word.strip(":") for word in words.split() if word.strip(":").endswith(("Error", "Fenced", "Epoch"))),
        words[:80],
    )
