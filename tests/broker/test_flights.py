"""The flights of the blizzard through a real broker and a real worker, as fast as Kafka takes them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from pydantic import TypeAdapter

from examples.flights import Flight
from examples.flights_feed import feed
from examples.flights_oracle import Oracle, oracle
from schemas.action import ActionRecord
from schemas.decision import DecisionRecord
from schemas.record import Given
from schemas.review import ReviewRecord
from schemas.row import Row
from schemas.times import from_ms
from streams.memory import Memory, passed
from streams.playback import Progress, play
from streams.settings import KafkaSettings
from tests.support.flights import expected, found, named
from tests.support.rows import drain
from tests.support.topics import Got, consumer, ends, read, wait_until
from tests.support.verify import wait_idle
from tests.support.workers import Worker, create, unique

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180), pytest.mark.xdist_group("flights")]

PARTITIONS = 3
FIRST, LAST = date(2013, 2, 7), date(2013, 2, 10)


@dataclass
class Played:
    """What a playback left on the topics."""

    progress: Progress
    actions: list[ActionRecord]
    decisions: list[DecisionRecord]
    reviews: dict[bytes, ReviewRecord]
    flights: dict[bytes, bytes]
    quarantine: list[Got]

    @property
    def statuses(self) -> Counter[str]:
        """Flights by their last status."""
        codec = TypeAdapter(Row[Flight])
        return Counter(codec.validate_json(row).state.status for row in self.flights.values())


def played(
    kafka: KafkaSettings,
    home: Path,
    days: tuple[date, date],
    share: float = 0.0,
    kills: int = 0,
    within_s: float = 120.0,
) -> Played:
    """Play `days` through a worker that is killed -9 `kills` times on the way."""
    name = unique("flights")
    asyncio.run(create(kafka, named(name), PARTITIONS))
    worker = Worker(
        kafka, home, f"tests.support.flights:named({name!r})", playback=True, instance="one"
    ).start()
    try:
        records = feed(*days, duplicates=share, displaced=share, seed=3)
        progress = asyncio.run(play(kafka.client_options(), f"{name}.raw", PARTITIONS, records, speed=0))
        for part in range(1, kills + 1):
            # Somewhere in the middle of the rest.
            wait_behind(kafka, name, part / (kills + 1), within_s)
            worker.kill()
            worker.start()
        wait_idle(kafka, name, within_s)
        assert worker.stop() == 0
    finally:
        worker.end()
    return Played(
        progress,
        [ActionRecord.model_validate_json(got.value or b"") for got in read(kafka, f"{name}.actions")],
        [DecisionRecord.model_validate_json(got.value or b"") for got in read(kafka, f"{name}.decisions")],
        {
            got.key or b"": ReviewRecord.model_validate_json(got.value or b"")
            for got in read(kafka, f"{name}.reviews")
        },
        {got.key or b"": got.value or b"" for got in read(kafka, f"{name}.flight.changelog")},
        read(kafka, f"{name}.quarantine"),
    )


def wait_behind(kafka: KafkaSettings, name: str, share: float, within_s: float) -> None:
    """Wait until the worker has that share of the raw records behind it."""
    whole = sum(ends(kafka, f"{name}.raw").values())
    reader = consumer(kafka, group=name, committed=False)
    places = [TopicPartition(f"{name}.raw", number) for number in range(PARTITIONS)]

    def is_there() -> bool:
        return sum(max(0, place.offset) for place in reader.committed(places, timeout=10)) >= whole * share

    try:
        wait_until(is_there, f"{share:.0%} of the raw records", within_s)
    finally:
        reader.close()


def check_against(run: Played, truth: Oracle) -> None:
    """Hold a run against the oracle, and its keys against each other."""
    assert found(run.actions, run.reviews.values()) == expected(truth)
    assert run.statuses == Counter(
        {status: count for status, count in truth.flights_by_status.items() if count}
    )
    assert run.quarantine == []
    keys = [one.action_id for one in run.actions] + [one.decision_id for one in run.decisions]
    assert len(set(keys)) == len(keys)
    assert {one.decision_id for one in run.actions} <= {one.decision_id for one in run.decisions}


@pytest.fixture(scope="module")
def truth() -> Oracle:
    return oracle(FIRST, LAST)


@pytest.fixture(scope="module")
def plain(kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return played(kafka, tmp_path_factory.mktemp("plain"), (FIRST, LAST))


def test_the_default_days_equal_the_oracle_per_day_and_airport(plain: Played, truth: Oracle) -> None:
    check_against(plain, truth)


def test_the_rows_are_those_of_a_run_in_memory(plain: Played) -> None:
    memory = Memory(named("flights"))
    clock_ms = None
    for offset, record in enumerate(feed(FIRST, LAST)):
        now_ms = record.play_ms // 1_800_000 * 1_800_000
        if clock_ms is None or now_ms > clock_ms:
            clock_ms = now_ms
            memory.send([passed_ms(clock_ms)])
        memory.send([Given("raw", 0, offset, record.time_ms, record.key, record.value, record.headers)])
    rows = {row.key: row.value for row in drain(memory.lane.rows) if row.entity == "flight"}
    assert plain.flights == rows


def passed_ms(at_ms: int) -> Given:
    return passed(from_ms(at_ms))


@pytest.mark.chaos
def test_doubled_displaced_and_killed_on_the_way_it_is_the_same(
    kafka: KafkaSettings, tmp_path: Path, plain: Played, truth: Oracle
) -> None:
    run = played(kafka, tmp_path, (FIRST, LAST), share=0.05, kills=2)
    assert run.progress.published > plain.progress.published * 1.04
    check_against(run, truth)
    # The same decisions from the same facts; their keys differ by the pipeline's name alone.
    assert all_of(run) == all_of(plain)


def all_of(run: Played) -> list[tuple[str, str, str, int, str, str]]:
    return sorted(
        (one.decision, one.entity, one.key, one.at_ms, one.route, one.context_hash) for one in run.decisions
    )


@pytest.mark.year
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("share", [0.0, 0.05], ids=["as it was", "5 % doubled and 5 % displaced"])
def test_the_whole_year_equals_the_oracle(
    kafka: KafkaSettings, tmp_path: Path, share: float, record_property: Callable[[str, object], None]
) -> None:
    days = (date(2013, 1, 1), date(2013, 12, 31))
    started = time.monotonic()
    run = played(kafka, tmp_path, days, share=share, within_s=1500)
    record_property("seconds", round(time.monotonic() - started))
    check_against(run, oracle(*days))
