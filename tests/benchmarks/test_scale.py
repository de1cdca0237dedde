"""The scaling benchmark does what its report says: real workers, every output counted, nothing left behind."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from benchmarks.scale import Run, draw, numbers, report, table
from streams.settings import KafkaSettings

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.scale", "--json"]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_tiny_run_reports_a_rate_for_each_number_of_processes(kafka: KafkaSettings, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--rounds=1", "--no-warm-up", "--events=4000", "--processes=1,2"],
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP": str(kafka.bootstrap), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told["rate_by_processes"]) == ["1", "2"]
    assert min(told["rate_by_processes"].values()) > 0
    assert (told["rounds"], told["events"], told["speed_up"]["1"]) == (1, 4000, 1.0)
    assert {"machine", "definition", "spread", "runs"} <= told.keys()
    left = AdminClient({**kafka.librdkafka_options()}).list_topics(timeout=10).topics
    assert [name for name in left if name.startswith("scale-")] == []
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_medians_by_number_of_processes_and_their_multiples() -> None:
    runs = [
        Run(processes, number, 10, 1.0, rate, 0.5 + number)
        for processes, rates in ((1, (90.0, 100.0, 110.0)), (2, (150.0, 190.0, 170.0)))
        for number, rate in enumerate(rates)
    ]
    told = report(runs)
    assert told["rate_by_processes"] == {"1": 100.0, "2": 170.0}
    assert told["speed_up"] == {"1": 1.0, "2": 1.7}
    assert told["spread"]["2"] == {"min": 150.0, "max": 190.0}
    assert (told["rounds"], told["machine"]["load_1m"]) == (3, 2.5)
    assert "        2         170         150         190      1.70" in table(told)


def test_the_curve_is_drawn_beside_the_one_in_proportion(tmp_path: Path) -> None:
    draw(report([Run(2, 0, 10, 1.0, 100.0, 0.5), Run(4, 0, 10, 1.0, 150.0, 0.5)]), tmp_path)
    drawn = (tmp_path / "scale.svg").read_text()
    assert ">measured<" in drawn
    # Twice as many processes, up to twice the rate.
    assert ">200<" in drawn


def test_numbers_of_processes_are_between_one_and_a_process_per_lane() -> None:
    assert numbers("1,2,8") == [1, 2, 8]
    for wrong in ("0", "9"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected numbers from 1 to 8"):
            numbers(wrong)
