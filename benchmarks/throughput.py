"""How many stateful events a second, exactly once, does one worker process: our entity lane beside stock Faust.

    python -m benchmarks.throughput [--json] [--rounds N] [--events N] [--faust-events N] [--full]

Back of the envelope, two cores with the broker on them: our lane is 28 µs of Python an event while everything is in
the processor's cache and twice that when it is not, so 18,000 to 35,000/s; stock Faust is 240 µs, so 4,200/s; a
ratio of 4 to 8. A round is 10 s of ours, 8 s of Faust's and as much again for load, start and count: four rounds
(one warms up) take three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from aiokafka.errors import KafkaError

from benchmarks import load, outputs
from benchmarks.broker import broker, fresh_topics
from benchmarks.contender import DEFINITION, ContenderError, Task, run
from benchmarks.payments import payments
from streams.broker import BrokerError
from streams.embedded.kafka_jars import KAFKA_VERSION
from streams.exits import EXIT_UNAVAILABLE
from streams.plan import compile_plan
from streams.settings import KafkaSettings, SettingsError
from streams.topics import CHANGES, EVENTS, RAW, topics

PARTITIONS = 4
# Stock Faust gets this part of our events, enough for ten seconds of it; its figure is events a second all the same.
FAUST_SHARE = 8
# A contender slower than this is stuck; starting takes up to 20 s (stock Faust's recovery waits).
SLOWEST_PER_S = 200
START_S = 60.0
# Below this share of a core a contender was kept waiting by something else on the machine.
UNDISTURBED_CORES = 0.85
PACKAGES = ("faust-streaming", "mode-streaming", "aiokafka", "pydantic", "rocksdict", "uvloop")


@dataclass(frozen=True)
class Contender:
    """Who is measured: its name in the report, its module, and what it reads."""

    name: str
    module: str
    source: str
    events: int
    # The topics that are made for it; None for all of the pipeline's.
    roles: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Run:
    """One contender in one round."""

    contender: str
    round: int
    events: int
    seconds: float
    events_per_s: float
    cpu_us_per_event: float
    # Processor time over wall time. Every contender is one busy thread, so much less than 1 means that it had to wait.
    cores: float
    peak_rss_mb: int
    outputs: int
    # The machine's load just before, to judge how quiet it was.
    load_1m: float


def contenders(events: int, faust_events: int, full: bool) -> list[Contender]:
    """Who takes part."""
    ours, peer = "benchmarks.lane_worker", "benchmarks.peers.faust_eos"
    found = [
        Contender("midstream_eos", ours, EVENTS, events),
        Contender("faust_eos", peer, EVENTS, faust_events, (EVENTS, CHANGES)),
    ]
    return [*found, Contender("midstream_full", ours, RAW, events)] if full else found


def in_turn(all_of_them: Sequence[Contender], number: int) -> list[Contender]:
    """The order of round `number`: reversed in every other one, so that nobody always meets the warmer broker."""
    return list(all_of_them) if number % 2 == 0 else list(reversed(all_of_them))


def measure(settings: KafkaSettings, contender: Contender, number: int, home: Path) -> Run:
    """Fresh topics, the load on them, the contender until it is done, its outputs counted, the topics gone.

    Raises:
        ContenderError: it failed, or its committed outputs are not one per event.
    """
    name = f"bench-{os.getpid()}-{number}-{contender.name.replace('_', '-')}"
    task = Task(name, contender.events, contender.source, PARTITIONS, str(home / name))
    wanted = [
        topic
        for topic in topics(replace(compile_plan(payments), name=name))
        if contender.roles is None or topic.role in contender.roles
    ]
    with fresh_topics(settings, name, wanted, PARTITIONS):
        load.produce(settings, f"{name}.{contender.source}", contender.events, contender.source, PARTITIONS)
        load_1m = os.getloadavg()[0]
        environment = {**os.environ, "KAFKA_BOOTSTRAP": str(settings.bootstrap)}
        deadline_s = START_S + contender.events / SLOWEST_PER_S
        measured = run(contender.module, task, environment, deadline_s)
        counted = outputs.count(settings, f"{name}.{CHANGES}", PARTITIONS)
    if counted != (contender.events, contender.events):
        raise ContenderError(
            f"{contender.name}: expected {contender.events} committed outputs, one per event, got "
            f"{counted.records} for {counted.event_ids} events. The round does not count."
        )
    return Run(
        contender=contender.name,
        round=number,
        events=contender.events,
        seconds=round(measured.seconds, 3),
        events_per_s=round(contender.events / measured.seconds, 1),
        cpu_us_per_event=round(measured.cpu_s / contender.events * 1e6, 1),
        cores=round(measured.cpu_s / measured.seconds, 2),
        peak_rss_mb=measured.peak_rss_bytes >> 20,
        outputs=counted.records,
        load_1m=round(load_1m, 2),
    )


def rounds(
    settings: KafkaSettings, taking_part: Sequence[Contender], warm_up: int, count: int, home: Path
) -> list[Run]:
    """Every contender in every round; the warm-up rounds are said, not kept."""
    kept = []
    for number in range(-warm_up, count):
        for contender in in_turn(taking_part, number):
            done = measure(settings, contender, number, home)
            say(f"{'warm-up' if number < 0 else f'round {number + 1} of {count}'}, {line(done)}")
            if number >= 0:
                kept.append(done)
    return kept


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """The medians by contender, our multiple of Faust, and the spread behind them."""
    names = list(dict.fromkeys(run.contender for run in runs))
    per_s = {name: [run.events_per_s for run in runs if run.contender == name] for name in names}
    cpu_us = {name: [run.cpu_us_per_event for run in runs if run.contender == name] for name in names}
    medians = {name: statistics.median(values) for name, values in per_s.items()}
    return {
        **medians,
        "ratio_faust": round(medians["midstream_eos"] / medians["faust_eos"], 2),
        "spread": {
            name: {"min": min(values), "median": medians[name], "max": max(values)}
            for name, values in per_s.items()
        },
        "cpu_us_per_event": {name: statistics.median(values) for name, values in cpu_us.items()},
        "undisturbed": all(run.cores >= UNDISTURBED_CORES for run in runs),
        "runs": [asdict(run) for run in runs],
    }


def circumstances(settings: KafkaSettings, embedded: bool) -> dict[str, Any]:
    """Where and with what it was measured."""
    body_bytes = [len(record.value) for record in load.payments_load(100, EVENTS)]
    return {
        "unit": "events/s",
        "definition": DEFINITION,
        "load": {
            "partitions": PARTITIONS,
            "keys": load.KEYS,
            "body_bytes": round(statistics.mean(body_bytes)),
        },
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "system": platform.platform(),
            "load_1m": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            "kafka": KAFKA_VERSION if embedded else f"at {settings.bootstrap}",
            **{package: version(package) for package in PACKAGES},
        },
    }


def line(run: Run) -> str:
    """One run for a person."""
    return (
        f"{run.contender}: {run.events:,} events in {run.seconds:.1f} s = {run.events_per_s:,.0f}/s, "
        f"{run.cpu_us_per_event:.0f} µs of processor time an event ({run.cores:.2f} cores), {run.peak_rss_mb} MB, "
        f"{run.outputs:,} outputs counted"
    )


def table(report: dict[str, Any]) -> str:
    """The report for a person."""
    head = f"{'':16}{'min':>10}{'median':>10}{'max':>10}   events/s; µs of processor time an event"
    rows = [
        f"{name:16}{spread['min']:>10,.0f}{spread['median']:>10,.0f}{spread['max']:>10,.0f}"
        f"{report['cpu_us_per_event'][name]:>10.0f}"
        for name, spread in report["spread"].items()
    ]
    machine = report["machine"]
    circumstance = (
        f"{report['rounds']} rounds of {report['events']:,} events ({report['faust_events']:,} for stock Faust) on "
        f"{machine['cpus']} cores with the broker; load before: {machine['load_1m']}"
    )
    ratio = f"midstream_eos is {report['ratio_faust']:.1f} times faust_eos"
    lines = [head, *rows, ratio, circumstance, f"A figure is {report['definition']}."]
    if not report["undisturbed"]:
        lines.append(
            "Other work disturbed the runs (see cores in --json): compare the processor time, not the rates."
        )
    return "\n".join(lines)


def say(text: str) -> None:
    """Progress, for a person."""
    print(text, file=sys.stderr, flush=True)


def positive(text: str) -> int:
    """A count from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {number}")
    return number


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.throughput", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--rounds", type=positive, default=3, help="measured rounds (3)")
    parser.add_argument("--events", type=positive, default=200_000, help="events per round for us (200000)")
    parser.add_argument(
        "--faust-events",
        type=positive,
        help=f"events per round for stock Faust (1/{FAUST_SHARE} of --events)",
    )
    parser.add_argument(
        "--no-warm-up", action="store_true", help="measure a cold broker from the first round on"
    )
    parser.add_argument("--full", action="store_true", help="also the whole way: raw, ingest, events, entity")
    return parser.parse_args()


def stop(number: int, frame: FrameType | None) -> None:
    """End in order, as on Ctrl-C: what was started is ended, what was made is removed."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the rounds and print the report; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    asked = arguments()
    faust_events = asked.faust_events or max(1, asked.events // FAUST_SHARE)
    taking_part = contenders(asked.events, faust_events, asked.full)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="midstream-bench-", ignore_cleanup_errors=True) as folder,
            broker(Path(folder, "broker")) as settings,
        ):
            embedded = not os.environ.get("KAFKA_BOOTSTRAP")
            where = circumstances(settings, embedded)
            say(
                f"broker at {settings.bootstrap}{', embedded' if embedded else ''}; load {where['machine']['load_1m']}"
            )
            runs = rounds(settings, taking_part, 0 if asked.no_warm_up else 1, asked.rounds, Path(folder))
    except KeyboardInterrupt:
        say("benchmarks.throughput: stopped")
        return 130
    except (ContenderError, TimeoutError) as error:
        say(f"benchmarks.throughput: {error}")
        return 1
    except (BrokerError, SettingsError, KafkaError) as error:
        say(f"benchmarks.throughput: {error}")
        return EXIT_UNAVAILABLE
    report = {
        "rounds": asked.rounds,
        "events": asked.events,
        "faust_events": faust_events,
        **summary(runs),
        **where,
    }
    print(json.dumps(report) if asked.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
