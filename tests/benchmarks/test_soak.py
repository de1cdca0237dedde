"""The soak says by how much memory grew, and every event of it had its action."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import Sample, summary, words
from streams.settings import KafkaSettings

ROOT = Path(__file__).parents[2]


def test_growth_is_that_after_the_warm_up() -> None:
    # 100 MB more while caches fill, in the first quarter; from then on a tenth of a megabyte every ten seconds.
    filling = [Sample(at_s, 100.0 + 10.0 * at_s / 10) for at_s in range(0, 100, 10)]
    samples = [*filling, *(Sample(at_s, 200.0 + at_s / 100) for at_s in range(100, 400, 10))]
    told = summary(samples)
    assert told["growth_mb_per_hour"] == 36.0
    assert (told["rss_mb_after_warm_up"], told["rss_mb_at_the_end"]) == (201.0, 203.9)
    assert told["rss_mb_highest"] == 203.9
    line = words(told | {"minutes": 60.0, "rate": 500, "events": 1_800_000})
    assert "60 minutes at 500 events/s (1,800,000 events, one action each)" in line
    assert line.endswith("+36.0 MB an hour")


def test_memory_that_is_given_back_is_less_than_nothing() -> None:
    assert summary([Sample(at_s, 300.0 - at_s) for at_s in range(0, 100, 10)])["growth_mb_per_hour"] == -3600


@pytest.mark.broker
@pytest.mark.slow
def test_it_runs_and_says_what_the_worker_held(kafka: KafkaSettings, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.soak",
            "--json",
            "--minutes=0.5",
            "--rate=50",
            f"--plot={tmp_path}",
        ],
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP": str(kafka.bootstrap)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["events"] > 30 * 50
    assert len(told["samples"]) >= 3
    assert told["rss_mb_highest"] > 50
    assert (tmp_path / "soak.svg").exists()
