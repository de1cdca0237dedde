"""Does a worker's memory stay flat? A steady load for an hour, and what the worker holds meanwhile.

    python -m benchmarks.soak [--json] [--minutes N] [--rate N] [--plot FOLDER]

The collector is off while batches run (streams/lanes.py): what it would have found must not pile up. The keys are few
and come again and again, so after a warm-up nothing has a reason to grow.

Back of the envelope: a leak of one object of 100 B an event, at 500 events a second, would be 180 MB in an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import linear_regression
from typing import Any, NamedTuple

from benchmarks import report
from benchmarks.alerts import alerts
from benchmarks.broker import fresh_topics
from benchmarks.contender import Task, running
from benchmarks.plot import line_chart
from benchmarks.probe import Listener, Sender, check_once_each
from benchmarks.program import command_line, grounds, positive, say
from benchmarks.program import run as run_program
from streams.plan import compile_plan
from streams.topics import ACTIONS, RAW, topics

PARTITIONS = 4
SAMPLE_S = 10.0
START_S = 90.0
DRAIN_S = 120.0
# So much of the time, at the beginning, is not looked at: tables, buffers and caches fill.
WARM_UP_SHARE = 0.25
# So many events before all others: enough for every partition.
FIRST = 64


class Sample(NamedTuple):
    """What the worker held (resident), so many seconds after the load began."""

    at_s: float
    rss_mb: float


def soak(rate: int, minutes: float) -> tuple[list[Sample], int]:
    """Load for so long; returns the samples and how many events went in, each of which had its action.

    Raises:
        ProbeError: an event had no action, or several.
        ContenderError: the worker ended.
    """
    with grounds() as (settings, home):
        name = f"soak-{os.getpid()}"
        source, output = f"{name}.{RAW}", f"{name}.{ACTIONS}"
        task = Task(name, str(settings.bootstrap), RAW, source, output, 0, PARTITIONS, str(home / "worker"))
        samples: list[Sample] = []
        with (
            fresh_topics(settings, name, topics(replace(compile_plan(alerts), name=name)), PARTITIONS),
            Listener(settings, output, PARTITIONS) as listener,
            running([sys.executable, "-m", "benchmarks.alert_worker"], task) as process,
        ):
            sender = Sender(settings, source, PARTITIONS)
            for _ in range(FIRST):
                sender.send()
            listener.wait(FIRST, START_S, process.check)
            began_s = time.monotonic()

            def look() -> None:
                process.check()
                now_s = time.monotonic() - began_s
                if len(samples) * SAMPLE_S <= now_s:
                    samples.append(Sample(round(now_s, 1), round((process.rss_bytes() or 0) / 1e6, 1)))
                    if len(samples) % 30 == 1:
                        say(f"{now_s / 60:5.1f} of {minutes:g} min: {samples[-1].rss_mb:.0f} MB")

            sender.at_pace(rate, minutes * 60, look)
            sender.flush()
            listener.wait(sender.sent, DRAIN_S, process.check)
            check_once_each(listener.heard, sender.sent)
    return samples, sender.sent


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Where the memory stood after the warm-up and at the end, and by how much it grew an hour between the two."""
    settled = samples[int(len(samples) * WARM_UP_SHARE) :]
    line = linear_regression([each.at_s for each in settled], [each.rss_mb for each in settled])
    return {
        "rss_mb_after_warm_up": settled[0].rss_mb,
        "rss_mb_at_the_end": settled[-1].rss_mb,
        "rss_mb_highest": max(each.rss_mb for each in samples),
        "growth_mb_per_hour": round(line.slope * 3600, 1),
    }


def words(told: dict[str, Any]) -> str:
    """The report for a person."""
    return (
        f"{told['minutes']:g} minutes at {told['rate']:,} events/s ({told['events']:,} events, one action each): "
        f"{told['rss_mb_after_warm_up']:.0f} MB after the warm-up, {told['rss_mb_at_the_end']:.0f} MB at the end, "
        f"{told['growth_mb_per_hour']:+.1f} MB an hour"
    )


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = command_line("soak", __doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--rate", type=positive, default=500, help="events a second (500)")
    return parser.parse_args()


def main() -> int:
    """Load, look, print, draw; returns the exit code."""
    asked = arguments()
    samples, events = soak(asked.rate, asked.minutes)
    told = {
        **summary(samples),
        "minutes": asked.minutes,
        "rate": asked.rate,
        "events": events,
        "samples": [list(each) for each in samples],
        "machine": report.machine(),
    }
    if asked.plot is not None:
        curve = {"resident memory": [(each.at_s / 60, each.rss_mb) for each in samples]}
        title = f"A worker's memory at {asked.rate:,} events a second"
        line_chart(asked.plot / "soak.svg", title, "minutes", "MB", curve)
    print(json.dumps(told) if asked.json else words(told))
    return 0


if __name__ == "__main__":
    sys.exit(run_program("soak", main))
