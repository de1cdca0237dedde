"""The fast part of the campaign: every kind of fault once, on a pipeline of its own, with a fixed seed.

And the campaign as a program: interrupted, it reports and leaves nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import KafkaSettings
from tests.chaos.brokers import Brokers, Shared, Single, Three
from tests.chaos.episode import Episode, play
from tests.chaos.faults import FAULTS, ON_ANY, ON_THREE
from tests.support.topics import wait_until

# One xdist worker for all tests with brokers of their own: two at once would starve each other, and every other test.
pytestmark = [
    pytest.mark.broker,
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("brokers"),
]

SEED = "fast"
RATE = 200
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Single]:
    """A broker that may be killed."""
    brokers = Single(tmp_path_factory.mktemp("single"))
    yield brokers
    brokers.stop()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """Three of them."""
    brokers = Three(tmp_path_factory.mktemp("three"))
    yield brokers
    brokers.stop()


# Faults that leave the pipeline as it was can strike one after the other before it is checked.
POINTS = [name for name in ON_ANY if name.startswith("killed ") and name != "killed at random"]
EPISODES = [
    ["killed at random", "disk lost", "disk damaged", "disk full", "poison"],
    POINTS,
    *([name] for name in ("frozen", "storm", "never returns")),
    *([name] for name in ("changelog emptied", "changelog cut", "source out of range")),
]


def check_episode(brokers: Brokers, names: list[str], home: Path) -> None:
    """Play faults one after the other; fail with what they broke."""

    def faults(episode: Episode) -> None:
        for name in names:
            FAULTS[name](episode)

    outcome = play(brokers, faults, names[0], home, f"{SEED}/{names[0]}", rate=RATE, brief=True)
    assert outcome.findings.violations == [], f"{outcome} in {home}"
    assert outcome.strikes >= len(names)
    assert outcome.findings.records_checked > outcome.published > 0


@pytest.mark.parametrize("names", EPISODES, ids=lambda names: names[0])
def test_nothing_is_lost_or_doubled(kafka: KafkaSettings, tmp_path: Path, names: list[str]) -> None:
    check_episode(Shared(kafka), names, tmp_path)


def test_every_fault_has_its_episode() -> None:
    # That the broker is away for long is the same as that it was killed, and left to the long campaign.
    played = [name for names in EPISODES for name in names]

    assert sorted([*played, "broker killed", "broker away", "power cut", *ON_THREE]) == sorted(FAULTS)


def test_a_broker_that_is_gone_costs_only_time(single: Single, tmp_path: Path) -> None:
    check_episode(single, ["broker killed", "power cut"], tmp_path)


@pytest.mark.parametrize("name", ON_THREE)
def test_a_node_of_a_cluster_costs_less(three: Three, tmp_path: Path, name: str) -> None:
    check_episode(three, [name], tmp_path)


def test_an_interrupted_campaign_leaves_a_report_and_nothing_running(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["--seed=3", "--minutes=5", "--only=killed at random", f"--report={report}"]
    campaign = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.campaign", *words],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: any(tmp_path.glob("chaos-*/episode-0/*/worker.log")), "its first worker")
        campaign.send_signal(signal.SIGINT)
        out, err = campaign.communicate(timeout=60)
    finally:
        campaign.kill()

    assert (campaign.returncode, err.splitlines()[-1]) == (130, "interrupted: workers and brokers are ended")
    assert json.loads(report.read_text())["violations"] == 0
    assert "Violations: 0." in out
    assert processes_of(tmp_path) == []


def processes_of(folder: Path) -> list[str]:
    """The command lines of running processes that name `folder`."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found
