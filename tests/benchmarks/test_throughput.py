"""The benchmark does what its report says: one broker, every output counted, nothing left behind."""

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

from benchmarks import peer_env
from benchmarks.roster import CONTENDERS, chosen
from benchmarks.throughput import own_topics, starters
from streams.settings import KafkaSettings

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.throughput", "--json", "--rounds=1", "--no-warm-up"]
OURS = "--contenders=midstream_eos,midstream_full"


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
    return [name for name in admin.list_topics(timeout=10).topics if f"bench-{pid}-" in name]


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


def check_a_tiny_run(kafka: KafkaSettings, folder: Path, names: list[str]) -> None:
    """Run it with a few events and look at what it says and leaves."""
    process = start(kafka, folder, "--events=5000", f"--contenders={','.join(names)}")
    answer, progress = process.communicate(timeout=400)
    assert process.returncode == 0, progress
    report = json.loads(answer)
    assert (report["rounds"], report["events"], report["missing"]) == (1, 5000, {})
    assert [(run["contender"], run["output_events"]) for run in report["runs"]] == [
        (name, 5000) for name in reversed(names)
    ]
    for contender in CONTENDERS:
        figure = report[contender.name]
        assert figure > 0 if contender.name in names else figure is None
    assert {"definition", "load", "machine", "versions", "spread", "cpu_us_per_event"} <= report.keys()
    wait_for(lambda: topics_of(kafka, process.pid) == [], 10)
    assert contenders_of(process.pid) == []
    assert list(folder.iterdir()) == []


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_tiny_run_reports_our_lanes_with_every_output_counted(kafka: KafkaSettings, tmp_path: Path) -> None:
    check_a_tiny_run(kafka, tmp_path, ["midstream_eos", "midstream_full"])


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(900)
def test_a_tiny_run_of_every_peer(kafka: KafkaSettings, tmp_path: Path) -> None:
    check_a_tiny_run(kafka, tmp_path, [each.name for each in CONTENDERS if each.toolchain != "ours"])


@pytest.mark.broker
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_leaves_no_process(
    kafka: KafkaSettings, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    # More than it can do before the signal comes.
    process = start(kafka, tmp_path, "--events=200000", OURS)
    try:
        wait_for(lambda: contenders_of(process.pid) != [], 60)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == code
        wait_for(lambda: contenders_of(process.pid) == [], 20)
        # A killed one cannot tidy up; a stopped one does. The broker takes a moment to forget what it has deleted.
        if number != signal.SIGKILL:
            wait_for(lambda: topics_of(kafka, process.pid) == [], 10)
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


def test_a_broker_that_is_not_there_is_one_line_and_its_own_exit_code() -> None:
    # Nothing listens on port 9.
    environment = {**os.environ, "KAFKA_BOOTSTRAP": "127.0.0.1:9"}
    done = subprocess.run(
        [*COMMAND, OURS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 69
    assert "127.0.0.1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_unknown_contender_is_a_mistake_of_the_command_line() -> None:
    done = subprocess.run(
        [*COMMAND, "--contenders=flink"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no contender 'flink': expected some of midstream_eos" in done.stderr


def test_a_peer_without_its_toolchain_is_missing_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_java(say: object) -> Path:
        raise peer_env.UnavailableError("kafka_streams: mvn is not on PATH.")

    monkeypatch.setattr(peer_env, "java_program", no_java)
    ready, missing = starters(chosen("midstream_eos,kafka_streams_eos"))
    assert [each.contender.name for each in ready] == ["midstream_eos"]
    assert missing == {"kafka_streams_eos": "kafka_streams: mvn is not on PATH."}


def test_a_peer_gets_the_output_topic_and_we_all_but_the_one_that_everybody_reads() -> None:
    [ours, full, peer] = chosen("midstream_eos,midstream_full,quix_eos")
    assert [topic.role for topic in own_topics(peer, "x")] == ["changes"]
    roles = {each.name: {topic.role for topic in own_topics(each, "x")} for each in (ours, full)}
    assert "raw" in roles["midstream_eos"] - roles["midstream_full"]
    assert "events" in roles["midstream_full"] - roles["midstream_eos"]
