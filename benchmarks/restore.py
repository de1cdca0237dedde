"""How fast is a lost disk restored, and how soon after kill -9 is there output again? Our lane beside stock Faust.

    python -m benchmarks.restore [--json] [--rows N] [--faust-rows N] [--rounds N] [--kills N] [--plot FOLDER]

Back of the envelope, two cores with the broker on them: fetching is 0.4 µs a record of 300 B, decoding 0.3, RocksDB
1.3, so 400,000/s; stock Faust is 140 µs, 7,000/s. A worker starts in 1 s, fences, joins its group and seeks
in 1 s: 2 s from kill -9 to the next committed output. All of it takes two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from aiokafka.admin import NewTopic
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from benchmarks import load
from benchmarks.broker import fresh_topics
from benchmarks.payments import payments
from benchmarks.peers.faust_restore import changelog
from benchmarks.plot import bar_chart
from benchmarks.program import command_line, grounds, positive, say
from benchmarks.program import run as run_program
from streams import kafka
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.topics import CHANGES, RAW, Topic, topics

ROOT = Path(__file__).parents[1]
ROW_BYTES = 300
# A quarter of the rows have a timer, which a restore brings back too.
TIMERS = 4
PER_TRANSACTION = 4000
PARTITIONS = 4
LOAD_PER_S = 1000
WITHIN_S = 60.0


def row(number: int) -> bytes:
    """A row as an entity's changelog has it."""
    body = {"state": {"payments": number, "total": number * 17}, "version": number, "note": ""}
    text = json.dumps(body)
    return (text[:-2] + "x" * (ROW_BYTES - len(text)) + '"}').encode()


async def fill(settings: KafkaSettings, topic: str, rows: int) -> None:
    """Write `rows` rows of as many entities, in no order, as a lane does: what compaction leaves of any changelog."""
    numbers = list(range(rows))
    Random(1).shuffle(numbers)
    producer = kafka.transactional_producer(settings.client_options(), topic, 60_000, 900_000)
    await producer.start()
    try:
        for start in range(0, rows, PER_TRANSACTION):
            await producer.begin_transaction()
            batch = producer.create_batch()
            waiting = []
            for number in numbers[start : start + PER_TRANSACTION]:
                record: dict[str, Any] = {
                    "key": b"account:cust-%d" % number,
                    "value": row(number),
                    "timestamp": None,
                    "headers": [("ms_due", b"%d" % (load.FIRST_MS + number))] if number % TIMERS == 0 else [],
                }
                if batch.append(**record) is None:
                    batch.close()
                    waiting.append(await producer.send_batch(batch, topic, partition=0))
                    batch = producer.create_batch()
                    batch.append(**record)
            batch.close()
            waiting.append(await producer.send_batch(batch, topic, partition=0))
            await asyncio.gather(*waiting)
            await producer.commit_transaction()
    finally:
        await producer.stop()


def ours(settings: KafkaSettings, rows: int, rounds: int, home: Path) -> list[dict[str, Any]]:
    """Restore the same changelog `rounds` times, each in a process of its own with an empty disk."""
    name = f"bench-{os.getpid()}-restore"
    wanted = [Topic("rows.changelog", "", "", "", {"cleanup.policy": "compact"})]
    runs = []
    with fresh_topics(settings, name, wanted, 1):
        topic = f"{name}.rows.changelog"
        asyncio.run(fill(settings, topic, rows))
        for number in range(rounds):
            folder = home / f"lane-{number}"
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.restore_lane", topic, "0", str(folder)],
                cwd=ROOT,
                env=os.environ | {"KAFKA_BOOTSTRAP": str(settings.bootstrap)},
                stdout=subprocess.PIPE,
                check=True,
                timeout=WITHIN_S + rows / 10_000,
            )
            run = json.loads(done.stdout)
            if run["records"] != rows:
                raise RuntimeError(f"restore: expected {rows} records, got {run['records']}")
            runs.append(run)
            say(f"midstream, round {number + 1} of {rounds}: {rows / run['seconds']:,.0f} records/s")
            shutil.rmtree(folder)
    return runs


class PeerError(Exception):
    """A peer did not come to its end; the message says how it was seen."""


def peer(settings: KafkaSettings, rows: int, home: Path) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Stock Faust's run, or that it is missing and why. It hangs now and then when it joins: it has two tries."""
    reason = ""
    for number in range(2):
        folder = home / f"faust-{number}"
        folder.mkdir()
        try:
            return faust(settings, rows, folder), {}
        except PeerError as error:
            reason = str(error)
            say(f"stock Faust, try {number + 1} of 2: {reason}")
    return None, {"faust": reason}


def faust(settings: KafkaSettings, rows: int, home: Path) -> dict[str, Any]:
    """Let stock Faust recover its table.

    Raises:
        PeerError: it ended without, or not at all.
    """
    within_s = WITHIN_S + rows / 500
    name = f"bench-{os.getpid()}-faust"
    topic, figures, data = changelog(name), home / "faust.json", home / "faust-data"
    data.mkdir()
    wanted = [Topic("events", "", "", ""), Topic(topic.removeprefix(f"{name}-"), "", "", "")]
    with fresh_topics(settings, name, wanted[:1], 1):
        asyncio.run(fill_faust(settings, name, topic, rows))
        command = [
            sys.executable,
            "-m",
            "benchmarks.peers.faust_restore",
            name,
            str(settings.bootstrap),
            str(rows),
        ]
        with (home / "faust.log").open("wb") as log:
            try:
                done = subprocess.run(
                    [*command, str(data), str(figures)],
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    check=False,
                    timeout=within_s,
                )
            except subprocess.TimeoutExpired as error:
                raise PeerError(f"it had not recovered its table after {within_s:.0f} s") from error
        if done.returncode != 0:
            raise PeerError(f"it ended with {done.returncode}: {(home / 'faust.log').read_text()[-2000:]}")
    run: dict[str, Any] = json.loads(figures.read_text())
    say(f"stock Faust: {run['records'] / run['seconds']:,.0f} records/s")
    return run


async def fill_faust(settings: KafkaSettings, name: str, topic: str, rows: int) -> None:
    """Write rows of the same size to a changelog of Faust's, under its own name for it."""
    clients = settings.client_options()
    async with kafka.admin(clients) as client:
        await client.create_topics([NewTopic(topic, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    async with kafka.plain_producer(clients) as producer:
        for number in range(rows):
            body = json.dumps({"body": "x" * (ROW_BYTES - 12)}).encode()
            await producer.send(topic, body, key=b'"cust-%d"' % number, partition=0)
        await producer.flush()


class Output:
    """The committed outputs of the worker, as a consumer hears of them."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        """Listen from the end on."""
        self._reader = Consumer(
            settings.librdkafka_options()
            | {"group.id": topic, "isolation.level": "read_committed", "fetch.wait.max.ms": 5, "log_level": 2}
        )
        places = [TopicPartition(topic, number, OFFSET_END) for number in range(PARTITIONS)]
        self._reader.assign(places)

    def after(self, at_s: float) -> float:
        """Seconds from `at_s` (epoch) until an output that was made later is heard of.

        Raises:
            TimeoutError: there was none.
        """
        while time.time() < at_s + WITHIN_S:
            message = self._reader.poll(0.05)
            if message is not None and message.error() is None and message.timestamp()[1] > at_s * 1000:
                return time.time() - at_s
        raise TimeoutError(f"no output within {WITHIN_S:g} s")

    def close(self) -> None:
        """Let go."""
        self._reader.close()


@contextmanager
def publishing(settings: KafkaSettings, topic: str) -> Iterator[None]:
    """A steady load on `topic` for the block."""
    done = threading.Event()
    producer = Producer(settings.librdkafka_options() | {"linger.ms": 5, "log_level": 3})

    def publish() -> None:
        for number, record in enumerate(load.payments_load(1 << 30, RAW)):
            producer.produce(topic, record.value, record.key, headers=record.headers)
            if number % (LOAD_PER_S // 20) == 0:
                producer.poll(0)
                if done.wait(0.05):
                    return

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        producer.flush(10)


def kills(settings: KafkaSettings, static: bool, count: int, home: Path) -> list[float]:
    """Kill a worker under load and start it again at once: seconds from each kill to the next committed output."""
    plan = compile_plan(payments)
    options = ["--home", str(home), *(["--instance", "one"] if static else [])]
    command = [
        sys.executable,
        "-m",
        "streams.cli",
        "worker",
        str(ROOT / "benchmarks" / "payments.py"),
        *options,
    ]
    found = []
    home.mkdir()
    with fresh_topics(settings, plan.name, topics(plan), PARTITIONS):
        output = Output(settings, f"{plan.name}.{CHANGES}")
        with publishing(settings, f"{plan.name}.{RAW}"), (home / "worker.log").open("wb") as log:

            def start() -> subprocess.Popen[bytes]:
                environment = os.environ | {"KAFKA_BOOTSTRAP": str(settings.bootstrap)}
                return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

            worker = start()
            try:
                output.after(time.time())
                for _ in range(count):
                    # Steady again, and with a state to restore.
                    time.sleep(3)
                    output.after(time.time())
                    worker.kill()
                    killed_s = time.time()
                    worker.wait()
                    worker = start()
                    found.append(output.after(killed_s))
                    say(
                        f"kill -9 to the next output ({'static' if static else 'dynamic'}): {found[-1]:.1f} s"
                    )
            finally:
                worker.kill()
                worker.wait()
                output.close()
    return found


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = command_line("restore", __doc__)
    parser.add_argument("--rows", type=positive, default=1_000_000, help="rows in our changelog (1000000)")
    parser.add_argument("--faust-rows", type=positive, default=50_000, help="rows in stock Faust's (50000)")
    parser.add_argument("--rounds", type=positive, default=3, help="restores; the median counts (3)")
    parser.add_argument("--kills", type=positive, default=3, help="kills of a worker; the median counts (3)")
    return parser.parse_args()


def main() -> int:
    """Measure and print the report; returns the exit code."""
    asked = arguments()
    with grounds() as (settings, home):
        runs = ours(settings, asked.rows, asked.rounds, home)
        theirs, missing = peer(settings, asked.faust_rows, home)
        static = kills(settings, True, asked.kills, home / "static")
        dynamic = kills(settings, False, 1, home / "dynamic")
    report = {
        "rows_per_s": round(statistics.median(asked.rows / run["seconds"] for run in runs)),
        "faust_rows_per_s": None if theirs is None else round(theirs["records"] / theirs["seconds"]),
        "kill_to_output_s": round(statistics.median(static), 2),
        "rows": asked.rows,
        "row_bytes": ROW_BYTES,
        "rounds": asked.rounds,
        "rows_per_s_spread": [round(asked.rows / run["seconds"]) for run in runs],
        "cpu_us_per_row": round(statistics.median(run["cpu_s"] for run in runs) / asked.rows * 1e6, 2),
        "peak_rss_mb": max(run["peak_rss_bytes"] for run in runs) >> 20,
        "faust_rows": asked.faust_rows,
        "faust_whole_s": None if theirs is None else round(theirs["whole_s"], 1),
        "missing": missing,
        "kill_to_output_spread_s": [round(seconds, 2) for seconds in static],
        "kill_to_output_dynamic_s": round(dynamic[0], 2),
        "detection_s": round(max(0.0, dynamic[0] - statistics.median(static)), 2),
        "load_1m": round(os.getloadavg()[0], 2),
    }
    if asked.plot is not None:
        draw(report, asked.plot)
    print(json.dumps(report) if asked.json else lines(report))
    return 1 if missing else 0


def draw(report: dict[str, Any], folder: Path) -> None:
    """The figures as pictures for the documentation."""
    rows = [("Midstream", report["rows_per_s"]), ("stock Faust", report["faust_rows_per_s"] or 0)]
    bar_chart(folder / "restore.svg", "Changelog records restored a second", "", "records/s", {"rate": rows})
    waits = [
        ("under a fixed name", report["kill_to_output_s"]),
        ("without one", report["kill_to_output_dynamic_s"]),
    ]
    bar_chart(folder / "kill-to-output.svg", "kill -9 to the next committed output", "", "s", {"time": waits})


def lines(report: dict[str, Any]) -> str:
    """The report for a person."""
    rate = report["faust_rows_per_s"]
    theirs = f"missing ({report['missing']['faust']})" if rate is None else f"{rate:,}"
    return (
        f"restore: {report['rows_per_s']:,} records/s of {report['row_bytes']} B ({report['cpu_us_per_row']} µs of "
        f"processor time each), stock Faust {theirs}\n"
        f"kill -9 to the next committed output: {report['kill_to_output_s']} s under a fixed name, "
        f"{report['kill_to_output_dynamic_s']} s without one (of which {report['detection_s']} s until the group gives "
        f"the dead worker up)\nload of the machine: {report['load_1m']}"
    )


if __name__ == "__main__":
    sys.exit(run_program("restore", main))
