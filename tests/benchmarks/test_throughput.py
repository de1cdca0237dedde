"""The benchmark does what its report says: both sides on one broker, every output counted, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from benchmarks.throughput import Contender, Run, contenders, in_turn, summary
from streams.settings import KafkaSettings

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.throughput", "--json", "--rounds=1", "--no-warm-up"]


def start(kafka: KafkaSettings, folder: Path, *more: str) -> subprocess.Popen[str]:
    """The benchmark as a process on the suite's broker, with its files in `folder`: a killed one leaves them."""
    environment = {**os.environ, "KAFKA_BOOTSTRAP": str(kafka.bootstrap), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [*COMMAND, *more],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def topics_of(kafka: KafkaSettings, pid: int) -> list[str]:
    """The topics that the benchmark with process id `pid` has on the broker."""
    admin = AdminClient({**kafka.librdkafka_options()})
    return [name for name in admin.list_topics(timeout=10).topics if name.startswith(f"bench-{pid}-")]


def contenders_of(pid: int) -> list[int]:
    """The process ids of what the benchmark has started: the task on their command line carries its id."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f'"bench-{pid}-' in entry.read_text(errors="replace"):
                found.append(int(entry.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_tiny_run_reports_both_sides_with_every_output_counted(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    process = start(kafka, tmp_path, "--events=5000", "--faust-events=1000", "--full")
    answer, progress = process.communicate(timeout=220)
    assert process.returncode == 0, progress
    report = json.loads(answer)
    assert (report["rounds"], report["events"], report["faust_events"]) == (1, 5000, 1000)
    assert report["ratio_faust"] == pytest.approx(report["midstream_eos"] / report["faust_eos"], abs=0.01)
    assert min(report[name] for name in ("midstream_eos", "faust_eos", "midstream_full")) > 0
    assert [(run["contender"], run["outputs"]) for run in report["runs"]] == [
        ("midstream_eos", 5000),
        ("faust_eos", 1000),
        ("midstream_full", 5000),
    ]
    assert {"definition", "load", "machine", "versions", "spread", "cpu_us_per_event"} <= report.keys()
    assert report["versions"]["faust-streaming"] == "0.15.3"
    assert topics_of(kafka, process.pid) == []
    assert contenders_of(process.pid) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.broker
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_leaves_no_process(
    kafka: KafkaSettings, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    # More than it can do before the signal comes.
    process = start(kafka, tmp_path, "--events=100000")
    try:
        wait_for(lambda: contenders_of(process.pid) != [], 60)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == code
        wait_for(lambda: contenders_of(process.pid) == [], 20)
        # A killed one cannot tidy up; a stopped one does.
        if number != signal.SIGKILL:
            assert topics_of(kafka, process.pid) == []
            assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until `condition` holds."""
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "not within the time"
        time.sleep(0.05)


def a_run(contender: str, number: int, events_per_s: float, cpu_us: float = 1.0, cores: float = 0.95) -> Run:
    return Run(contender, number, 10, 1.0, events_per_s, cpu_us, cores, 1, 10, 0.0)


def test_a_broker_that_is_not_there_is_one_line_and_its_own_exit_code() -> None:
    # Nothing listens on port 9.
    environment = {**os.environ, "KAFKA_BOOTSTRAP": "127.0.0.1:9"}
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "127.0.0.1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_report_is_medians_their_ratio_and_the_spread() -> None:
    ours = [
        a_run("midstream_eos", n, v, c) for n, (v, c) in enumerate([(90.0, 3.0), (10.0, 9.0), (60.0, 5.0)])
    ]
    peers = [a_run("faust_eos", n, v) for n, v in enumerate([20.0, 10.0, 30.0])]
    report = summary([*ours, *peers])
    assert (report["midstream_eos"], report["faust_eos"], report["ratio_faust"]) == (60.0, 20.0, 3.0)
    assert report["spread"]["midstream_eos"] == {"min": 10.0, "median": 60.0, "max": 90.0}
    assert report["cpu_us_per_event"]["midstream_eos"] == 5.0
    assert len(report["runs"]) == 6
    assert report["undisturbed"]


def test_a_contender_that_was_kept_waiting_is_told() -> None:
    waited = a_run("faust_eos", 1, 5.0, cores=0.3)
    report = summary([a_run("midstream_eos", 0, 90.0), a_run("faust_eos", 0, 20.0), waited])
    assert not report["undisturbed"]


def test_the_order_alternates_from_round_to_round() -> None:
    both = contenders(100, 10, full=False)
    orders = [[each.name for each in in_turn(both, number)] for number in (-1, 0, 1)]
    assert orders == [
        ["faust_eos", "midstream_eos"],
        ["midstream_eos", "faust_eos"],
        ["faust_eos", "midstream_eos"],
    ]


def test_stock_faust_gets_its_own_share_and_only_the_topics_of_the_work() -> None:
    found: dict[str, Contender] = {each.name: each for each in contenders(100, 10, full=True)}
    assert list(found) == ["midstream_eos", "faust_eos", "midstream_full"]
    assert (found["faust_eos"].events, found["faust_eos"].roles) == (10, ("events", "changes"))
    assert (found["midstream_full"].source, found["midstream_full"].events) == ("raw", 100)
