"""Stock Faust's exactly_once under kill -9: workers killed while load runs -> duplicates, losses, wrong rows.

    python -m benchmarks.stock_faust_chaos [--json] [--kills N] [--rate N] [--seed N]

Two workers of benchmarks/peers/faust_eos.py share four partitions; one of them, drawn anew each time, is killed and
started again in its folder. When all is committed at the end, librdkafka reads the outputs and the table's changelog
under read_committed, and both are held against a plain fold of the input, as far as its offsets are committed.

Back of the envelope: after a kill ten seconds pass until the group notices and as many of recovery, so ten kills take
four to six minutes.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic_core import from_json

from benchmarks import outputs, peer_env, progress
from benchmarks.broker import fresh_topics
from benchmarks.contender import Task, running
from benchmarks.load import Load, payments_load
from benchmarks.peers.work import NEW, paid
from benchmarks.program import command_line, grounds, positive, say
from benchmarks.program import run as run_program
from benchmarks.report import PARTITIONS
from benchmarks.roster import chosen
from schemas.keys import partition_of
from streams.settings import KafkaSettings
from streams.topics import CHANGES, EVENTS, Topic

WORKERS = 2
# How long a killed worker's partitions may stand still before the next one is killed all the same.
PATIENCE_S = 60.0
# Where nothing has moved for so long, nothing will: stock Faust can hang after a rebalance and look healthy.
HUNG_S = 180.0


@dataclass(frozen=True)
class Found:
    """What the run showed. `hung` says that workers stood still with `unread` events left, which are no losses."""

    kills: int
    events: int
    unread: int
    hung: bool
    records_checked: int
    duplicates: int
    losses: int
    state_wrong: int
    states: int


@dataclass
class Feeder:
    """Load at a steady rate until told to stop; what was written is what the oracle folds."""

    settings: KafkaSettings
    topic: str
    rate: int
    written: list[Load] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Write `rate` events a second until `stop`."""
        # Errors only: a broker that has just started is asked twice, which is no news.
        options = {"log_level": 3, "acks": "all", "enable.idempotence": True, "linger.ms": 5}
        producer = Producer(self.settings.librdkafka_options() | options)
        began_s = time.monotonic()
        for each in payments_load(sys.maxsize, EVENTS):
            if self.stop.wait(max(0.0, len(self.written) / self.rate - (time.monotonic() - began_s))):
                break
            partition = partition_of(each.key, PARTITIONS)
            producer.produce(self.topic, each.value, each.key, partition=partition, headers=each.headers)
            producer.poll(0)
            self.written.append(each)
        if left := producer.flush(60):
            raise RuntimeError(f"{self.topic}: {left} records were not taken by the broker within 60 s")


def fold(written: Sequence[Load]) -> dict[str, dict[str, Any]]:
    """The oracle: what every account is after these events, in their order."""
    accounts: dict[str, dict[str, Any]] = {}
    for each in written:
        key = each.key.decode()
        accounts[key] = paid(accounts.get(key, NEW), from_json(each.value))
    return accounts


def done_part(written: Sequence[Load], committed: Mapping[int, int]) -> list[Load]:
    """The events below the committed offsets: each of them must have had its effect exactly once."""
    ends: Counter[int] = Counter()
    done = []
    for each in written:
        partition = partition_of(each.key, PARTITIONS)
        if ends[partition] < committed.get(partition, 0):
            done.append(each)
        ends[partition] += 1
    return done


def judge(
    written: Sequence[Load],
    committed: Mapping[int, int],
    output_ids: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    kills: int,
) -> Found:
    """Outputs and rows against the events behind them.

    Args:
        written: the input, in order.
        committed: the offset that the group has committed for each partition.
        output_ids: the event id of each committed output.
        rows: the last committed row of each account in the changelog.
        kills: how many there were.
    """
    counted = Counter(output_ids)
    done = done_part(written, committed)
    accounts = fold(done)
    wrong = [
        key
        for key, account in accounts.items()
        if {name: rows.get(key, {}).get(name) for name in account} != account
    ]
    return Found(
        kills=kills,
        events=len(written),
        unread=len(written) - len(done),
        hung=len(done) < len(written),
        records_checked=len(output_ids) + len(accounts),
        duplicates=counted.total() - len(counted),
        losses=sum(from_json(each.value)["payment_id"] not in counted for each in done),
        state_wrong=len(wrong),
        states=len(accounts),
    )


class Crew:
    """The workers: started, killed and started again in their folders."""

    def __init__(self, command: Sequence[str], task: Task) -> None:
        """Nobody runs yet."""
        self._command, self._task = command, task
        self._running: dict[int, ExitStack] = {}

    def start(self, number: int) -> None:
        """Start worker `number`."""
        stack = ExitStack()
        stack.enter_context(
            running(self._command, replace(self._task, folder=f"{self._task.folder}/{number}"))
        )
        self._running[number] = stack

    def kill(self, number: int) -> None:
        """SIGKILL for worker `number`."""
        self._running.pop(number).close()

    def end(self) -> None:
        """SIGKILL for all."""
        for number in list(self._running):
            self.kill(number)


def done_of(ask: Callable[[], progress.Progress], before: progress.Progress) -> progress.Progress:
    """The answer, or the one before while a coordinator is away."""
    try:
        return ask()
    except KafkaException:
        return before


def wait_to_move(ask: Callable[[], progress.Progress], patience_s: float) -> progress.Progress:
    """Wait until more is committed than now, or for `patience_s`."""
    deadline_s = time.monotonic() + patience_s
    first = now = done_of(ask, progress.Progress(0, 0))
    while now.done <= first.done and time.monotonic() < deadline_s:
        time.sleep(0.2)
        now = done_of(ask, now)
    return now


def wait_for_the_end(ask: Callable[[], progress.Progress]) -> progress.Progress:
    """Wait until everything is committed, or nothing has moved for long."""
    now = done_of(ask, progress.Progress(0, 1))
    while now.done < now.total:
        before, now = now, wait_to_move(ask, HUNG_S)
        if now.done <= before.done:
            break
    return now


def campaign(settings: KafkaSettings, kills: int, rate: int, seed: int, home: Path) -> Found:
    """Workers under load, killed `kills` times; then the judgement."""
    [stock] = chosen("faust_eos")
    name = f"bench-{os.getpid()}-stock-faust"
    source, output = f"{name}.{EVENTS}", f"{name}.{CHANGES}"
    endless = sys.maxsize
    task = Task(
        name, str(settings.bootstrap), EVENTS, source, output, endless, PARTITIONS, str(home / "workers")
    )
    crew = Crew(peer_env.command(stock, say), task)
    draw = random.Random(seed)
    wanted = [Topic(role, "", "", "") for role in (EVENTS, CHANGES)]
    with fresh_topics(settings, name, wanted, PARTITIONS):
        feeder = Feeder(settings, source, rate)
        feeding = threading.Thread(target=feeder.run, daemon=True)
        ask = progress.committed(settings, name, [source], PARTITIONS)
        feeding.start()
        try:
            for number in range(WORKERS):
                crew.start(number)
            for count in range(1, kills + 1):
                # At work again after the kill before; then at any instant of the next commits.
                now = wait_to_move(ask, PATIENCE_S)
                time.sleep(draw.uniform(0.0, 6.0))
                victim = draw.randrange(WORKERS)
                crew.kill(victim)
                say(f"kill {count} of {kills}: worker {victim}; {now.done:,} events committed")
                crew.start(victim)
            feeder.stop.set()
            feeding.join()
            wait_for_the_end(ask)
        finally:
            feeder.stop.set()
            crew.end()
        ids = [from_json(value)["event_id"] for _, value in outputs.read(settings, output, PARTITIONS)]
        changelog = outputs.read(settings, f"{name}-account-changelog", PARTITIONS)
        # Faust writes the key of a table as JSON.
        rows = {str(from_json(key)): from_json(value) for key, value in changelog if key is not None}
        committed = progress.offsets(
            AdminClient({**settings.librdkafka_options(), "log_level": 3}),
            name,
            [TopicPartition(source, number) for number in range(PARTITIONS)],
        )
    return judge(feeder.written, {number: at for (_, number), at in committed.items()}, ids, rows, kills)


def words(found: Found) -> str:
    """The judgement for a person."""
    what = f"Stock Faust, exactly_once, {found.kills} × kill -9 over {found.events:,} events"
    faults = f"{found.duplicates:,} outputs doubled, {found.losses:,} missing"
    wrong = f"{found.state_wrong:,} of {found.states:,} accounts wrong"
    lines = [f"{what}: {faults}, {wrong} ({found.records_checked:,} records checked)."]
    if found.hung:
        lines.append(f"The workers stood still for {HUNG_S:.0f} s with {found.unread:,} events unread.")
    return "\n".join(lines)


def main() -> int:
    """Run the campaign and print what it found; returns the exit code, 0 whatever Faust did."""
    parser = command_line("stock_faust_chaos", __doc__, plots=False)
    parser.add_argument("--kills", type=positive, default=10, help="how often a worker is killed (10)")
    parser.add_argument("--rate", type=positive, default=500, help="events a second (500)")
    parser.add_argument("--seed", type=int, default=1, help="of the instants and the victims (1)")
    asked = parser.parse_args()
    with grounds() as (settings, home):
        found = campaign(settings, asked.kills, asked.rate, asked.seed, home)
    print(json.dumps(asdict(found)) if asked.json else words(found))
    return 0


if __name__ == "__main__":
    sys.exit(run_program("stock_faust_chaos", main))
