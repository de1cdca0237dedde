"""How long does it take from an event on `raw` to its action, through all transactions; and what do these cost?

    python -m benchmarks.latency [--json] [--rates 100,1000,5000] [--seconds N] [--plot FOLDER]

Each rate is measured twice, with a fresh worker on fresh topics: exactly once, and the same worker without transactions
(benchmarks/at_least_once.py). Producer and consumer are this process, so one clock times both ends.

Back of the envelope: two transactions of 5 ms and three hops through the broker of 1 to 2 ms: 15 ms, and as much again
for an event that just missed a batch. A run is 5 s of start, 10 s of warm-up and 20 s that count: four minutes in all.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.alerts import alerts
from benchmarks.broker import fresh_topics
from benchmarks.contender import Process, Task, running
from benchmarks.plot import bar_chart
from benchmarks.probe import Heard, Listener, Sender, check_once_each, percentile
from benchmarks.program import command_line, grounds, say
from benchmarks.program import run as run_program
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.topics import ACTIONS, RAW, topics

PARTITIONS = 4
RATES = (100, 1000, 5000)
WARM_UP_RATE = 1000
# Mode → the module that runs the worker, in the order of the report.
MODES = {"latency": "benchmarks.alert_worker", "at_least_once": "benchmarks.at_least_once"}
# So many events before all others: enough for every partition. With their actions the worker is ready.
FIRST = 64
START_S = 90.0
# What a worker that cannot hold the rate has left at the end must come within this.
DRAIN_S = 120.0
# An action that comes twice would come by then.
DOUBLES_S = 0.5
# A rate counts as held when so much of it came out in the time that counts.
HELD = 0.98
DEFINITION = (
    "milliseconds from the call that produces an event to `raw` until its action is received by a read_committed "
    "consumer, of the events sent after the warm-up; achieved_rate is the actions received in that time by its seconds"
)


def measure(
    settings: KafkaSettings, mode: str, rate: int, seconds: float, warm_up_s: float, home: Path
) -> dict[str, Any]:
    """Fresh topics, a fresh worker, the load at its pace, every action counted; then all is gone again.

    Args:
        settings: the broker.
        mode: one of `MODES`.
        rate: events a second.
        seconds: how long the time is that counts.
        warm_up_s: and how long the one before it.
        home: the worker's folder, a new one; the topics are named after it.

    Raises:
        ProbeError: an event had no action, or several.
        ContenderError: the worker ended.
    """
    name = f"latency-{os.getpid()}-{home.name}"
    source, output = f"{name}.{RAW}", f"{name}.{ACTIONS}"
    task = Task(name, str(settings.bootstrap), RAW, source, output, 0, PARTITIONS, str(home))
    command = [sys.executable, "-m", MODES[mode]]
    with (
        fresh_topics(settings, name, topics(replace(compile_plan(alerts), name=name)), PARTITIONS),
        Listener(settings, output, PARTITIONS) as listener,
        running(command, task) as process,
    ):
        sender = Sender(settings, source, PARTITIONS)
        for _ in range(FIRST):
            sender.send()
        listener.wait(FIRST, START_S, process.check)
        sender.at_pace(rate, warm_up_s, process.check)
        load_1m, cpu_s, began_ns = os.getloadavg()[0], process.cpu_s(), time.monotonic_ns()
        sender.at_pace(rate, seconds, process.check)
        ended_ns, cores = time.monotonic_ns(), cores_since(process, cpu_s, began_ns)
        sender.flush()
        listener.wait(sender.sent, DRAIN_S, process.check)
        time.sleep(DOUBLES_S)
        check_once_each(listener.heard, sender.sent)
        figures = summary(rate, listener.heard, began_ns, ended_ns)
    return figures | {"worker_cores": cores, "load_1m": round(load_1m, 2)}


def cores_since(process: Process, cpu_s: float | None, began_ns: int) -> float | None:
    """How many cores the worker has used since then; None where nobody says."""
    now_s = process.cpu_s()
    if cpu_s is None or now_s is None:
        return None
    return round((now_s - cpu_s) / (time.monotonic_ns() - began_ns) * 1e9, 2)


def summary(rate: int, heard: Sequence[Heard], began_ns: int, ended_ns: int) -> dict[str, Any]:
    """The figures of the events that were sent within the time that counts."""
    waits_ms = sorted(
        (each.received_ns - each.sent_ns) / 1e6 for each in heard if began_ns <= each.sent_ns < ended_ns
    )
    received = sum(1 for each in heard if began_ns <= each.received_ns < ended_ns)
    achieved = received / (ended_ns - began_ns) * 1e9
    return {
        "rate": rate,
        "p50_ms": round(percentile(waits_ms, 0.5), 2),
        "p99_ms": round(percentile(waits_ms, 0.99), 2),
        "p999_ms": round(percentile(waits_ms, 0.999), 2),
        "max_ms": round(waits_ms[-1], 2),
        "events": len(waits_ms),
        "achieved_rate": round(achieved, 1),
        "achieved": achieved >= HELD * rate,
    }


def rounds(
    settings: KafkaSettings, rates: Sequence[int], seconds: float, warm_up_s: float, home: Path
) -> dict[str, list[dict[str, Any]]]:
    """Every rate in every mode, one after the other; which mode comes first alternates. Before them, a run that warms
    the broker up: it is much slower until its code is compiled.
    """
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    if warm_up_s:
        run = measure(settings, "latency", WARM_UP_RATE, warm_up_s, 0.0, home / "warm-up")
        say(f"warm-up: {line('latency', run)}")
    for number, rate in enumerate(rates):
        for mode in list(MODES) if number % 2 == 0 else reversed(MODES):
            folder = home / f"{mode.replace('_', '-')}-{rate}"
            found[mode].append(measure(settings, mode, rate, seconds, warm_up_s, folder))
            say(line(mode, found[mode][-1]))
    return found


def cost(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """By how much exactly once takes longer, by rate; not for a rate that one of both did not hold."""
    return [
        {"rate": ours["rate"], **{key: round(ours[key] - other[key], 2) for key in ("p50_ms", "p99_ms")}}
        for ours, other in zip(found["latency"], found["at_least_once"], strict=True)
        if ours["achieved"] and other["achieved"]
    ]


def draw(found: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """The figures as a picture for the documentation."""
    words = {"latency": "exactly once", "at_least_once": "at least once"}
    bars = {
        f"{key.removesuffix('_ms')}, {words[mode]}": [
            (f"{run['rate']:,} events/s", run[key])
            # What waits for a worker that is too slow is as long as one likes.
            for run in runs
            if run["achieved"]
        ]
        for key in ("p50_ms", "p99_ms")
        for mode, runs in found.items()
    }
    if any(bars.values()):
        bar_chart(folder / "latency.svg", "From an event to its action", "", "ms", bars)


def line(mode: str, run: dict[str, Any]) -> str:
    """One run for a person."""
    held = "" if run["achieved"] else f"  NOT HELD: only {run['achieved_rate']:,.0f}/s came out"
    return (
        f"{'exactly once' if mode == 'latency' else 'at least once':13} {run['rate']:>6,}/s: p50 {run['p50_ms']:.1f}, "
        f"p99 {run['p99_ms']:.1f}, p99.9 {run['p999_ms']:.1f}, max {run['max_ms']:.1f} ms of {run['events']:,} events "
        f"(worker {run['worker_cores']} cores, load before {run['load_1m']}){held}"
    )


def rates_of(text: str) -> list[int]:
    """Rates from the command line, ascending."""
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 1:
        raise argparse.ArgumentTypeError(f"expected events per second of at least 1, got {text}")
    return found


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = command_line("latency", __doc__)
    parser.add_argument("--rates", type=rates_of, default=list(RATES), help="events/s (100,1000,5000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds that count, of each rate (20)")
    parser.add_argument(
        "--warm-up", type=float, default=10.0, help="seconds at the rate that do not count (10)"
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print, draw; returns the exit code."""
    asked = arguments()
    # Its pauses are not the worker's.
    gc.disable()
    with grounds() as (settings, home):
        about = {"machine": report.machine(), "versions": report.versions(settings)}
        found = rounds(settings, asked.rates, asked.seconds, asked.warm_up, home)
    if asked.plot is not None:
        draw(found, asked.plot)
    told = {
        **found,
        "cost": cost(found),
        "seconds": asked.seconds,
        "warm_up_s": asked.warm_up,
        "partitions": PARTITIONS,
        "definition": DEFINITION,
        **about,
    }
    lines = [line(mode, run) for mode, runs in found.items() for run in runs]
    print(json.dumps(told) if asked.json else "\n".join([*lines, f"A figure is {DEFINITION}."]))
    return 0


if __name__ == "__main__":
    sys.exit(run_program("latency", main))
