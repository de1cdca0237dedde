"""One episode: a fresh pipeline under load, a fault that strikes, and what is left when it is quiet again, checked."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.settings import KafkaSettings
from tests.chaos.brokers import Brokers
from tests.chaos.checker import ROLES, Findings, changelogs, check, check_databases, read_all
from tests.chaos.crew import Crew
from tests.chaos.ledger import ledger
from tests.chaos.load import Load
from tests.support.topics import consumer
from tests.support.verify import wait_idle
from tests.support.workers import create, unique

PARTITIONS = 3
# How long the pipeline may take to become idle once the world is quiet; a session and a transaction time out in it.
QUIET_S = 90.0
# A timer fires at the first tick after its time: what is missing is looked for once more until then.
LATE_S = 15.0
ASK_S = 0.2


@dataclass
class Outcome:
    """What one episode came to."""

    fault: str
    number: int
    seconds: float = 0.0
    strikes: int = 0
    kills: int = 0
    findings: Findings = field(default_factory=Findings)
    exits: Counter[str] = field(default_factory=Counter)
    published: int = 0
    folder: str = ""
    notes: list[str] = field(default_factory=list)


class Episode:
    """What a fault works on: brokers, a pipeline, its workers, its load, and chance."""

    def __init__(
        self, brokers: Brokers, home: Path, random: Random, *, rate: int, plant: str = "", brief: bool = False
    ) -> None:
        """Make a pipeline's topics; nothing runs yet. `brief`: faults keep to what shows in seconds."""
        self.brokers, self.home, self.random, self.brief = brokers, home, random, brief
        self.name = unique("ledger")
        self.strikes = self.published = 0
        self.settled = self.stalled = False
        self.notes: list[str] = []
        self.findings = Findings()
        asyncio.run(create(self.kafka, ledger(self.name), PARTITIONS, brokers.replication))
        self.crew = Crew(self.kafka, home, f"tests.chaos.ledger:ledger({self.name!r})", plant)
        self.load = Load(self.kafka, self.name, rate, random.randrange(1 << 30))

    @property
    def kafka(self) -> KafkaSettings:
        """How clients reach the brokers."""
        return self.brokers.settings

    def committed(self, role: str = "raw") -> list[int] | None:
        """How many records of each partition of a topic have been read for good; None when nobody can say just now."""
        # Not `read_committed`: librdkafka would wait for an open transaction that has an offset in it.
        reader = consumer(self.kafka, group=self.name, committed=False)
        try:
            places = [TopicPartition(f"{self.name}.{role}", number) for number in range(PARTITIONS)]
            return [max(0, place.offset) for place in reader.committed(places, timeout=5)]
        except KafkaException:
            # The broker is away, or the group has no coordinator just now.
            return None
        finally:
            reader.close()

    def rows_everywhere(self, within_s: float = 60.0) -> None:
        """Tend the workers until every entity lane has committed rows: `raw` is read a transaction before them."""
        begun = self.crew.tend(within_s, lambda: min(self.committed("events") or [0]) > 0)
        self.expect(begun, f"an entity lane has committed nothing within {within_s:g} s")

    def progress(self, more: int = 100, within_s: float = 60.0) -> None:
        """Tend the workers until that many more raw records have been read for good; a violation if they never are."""
        # What is broken already need not be waited for again and again.
        within_s = 5.0 if self.stalled else within_s
        before: int | None = None
        asked_s = 0.0

        def enough() -> bool:
            nonlocal before, asked_s
            if time.monotonic() - asked_s < ASK_S:
                return False
            places, asked_s = self.committed(), time.monotonic()
            now = None if places is None else sum(places)
            before = now if before is None else before
            return now is not None and before is not None and now >= before + more

        if not self.crew.tend(within_s, enough):
            self.stalled = True
            self.findings.add(5, f"nothing was read within {within_s:g} s", [f"{before} records before it"])

    def struck(self, what: str = "") -> None:
        """Count one fault injected."""
        self.strikes += 1
        if what:
            self.notes.append(what)

    def expect(self, holds: bool, what: str) -> None:
        """Note a violation of what a fault must lead to."""
        self.findings.add(4, "not as it must be", [] if holds else [what])

    def check_databases(self) -> None:
        """Look at the databases of workers that are all dead just now."""
        topics = [f"{self.name}.{role}" for role in changelogs()]
        self.findings.merge(check_databases(self.name, self.home, read_all(self.kafka, topics)))

    def settle(self, load_goes_on: bool = False) -> None:
        """End the load, let the workers come to rest, stop them, and check everything; once an episode."""
        if self.settled:
            return
        self.settled = True
        self.published = self.load.stop()
        self.crew.tend()
        if not self.crew.workers:
            self.crew.start("last")
        try:
            self.rest()
        except AssertionError as error:
            self.findings.add(5, "it does not come to rest", [error])
        # A planted bug is there to stay.
        deadline = time.monotonic() + (0.0 if self.crew.plant else LATE_S)
        while (found := check(self.kafka, self.name)).violations and time.monotonic() < deadline:
            self.crew.tend(1.0)
        self.crew.stop()
        self.findings.merge(found)
        self.check_databases()
        self.findings.add(4, "workers that ended as they must not", self.crew.surprises())
        if load_goes_on:
            self.load = Load(self.kafka, self.name, self.load.rate, 0).start()

    def rest(self) -> None:
        """Wait until everything is read, starting again whoever ends."""
        deadline = time.monotonic() + (LATE_S if self.stalled else QUIET_S)
        while True:
            self.crew.tend()
            try:
                return wait_idle(self.kafka, self.name, 2.0)
            except (AssertionError, KafkaException) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(str(error)) from error

    def end(self) -> None:
        """Leave nothing running."""
        self.crew.end()
        with contextlib.suppress(AssertionError):
            self.load.stop(1.0)

    def forget(self) -> None:
        """Delete topics and databases of an episode that found nothing."""
        admin = AdminClient(dict(self.kafka.librdkafka_options()))
        for done in admin.delete_topics([f"{self.name}.{role}" for role in ROLES]).values():
            done.result(30)
        shutil.rmtree(self.home, ignore_errors=True)


Fault = Callable[[Episode], None]


def play(
    brokers: Brokers,
    fault: Fault,
    name: str,
    home: Path,
    seed: str,
    number: int = 0,
    *,
    rate: int,
    plant: str = "",
    brief: bool = False,
) -> Outcome:
    """Play one episode: everything in it that is chance follows from `seed`."""
    started = time.monotonic()
    episode = Episode(brokers, home, Random(seed), rate=rate, plant=plant, brief=brief)
    try:
        episode.load.start()
        fault(episode)
        episode.settle()
    finally:
        episode.end()
    outcome = Outcome(
        name, number, time.monotonic() - started, episode.strikes, episode.crew.kills, episode.findings
    )
    outcome.exits, outcome.notes, outcome.published = episode.crew.reasons(), episode.notes, episode.published
    outcome.folder = str(home)
    if not episode.findings.violations:
        episode.forget()
    return outcome
