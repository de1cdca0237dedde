"""The rounds' runs -> the report: medians, ratios and spreads for a program, and a table for a person."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import load, peer_env
from benchmarks.plot import bar_chart
from benchmarks.progress import DEFINITION
from benchmarks.roster import CONTENDERS, OURS, Contender
from streams.embedded.kafka_jars import KAFKA_VERSION
from streams.settings import KafkaSettings
from streams.topics import EVENTS

PARTITIONS = 4
# Below this share of a core a contender of one thread was kept waiting by something else on the machine.
UNDISTURBED_CORES = 0.85
# A stretch of fewer seconds is hardly more than two commits of a contender that commits rarely.
ENOUGH_S = 5.0
PACKAGES = ("faust-streaming", "mode-streaming", "aiokafka", "pydantic", "rocksdict", "uvloop")
RATIOS = {
    "ratio_faust": "faust_eos",
    "ratio_quix": "quix_eos",
    "ratio_bytewax": "bytewax_recovery",
    "ratio_kafka_streams": "kafka_streams_eos",
}


@dataclass(frozen=True)
class Run:
    """One contender in one round. Rates, processor time and cores are of the part that `progress.DEFINITION` says."""

    contender: str
    round: int
    events: int
    seconds: float
    events_per_s: float
    cpu_us_per_event: float | None
    # Processor time over wall time.
    cores: float | None
    peak_rss_mb: int | None
    # Committed outputs, and how many different events they name.
    outputs: int
    output_events: int
    # The machine's load just before, to judge how quiet it was.
    load_1m: float


def summary(runs: Sequence[Run], missing: Mapping[str, str]) -> dict[str, Any]:
    """The medians by contender, our multiples of the peers, and the spread behind them.

    A contender that was not asked for has no figure and no entry in `missing`; one that has no figure although it was
    asked for stands in `missing` with the reason. Both are null.
    """
    names = list(dict.fromkeys(run.contender for run in runs if run.contender not in missing))
    per_s = {name: [run.events_per_s for run in runs if run.contender == name] for name in names}
    cpu_us = {
        name: [
            run.cpu_us_per_event for run in runs if run.contender == name and run.cpu_us_per_event is not None
        ]
        for name in names
    }
    medians = {name: statistics.median(values) for name, values in per_s.items()}
    return {
        **{contender.name: medians.get(contender.name) for contender in CONTENDERS},
        **{key: ratio(medians, peer) for key, peer in RATIOS.items()},
        "spread": {
            name: {"min": min(values), "median": medians[name], "max": max(values)}
            for name, values in per_s.items()
        },
        "cpu_us_per_event": {name: statistics.median(values) for name, values in cpu_us.items() if values},
        "undisturbed": undisturbed(runs),
        "too_short": sorted({run.contender for run in runs if run.seconds < ENOUGH_S}),
        "missing": dict(missing),
        "runs": [asdict(run) for run in runs],
    }


def ratio(medians: Mapping[str, float], peer: str) -> float | None:
    """How many times the peer's rate ours is; None if one of both has none."""
    if OURS not in medians or peer not in medians:
        return None
    return round(medians[OURS] / medians[peer], 2)


def undisturbed(runs: Iterable[Run]) -> bool:
    """Whether every contender that is one busy thread had nearly a whole core."""
    busy = {contender.name for contender in CONTENDERS if contender.one_thread}
    return all(
        run.cores >= UNDISTURBED_CORES for run in runs if run.contender in busy and run.cores is not None
    )


def circumstances(settings: KafkaSettings, taking_part: Sequence[Contender]) -> dict[str, Any]:
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
        "machine": machine(),
        "versions": {
            **versions(settings),
            "peers": {each.name: found for each in taking_part if (found := peer_env.versions(each))},
        },
    }


def machine() -> dict[str, Any]:
    """The machine, and how busy it was at this moment."""
    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "system": platform.platform(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def versions(settings: KafkaSettings) -> dict[str, Any]:
    """What ran here: Python, the broker as far as it is ours, our packages."""
    embedded = not os.environ.get("KAFKA_BOOTSTRAP")
    return {
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION if embedded else f"at {settings.bootstrap}",
        **{package: version(package) for package in PACKAGES},
    }


def line(run: Run) -> str:
    """One run for a person."""
    cpu = (
        "" if run.cpu_us_per_event is None else f"{run.cpu_us_per_event:.0f} µs of processor time an event, "
    )
    cores = "" if run.cores is None else f"{run.cores:.2f} cores, "
    memory = "" if run.peak_rss_mb is None else f"{run.peak_rss_mb} MB, "
    return (
        f"{run.contender}: {run.events_per_s:,.0f}/s over {run.seconds:.1f} s, {cpu}{cores}{memory}"
        f"{run.outputs:,} outputs for {run.events:,} events"
    )


def table(report: Mapping[str, Any]) -> str:
    """The report for a person."""
    machine, peers = report["machine"], report["versions"]["peers"]
    lines = [f"{'':18}{'min':>9}{'median':>9}{'max':>9}   events/s{'µs/event':>11}{'to us':>8}"]
    lines += [row(report, contender) for contender in CONTENDERS if contender.name in report["spread"]]
    if times := [f"{report[key]:.2f} × {peer}" for key, peer in RATIOS.items() if report[key] is not None]:
        lines.append(f"{OURS} is {', '.join(times)}")
    lines += [f"missing: {name}: {reason}" for name, reason in report["missing"].items()]
    lines.append(
        f"{report['rounds']} rounds of {report['events']:,} events on {machine['cpus']} cores with the broker; "
        f"load before: {machine['load_1m']}"
    )
    lines.append(f"A figure is {report['definition']}.")
    lines += [f"{name}: {', '.join(map(' '.join, found.items()))}" for name, found in peers.items()]
    if report["too_short"]:
        lines.append(
            f"Measured for less than {ENOUGH_S:.0f} s, which says little: {', '.join(report['too_short'])}. "
            f"Give them more --events."
        )
    if not report["undisturbed"]:
        lines.append(
            "Other work disturbed the runs (see cores in --json): compare the processor time, not the rates."
        )
    return "\n".join(lines)


def draw(report: Mapping[str, Any], folder: Path) -> None:
    """The medians as a picture for the documentation; nothing if there is none."""
    medians = [
        # Two lines: eight names do not fit beside each other.
        (contender.name.replace("_", "\n", 1).replace("_", " "), report[contender.name])
        for contender in CONTENDERS
        if report[contender.name] is not None
    ]
    if medians:
        title = "Stateful events a second of one worker process"
        bar_chart(folder / "throughput.svg", title, "", "events/s", {"median": medians})


def row(report: Mapping[str, Any], contender: Contender) -> str:
    """One contender's line of the table."""
    spread = report["spread"][contender.name]
    cpu_us = report["cpu_us_per_event"].get(contender.name)
    to_us = "" if report[OURS] is None else f"{spread['median'] / report[OURS]:.2f}"
    return (
        f"{contender.name:18}{spread['min']:>9,.0f}{spread['median']:>9,.0f}{spread['max']:>9,.0f}"
        f"{'' if cpu_us is None else f'{cpu_us:.0f}':>22}{to_us:>8}   {contender.about}"
    )
