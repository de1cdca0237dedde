"""The main job as a person meets it: `midstream demo`, its figures against the oracle, killed, stopped, read again."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from examples.demo import DEFAULT_DAYS
from examples.flights_oracle import oracle

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]


def midstream(*words: str) -> list[str]:
    """The command line of `midstream words`."""
    return [sys.executable, "-m", "streams.cli", *words]


def environment() -> dict[str, str]:
    """This environment without a broker of the tester's: the demo starts its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that name `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and "streams.cli demo" not in line:
            found.append(line)
    return found


def worker_pid(folder: Path) -> int | None:
    """The pid of the demo's worker, once it runs."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"worker" in words and str(folder / "state").encode() in words:
            return int(entry.parent.name)
    return None


def wait_for(what: str, seen: Path, pattern: str, seconds: float = 90.0) -> None:
    """Wait until `pattern` stands in the file `seen`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen.exists() and re.search(pattern, seen.read_text(errors="replace")):
            return
        time.sleep(0.05)
    pytest.fail(f"no {what} within {seconds:g} s; so far: {seen.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo with duplicates and late events whose worker is killed -9 in the middle: its folder and its output."""
    out = tmp_path_factory.mktemp("demo")
    folder, output = out / "folder", out / "output.txt"
    words = ["demo", "--folder", str(folder), "--out", str(out), "--speed", "40000"]
    words += ["--duplicates", "0.05", "--displaced", "0.05", "--seed", "7"]
    with output.open("w") as stream:
        demo = subprocess.Popen(midstream(*words), cwd=ROOT, stdout=stream, stderr=stream, env=environment())
        try:
            wait_for("event in the middle of the play", output, r"2013-02-0[89]T")
            pid = worker_pid(folder)
            assert pid is not None, "no worker runs in the middle of the play"
            os.kill(pid, signal.SIGKILL)
            code = demo.wait(180)
        finally:
            demo.kill()
    assert code == 0, output.read_text()
    return out, output.read_text()


def test_the_figures_are_the_oracles(played: tuple[Path, str]) -> None:
    out, _ = played
    summary = json.loads((out / "demo-summary.json").read_text())
    expected = oracle(*DEFAULT_DAYS)
    totals = expected.totals()
    swaps = totals.pop("swap_aircraft")
    assert summary["flights_by_status"] == expected.flights_by_status
    assert summary["actions_by_name"] == {name: count for name, count in totals.items() if count}
    assert summary["decisions_by_name"]["rebook"] == totals["rebook"]
    assert summary["reviews_open"] <= swaps
    assert summary["quarantined"] == 0
    assert summary["events_published"] == summary["events_processed"] + summary["duplicates"]
    assert summary["duplicates"] > 300
    assert summary["worker_restarts"] >= 1, "the kill came too late to test anything"
    assert set(summary) >= {"snapshot", "seconds_processing", "latency_ms"}
    assert set(summary["latency_ms"]) == {"p50", "p99"}


def test_every_day_and_airport_is_the_oracles(played: tuple[Path, str]) -> None:
    import duckdb

    out, _ = played
    expected = oracle(*DEFAULT_DAYS).actions
    with duckdb.connect(str(out / "flights.duckdb"), read_only=True) as db:
        rows = db.execute(
            """
            SELECT action, CASE action WHEN 'rebook' THEN input ->> 'origin' ELSE input ->> 'airport' END AS airport,
                   CAST((CASE action WHEN 'rebook' THEN CAST(input ->> 'scheduled_departure' AS TIMESTAMPTZ)
                                     ELSE as_of END) AT TIME ZONE 'America/New_York' AS DATE) AS day, count(*)
            FROM actions GROUP BY ALL
            """
        ).fetchall()
    found: dict[str, dict[str, dict[str, int]]] = {}
    for action, airport, day, count in rows:
        found.setdefault(action, {}).setdefault(day.isoformat(), {})[airport] = count
    assert found == {name: days for name, days in expected.items() if name in found and days}
    assert sum(sum(d.values()) for d in found["rebook"].values()) == sum(
        sum(d.values()) for d in expected["rebook"].values()
    )


def test_no_process_is_left(played: tuple[Path, str]) -> None:
    out, _ = played
    assert processes_of(out / "folder") == []


def test_kcat_and_the_console_consumer_read_the_actions_as_it_says(played: tuple[Path, str]) -> None:
    out, output = played
    if shutil.which("kcat") is None:
        if os.environ.get("MIDSTREAM_REQUIRE_KCAT"):
            pytest.fail("kcat is not installed, and MIDSTREAM_REQUIRE_KCAT asks for it")
        pytest.skip("kcat is not installed (Debian: apt-get install kcat)")
    said = output[output.index("Read the actions with another client") :]
    commands = [line.strip() for line in said.replace("\\\n", " ").splitlines() if line.startswith("  ")]
    assert len(commands) == 4, commands
    program = " ".join(shlex.quote(word) for word in midstream())
    commands = [command.replace(".venv/bin/midstream", program) for command in commands]
    start, kcat, console, stop = commands
    script = f"set -e\n{start}\n{kcat} > kcat.txt\n{console} > console.txt || true\n{stop}\n"
    run = subprocess.run(
        ["bash", "-c", script],
        cwd=out,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    summary = json.loads((out / "demo-summary.json").read_text())
    expected = sum(summary["actions_by_name"].values())
    read = (out / "kcat.txt").read_text().splitlines()
    keys = [line.split(" ", 1)[0] for line in read]
    assert len(keys) == len(set(keys)) == expected
    assert all(key.startswith("act_") for key in keys)
    printed = [line for line in (out / "console.txt").read_text().splitlines() if line.startswith("{")]
    assert len(printed) == expected


def test_ctrl_c_in_the_middle_is_a_clean_stop(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    words = ["demo", "--folder", str(tmp_path / "folder"), "--out", str(tmp_path), "--speed", "5000"]
    with output.open("w") as stream:
        demo = subprocess.Popen(midstream(*words), cwd=ROOT, stdout=stream, stderr=stream, env=environment())
        try:
            wait_for("event", output, r"2013-02-0\dT")
            demo.send_signal(signal.SIGINT)
            code = demo.wait(60)
        finally:
            demo.kill()
    text = output.read_text()
    assert code == 130, text
    assert "Traceback" not in text
    assert processes_of(tmp_path / "folder") == []


def test_killed_demo_leaves_nothing_running(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    words = ["demo", "--folder", str(tmp_path / "folder"), "--out", str(tmp_path), "--speed", "5000"]
    with output.open("w") as stream:
        demo = subprocess.Popen(midstream(*words), cwd=ROOT, stdout=stream, stderr=stream, env=environment())
        try:
            wait_for("event", output, r"2013-02-0\dT")
        finally:
            demo.kill()
            demo.wait()
    deadline = time.monotonic() + 45
    while processes_of(tmp_path / "folder") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(tmp_path / "folder") == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--from", "2012-01-01"], "--from"),
        (["--duplicates", "1.5"], "--duplicates"),
        (["--from", "2013-02-10", "--to", "2013-02-07"], "--from"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(tmp_path: Path, words: list[str], named: str) -> None:
    command = midstream("demo", "--folder", str(tmp_path / "folder"), "--out", str(tmp_path), *words)
    run = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode not in (0, 1)
    assert named in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_the_default_days_are_the_blizzard() -> None:
    assert (date(2013, 2, 7), date(2013, 2, 7) + timedelta(days=3)) == DEFAULT_DAYS
