"""How many events a second do 1, 2, 4 worker processes of one pipeline commit on the same topics?

    python -m benchmarks.scale [--json] [--rounds N] [--events N] [--processes 1,2,4] [--plot FOLDER]

The workers are those of `midstream worker --processes N`. They have their lanes before the first event is there: the
load is written in one transaction, and its commit shows all of it at once. Then the group's offsets are watched.

Back of the envelope: a process is one busy thread, the broker a tenth of one per process. So two cores give two
processes a little less than twice the rate of one, and four processes no more than two.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import outputs
from benchmarks.broker import fresh_topics
from benchmarks.contender import ROOT, ContenderError, last_lines
from benchmarks.load import IN_FLIGHT, payments_load
from benchmarks.payments import payments
from benchmarks.plot import line_chart
from benchmarks.program import command_line, grounds, positive, say
from benchmarks.program import run as run_program
from benchmarks.report import machine
from schemas.keys import partition_of
from streams.embedded.folder import free_port
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.topics import CHANGES, EVENTS, topics

PARTITIONS = 4
START_S = 90.0
# Workers that do less are stuck.
SLOWEST_PER_S = 500
LOOK_S = 0.02
STOP_S = 40.0
DEFINITION = (
    "events divided by the seconds from the moment at which all of them become visible to workers that already hold "
    "their lanes, to the moment at which the group has committed the last one"
)


@dataclass(frozen=True)
class Run:
    """So many processes in one round."""

    processes: int
    round: int
    events: int
    seconds: float
    events_per_s: float
    # The machine's load just before, to judge how quiet it was.
    load_1m: float


class Crew:
    """`midstream worker --processes N` on the benchmark's pipeline."""

    def __init__(self, settings: KafkaSettings, name: str, processes: int, home: Path) -> None:
        """Start it; its files go to `home`, a new folder."""
        home.mkdir(parents=True)
        pipeline = home / "pipeline.py"
        pipeline.write_text(
            f"import copy\nfrom benchmarks import payments as source\nmade = copy.copy(source.payments)\n"
            f"made.name = {name!r}\n"
        )
        self.processes, self.log, self.port = processes, home / "log", free_port()
        command = [
            sys.executable,
            "-m",
            "streams.cli",
            "worker",
            str(pipeline),
            "--home",
            str(home / "state"),
        ]
        command += ["--processes", str(processes), "--metrics-port", str(self.port), "--attached"]
        environment = {**os.environ, "KAFKA_BOOTSTRAP": str(settings.bootstrap), "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env=environment,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until every process has its share of the lanes.

        Raises:
            ContenderError: it has ended, or takes too long.
        """
        lanes = 2 * PARTITIONS

        def ready() -> bool:
            return all(
                lanes // self.processes <= self._lanes(number) <= -(-lanes // self.processes)
                for number in range(1, self.processes + 1)
            )

        self.wait(ready, START_S, "the workers to share the lanes")

    def _lanes(self, number: int) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port + number}/readyz", timeout=5) as answer:
                return int(json.load(answer)["lanes"])
        except OSError:
            return -1

    def wait(self, done: Callable[[], bool], within_s: float, what: str) -> float:
        """Wait until `done`; returns when it was (`time.monotonic`).

        Raises:
            ContenderError: it has ended, or takes too long.
        """
        deadline_s = time.monotonic() + within_s
        while not done():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise ContenderError(f"waited in vain for {what}. {last_lines(self.log)}")
            time.sleep(LOOK_S)
        return time.monotonic()

    def end(self) -> None:
        """Stop it; nothing of it runs when this returns."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            # Twice: the second signal makes it kill its workers.
            for _ in range(2):
                self.process.terminate()
                time.sleep(1.0)
            self.process.kill()
            self.process.wait()


def unseen(settings: KafkaSettings, topic: str, events: int) -> tuple[Producer, list[int]]:
    """The load on `topic` in a transaction that is still open, and the offset after the last record by partition."""
    producer = Producer(
        settings.librdkafka_options()
        | {
            "log_level": 3,
            "transactional.id": f"{topic}.load",
            "transaction.timeout.ms": 600_000,
            "linger.ms": 20,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 2 * IN_FLIGHT,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    counts = [0] * PARTITIONS
    for record in payments_load(events, EVENTS):
        number = partition_of(record.key, PARTITIONS)
        counts[number] += 1
        producer.produce(topic, record.value, record.key, partition=number, headers=record.headers)
        while len(producer) > IN_FLIGHT:
            producer.poll(0.01)
    if left := producer.flush(60):
        raise ContenderError(f"{topic}: {left} of {events} records were not taken by the broker within 60 s")
    return producer, counts


def measure(settings: KafkaSettings, processes: int, number: int, events: int, home: Path) -> Run:
    """Fresh topics, workers with their lanes, the load all at once, until it is committed; then all is gone again.

    Raises:
        ContenderError: it was not done, or the committed outputs are not one per event.
    """
    name = f"scale-{os.getpid()}-{number}-{processes}"
    plan = replace(compile_plan(payments), name=name)
    source = f"{name}.{EVENTS}"
    with fresh_topics(settings, name, topics(plan), PARTITIONS):
        crew = Crew(settings, name, processes, home / name)
        try:
            crew.wait_ready()
            load_1m = os.getloadavg()[0]
            producer, wanted = unseen(settings, source, events)
            watcher = Consumer({**settings.librdkafka_options(), "group.id": name, "log_level": 3})
            places = [TopicPartition(source, each) for each in range(PARTITIONS)]

            def all_committed() -> bool:
                found = watcher.committed(places, timeout=10)
                return all(at.offset >= want for at, want in zip(found, wanted, strict=True))

            began_s = time.monotonic()
            producer.commit_transaction(60)
            ended_s = crew.wait(all_committed, START_S + events / SLOWEST_PER_S, "the last commit")
            watcher.close()
            # What it still has to tell, which librdkafka would complain of at the end.
            producer.poll(0)
        finally:
            crew.end()
        counted = outputs.count(settings, f"{name}.{CHANGES}", PARTITIONS)
    if counted != (events, events):
        raise ContenderError(
            f"{processes} processes: expected {events} committed outputs, one per event, got {counted.records} for "
            f"{counted.event_ids} events. The round does not count."
        )
    seconds = ended_s - began_s
    return Run(processes, number, events, round(seconds, 3), round(events / seconds, 1), round(load_1m, 2))


def rounds(
    settings: KafkaSettings, processes: Sequence[int], count: int, events: int, home: Path, warm_up: bool
) -> list[Run]:
    """Every number of processes in every round, in alternating order; the warm-up is said, not kept."""
    kept = []
    if warm_up:
        say(f"warm-up, {line(measure(settings, processes[0], -1, events, home))}")
    for number in range(count):
        for each in processes if number % 2 == 0 else reversed(processes):
            done = measure(settings, each, number, events, home)
            say(f"round {number + 1} of {count}, {line(done)}")
            kept.append(done)
    return kept


def report(runs: Sequence[Run]) -> dict[str, Any]:
    """Median rates by number of processes, their multiples of the first, the spread, and on what it was measured."""
    numbers = list(dict.fromkeys(sorted(run.processes for run in runs)))
    rates = {each: [run.events_per_s for run in runs if run.processes == each] for each in numbers}
    medians = {str(each): statistics.median(rates[each]) for each in numbers}
    base = medians[str(numbers[0])]
    return {
        "rate_by_processes": medians,
        "speed_up": {each: round(rate / base, 2) for each, rate in medians.items()},
        "spread": {str(each): {"min": min(rates[each]), "max": max(rates[each])} for each in numbers},
        "unit": "events/s",
        "definition": DEFINITION,
        "partitions": PARTITIONS,
        "events": runs[0].events,
        "rounds": max(run.round for run in runs) + 1,
        "machine": machine() | {"load_1m": max(run.load_1m for run in runs)},
        "runs": [asdict(run) for run in runs],
    }


def line(run: Run) -> str:
    """One run for a person."""
    return (
        f"{run.processes} processes: {run.events:,} events in {run.seconds:.1f} s = {run.events_per_s:,.0f}/s "
        f"(load before: {run.load_1m})"
    )


def table(told: dict[str, Any]) -> str:
    """The report for a person."""
    rows = [
        f"{each:>9}{rate:>12,.0f}{told['spread'][each]['min']:>12,.0f}{told['spread'][each]['max']:>12,.0f}"
        f"{told['speed_up'][each]:>10.2f}"
        for each, rate in told["rate_by_processes"].items()
    ]
    head = f"{'processes':>9}{'median':>12}{'min':>12}{'max':>12}{'speed-up':>10}   events/s"
    machine = (
        f"{told['rounds']} rounds of {told['events']:,} events, {told['partitions']} partitions, on "
        f"{told['machine']['cpus']} cores with the broker; highest load before a run: {told['machine']['load_1m']}"
    )
    return "\n".join([head, *rows, machine, f"A figure is {told['definition']}."])


def draw(told: dict[str, Any], folder: Path) -> None:
    """The curve, beside the one that as many times one process would make."""
    measured = [(int(each), rate) for each, rate in told["rate_by_processes"].items()]
    first, base = measured[0]
    title = f"Events a second by worker processes, {told['machine']['cpus']} cores with the broker"
    ideal = [(each, base * each / first) for each, _ in measured]
    curves = {"measured": measured, "in proportion": ideal}
    line_chart(folder / "scale.svg", title, "worker processes", "events/s", curves)


def numbers(text: str) -> list[int]:
    """Numbers of processes from the command line."""
    found = [int(part) for part in text.split(",")]
    if not found or min(found) < 1 or max(found) > 2 * PARTITIONS:
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to {2 * PARTITIONS}, got {text}")
    return found


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = command_line("scale", __doc__)
    parser.add_argument("--rounds", type=positive, default=3, help="measured rounds (3)")
    parser.add_argument("--events", type=positive, default=200_000, help="events per run (200000)")
    parser.add_argument("--processes", type=numbers, default=[1, 2, 4], help="how many processes (1,2,4)")
    parser.add_argument(
        "--no-warm-up", action="store_true", help="measure a cold broker from the first run on"
    )
    return parser.parse_args()


def main() -> int:
    """Run the rounds and print the report; returns the exit code."""
    asked = arguments()
    with grounds() as (settings, home):
        runs = rounds(settings, asked.processes, asked.rounds, asked.events, home, not asked.no_warm_up)
    told = report(runs)
    if asked.plot is not None:
        draw(told, asked.plot)
    print(json.dumps(told) if asked.json else table(told))
    return 0


if __name__ == "__main__":
    sys.exit(run_program("scale", main))
