"""benchmarks/latency.py: a real worker in both modes, every action counted; figures of the time that counts alone."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from benchmarks.latency import cost, draw, line, rates_of, summary
from benchmarks.probe import Heard
from streams.settings import KafkaSettings

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.latency", "--json"]
S = 1_000_000_000


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_short_run_reports_both_modes_with_every_action_counted(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    files, images = tmp_path / "files", tmp_path / "images"
    files.mkdir()
    done = subprocess.run(
        [*COMMAND, "--rates=50", "--seconds=2", "--warm-up=0.5", f"--plot={images}"],
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP": str(kafka.bootstrap), "TMPDIR": str(files)},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for mode in ("latency", "at_least_once"):
        [run] = told[mode]
        assert (run["rate"], 90 <= run["events"] <= 101) == (50, True)
        assert 0 < run["p50_ms"] <= run["p99_ms"] <= run["p999_ms"] <= run["max_ms"]
    assert {"machine", "versions", "definition", "cost"} <= told.keys()
    left = AdminClient({**kafka.librdkafka_options()}).list_topics(timeout=10).topics
    assert [name for name in left if name.startswith("latency-")] == []
    assert list(files.iterdir()) == []
    held = any(told[mode][0]["achieved"] for mode in ("latency", "at_least_once"))
    assert [path.name for path in images.glob("*")] == (["latency.svg"] if held else [])


def test_what_was_sent_in_the_time_that_counts_is_measured_and_nothing_else() -> None:
    heard = [
        # Of the warm-up, but received in the time that counts.
        Heard(0, 0, 11 * S),
        *(Heard(1 + number, 10 * S + number, 10 * S + number + 5_000_000) for number in range(98)),
        Heard(99, 11 * S, 11 * S + 9_000_000),
        # Received too late for the rate.
        Heard(100, 11 * S, 21 * S),
    ]
    found = summary(10, heard, 10 * S, 20 * S)
    assert (found["events"], found["p50_ms"], found["p99_ms"], found["max_ms"]) == (100, 5.0, 9.0, 10_000.0)
    assert (found["achieved_rate"], found["achieved"]) == (10.0, True)


def a_run(rate: int, p50_ms: float, achieved: bool = True) -> dict[str, Any]:
    return {
        "rate": rate,
        "p50_ms": p50_ms,
        "p99_ms": 2 * p50_ms,
        "p999_ms": 3 * p50_ms,
        "max_ms": 4 * p50_ms,
        "events": 100,
        "achieved_rate": rate / (1 if achieved else 2),
        "achieved": achieved,
        "worker_cores": 0.5,
        "load_1m": 0.1,
    }


def test_a_rate_that_was_not_held_is_said_and_not_compared(tmp_path: Path) -> None:
    found = {
        "latency": [a_run(100, 12.0), a_run(5000, 900.0, achieved=False)],
        "at_least_once": [a_run(100, 7.5), a_run(5000, 20.0)],
    }
    assert cost(found) == [{"rate": 100, "p50_ms": 4.5, "p99_ms": 9.0}]
    assert "NOT HELD: only 2,500/s came out" in line("latency", found["latency"][1])
    assert "NOT HELD" not in line("latency", found["latency"][0])
    draw(found, tmp_path)
    drawn = (tmp_path / "latency.svg").read_text()
    assert "p99, exactly once" in drawn
    assert ">900<" not in drawn


def test_rates_are_positive_numbers() -> None:
    assert rates_of("1000,100,1000") == [100, 1000]
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1, got 0"):
        rates_of("0")
