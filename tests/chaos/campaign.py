"""The long campaign: a seed and minutes come in, episodes of faults are played, a report goes out.

    python -m tests.chaos.campaign --seed 1 --minutes 30 --report chaos-report.json

Exit code 1 when an invariant was broken; what an episode left behind is then kept.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.brokers import Brokers, Single, Three
from tests.chaos.checker import Findings
from tests.chaos.episode import Outcome, play
from tests.chaos.faults import FAULTS, ON_THREE

RATE = 250
# How often each fault is played in a round; one that is not named here, once.
WEIGHTS = {"killed at random": 9, "frozen": 2, "storm": 2}
# Three minutes without a broker take five with what comes before and after: in a shorter campaign it is twenty seconds.
LONG_MINUTES = 10


@dataclass
class Campaign:
    """What is to be played, and what came of it."""

    seed: int
    minutes: float
    home: Path
    only: Sequence[str] = ()
    outcomes: list[Outcome] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def schedule(self) -> Iterator[str]:
        """Fault after fault, each round in an order that the seed decides."""
        random = Random(self.seed)
        while True:
            turn = [
                name
                for name in FAULTS
                if name in self.only or not self.only
                for _ in range(WEIGHTS.get(name, 1))
            ]
            random.shuffle(turn)
            yield from turn

    def run(self, episode: int | None = None) -> None:
        """Play until the time is over, or just one episode of the schedule."""
        deadline = time.monotonic() + self.minutes * 60
        with ExitStack() as stack:
            single = Single(self.home / "broker")
            stack.callback(single.stop)
            for number, name in enumerate(self.schedule()):
                if episode is not None and number != episode:
                    continue
                if name in ON_THREE:
                    with ExitStack() as other:
                        three = Three(self.home / f"cluster-{number}")
                        other.callback(three.stop)
                        self.play(three, name, number)
                else:
                    self.play(single, name, number)
                if episode is not None or time.monotonic() > deadline:
                    return

    def play(self, brokers: Brokers, name: str, number: int) -> None:
        """Play one episode and say in one line what came of it."""
        home = self.home / f"episode-{number}"
        try:
            outcome = play(
                brokers,
                FAULTS[name],
                name,
                home,
                f"{self.seed}/{number}",
                number,
                rate=RATE,
                brief=name == "broker away" and self.minutes < LONG_MINUTES,
            )
        except Exception as error:  # noqa: BLE001 - an episode that cannot be played is a finding, too
            found = Findings(
                violations=[f"0. the episode could not be played: {type(error).__name__}: {error}"]
            )
            outcome = Outcome(name, number, findings=found, folder=str(home))
        self.outcomes.append(outcome)
        kills = sum(each.kills for each in self.outcomes)
        elapsed = (datetime.now(UTC) - self.started).total_seconds()
        word = "ok" if not outcome.findings.violations else "VIOLATED"
        say(
            f"{elapsed / 60:5.1f} min  episode {number:<3} {name:<32} {outcome.seconds:5.1f} s  {outcome.kills:3} kills"
            f" ({kills} in all)  {outcome.findings.records_checked:>7,} records  {word}"
        )
        for line in outcome.findings.violations:
            say(f"    {line}")
        if outcome.findings.violations:
            say(f'    again: make chaos SEED={self.seed} ARGS="--episode {number}"; its files: {home}')

    def report(self) -> dict[str, Any]:
        """The figures."""
        per_fault: dict[str, Counter[str]] = defaultdict(Counter)
        exits: Counter[str] = Counter()
        for each in self.outcomes:
            per_fault[each.fault] += Counter(
                episodes=1,
                injected=each.strikes,
                kills=each.kills,
                records_checked=each.findings.records_checked,
                violations=len(each.findings.violations),
            )
            exits += each.exits
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "started": self.started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "episodes": len(self.outcomes),
            "faults_injected": sum(each.strikes for each in self.outcomes),
            "kills": sum(each.kills for each in self.outcomes),
            "records_published": sum(each.published for each in self.outcomes),
            "records_checked": sum(each.findings.records_checked for each in self.outcomes),
            "duplicates": sum(each.findings.duplicates for each in self.outcomes),
            "losses": sum(each.findings.losses for each in self.outcomes),
            "violations": sum(len(each.findings.violations) for each in self.outcomes),
            "faults": {name: dict(counts) for name, counts in sorted(per_fault.items())},
            "not_played": sorted(FAULTS.keys() - per_fault.keys()),
            "exits": dict(exits.most_common()),
            "broken": [
                {
                    "episode": each.number,
                    "fault": each.fault,
                    "what": each.findings.violations,
                    "folder": each.folder,
                }
                for each in self.outcomes
                if each.findings.violations
            ],
            "versions": versions(),
            "machine": machine(),
        }


def versions() -> dict[str, str]:
    """What was tested."""
    packages = ("faust-streaming", "aiokafka", "rocksdict", "confluent-kafka")
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "midstream": described or "not a git checkout",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def machine() -> dict[str, object]:
    """Where."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"system": platform.platform(), "cores": os.cpu_count(), "memory_gb": round(pages / 1e9, 1)}


def in_words(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"Chaos campaign, seed {report['seed']}: {report['episodes']} episodes.",
        f"From {report['started']} to {report['ended']}, on {report['machine']['cores']} cores.",
        f"Faults injected: {report['faults_injected']:,}. Workers killed with SIGKILL: {report['kills']:,}.",
        f"Records checked: {report['records_checked']:,}.",
        "",
        f"{'fault':<34}{'episodes':>9}{'injected':>9}{'kills':>7}{'records':>12}{'violations':>11}",
    ]
    for name, counts in report["faults"].items():
        row = [
            counts.get(key, 0) for key in ("episodes", "injected", "kills", "records_checked", "violations")
        ]
        lines.append(f"{name:<34}{row[0]:>9}{row[1]:>9}{row[2]:>7}{row[3]:>12,}{row[4]:>11}")
    if report["not_played"]:
        lines.append(f"Not played, for want of time: {', '.join(report['not_played'])}.")
    if report["exits"]:
        lines += ["", "Workers that ended themselves, and were started again:"]
        lines += [f"  {count:>4}  {why}" for why, count in report["exits"].items()]
    lines += [
        "",
        f"Duplicates: {report['duplicates']}. Losses: {report['losses']}. Violations: {report['violations']}.",
    ]
    return "\n".join(lines)


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Run a campaign; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="chaos", description="Faults on a real broker and real workers, checked."
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="decides the order of faults and what is chance in each"
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="no episode begins after that")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of words")
    parser.add_argument("--report", type=Path, help="write the report as JSON here")
    parser.add_argument(
        "--only", action="append", default=[], choices=sorted(FAULTS), help="play just this fault"
    )
    parser.add_argument("--episode", type=int, help="play just this episode of the seed's schedule")
    given = parser.parse_args(words)
    # To be told to stop is to be interrupted: workers and brokers are ended on the way out.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    campaign = Campaign(given.seed, given.minutes, Path(tempfile.mkdtemp(prefix="chaos-")), given.only)
    interrupted = False
    try:
        campaign.run(given.episode)
    except KeyboardInterrupt:
        interrupted = True
        say("interrupted: workers and brokers are ended")
    report = campaign.report()
    if given.report is not None:
        given.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report) if given.json else in_words(report), flush=True)
    if not report["violations"]:
        shutil.rmtree(campaign.home, ignore_errors=True)
    return 130 if interrupted else int(report["violations"] > 0)


if __name__ == "__main__":
    sys.exit(main())
