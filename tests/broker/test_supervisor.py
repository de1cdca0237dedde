"""`midstream worker --processes N` on a real Kafka: restarts that move nothing, ends that leave nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.metrics import total
from streams.settings import KafkaSettings
from tests.support.bank import bank
from tests.support.crew import Crew
from tests.support.topics import wait_until
from tests.support.verify import Load, verify, verify_databases, wait_idle
from tests.support.workers import create, unique

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

PARTITIONS = 2
LANES = 2 * PARTITIONS


@pytest.fixture
def name(kafka: KafkaSettings) -> str:
    """A bank with its topics."""
    made = unique("crew")
    asyncio.run(create(kafka, bank(made), PARTITIONS))
    return made


@pytest.fixture
def crew(kafka: KafkaSettings, name: str, tmp_path: Path) -> Iterator[Crew]:
    """Two workers of it, started."""
    made = Crew(kafka, tmp_path, f"tests.support.bank:bank({name!r})", 2)
    try:
        yield made.start()
    finally:
        made.end()


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.chaos
def test_a_killed_worker_comes_back_to_its_lanes_and_no_other_lane_moves(
    kafka: KafkaSettings, name: str, crew: Crew
) -> None:
    load = Load(kafka, name, rate=300).start()
    crew.wait_ready(LANES)
    own, others = crew.lanes(1), crew.lanes(2)
    # A share of both topics each.
    assert [sum(".events." in lane for lane in lanes) for lanes in (own, others)] == [1, 1]
    committed, (killed, other) = crew.commits(2), crew.pids()
    opened = crew.text().count(f"worker 2: {name}: ready")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: set(crew.pids()) - {killed, other} != set(), "a new worker")
    crew.wait_ready(LANES)
    assert (crew.lanes(1), crew.lanes(2)) == (own, others)
    # The other worker has not opened its lanes anew, and has gone on meanwhile.
    assert crew.text().count(f"worker 2: {name}: ready") == opened
    assert crew.pids()[1] == other
    wait_until(lambda: crew.commits(2) > committed, "the other worker's commits")
    assert f"{name}: worker 1 was ended by SIGKILL; starting it again in 0.5 s" in crew.text()
    records = load.stop()
    wait_idle(kafka, name)
    wait_until(lambda: crew.told("/healthz")[1].get("lag") == 0, "no lag")
    wait_until(lambda: crew.told("/readyz")[0] == 200, "all lanes to run")
    crew.send(signal.SIGTERM)
    assert crew.wait() == 0
    verify(kafka, name, records)
    assert verify_databases(kafka, name, crew.home) >= 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_stops_within_a_batch_under_load_and_has_committed_all_that_was_handed_over(
    kafka: KafkaSettings, name: str, crew: Crew, number: signal.Signals
) -> None:
    load = Load(kafka, name, rate=1000).start()
    crew.wait_ready(LANES)
    pids = crew.pids()
    time.sleep(1)
    began = time.monotonic()
    crew.send(number)
    assert crew.wait() == 0
    assert time.monotonic() - began < 8
    assert gone(pids)
    load.stop()
    assert "Traceback" not in crew.text()
    # What is in the databases is what is on the changelogs: no batch was cut off between commit and database.
    assert verify_databases(kafka, name, crew.home) > 0


def test_its_workers_end_with_it_also_when_it_is_killed(crew: Crew) -> None:
    crew.wait_ready(LANES)
    pids = crew.pids()
    assert len(pids) == 2
    crew.send(signal.SIGKILL)
    crew.wait()
    wait_until(lambda: gone(pids), "the workers' end", 20)


def test_a_second_signal_kills(crew: Crew) -> None:
    crew.wait_ready(LANES)
    pids = crew.pids()
    # They cannot hear the first.
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    crew.send(signal.SIGINT)
    time.sleep(1)
    began = time.monotonic()
    crew.send(signal.SIGINT)
    assert crew.wait() == 70
    assert time.monotonic() - began < 5
    assert gone(pids)


def test_two_supervisors_do_not_take_each_others_names(crew: Crew, kafka: KafkaSettings, name: str) -> None:
    crew.wait_ready(LANES)
    second = Crew(kafka, crew.home, f"tests.support.bank:bank({name!r})", 1)
    second.log = crew.home / "second.log"
    assert second.start().wait() == 78
    assert "another supervisor runs" in second.text()
    assert second.text().count("\n") == 1


def test_a_mistake_ends_all_with_its_line(kafka: KafkaSettings, tmp_path: Path) -> None:
    crew = Crew(kafka, tmp_path, "tests.support.bank:bank('nobody-made-topics')", 2).start()
    assert crew.wait() == 78
    assert crew.text().splitlines()[-1].startswith("midstream: worker ")
    assert "no topic nobody-made-topics.raw" in crew.text().splitlines()[-1]
    assert crew.pids() == []


def test_its_pages_sum_up_its_workers(crew: Crew) -> None:
    crew.wait_ready(LANES)
    wait_until(lambda: crew.told("/readyz")[0] == 200, "ready")
    status, said = crew.told("/healthz")
    assert (status, said["status"], said["lanes"]) == (200, "running", LANES)
    assert [crew.told("/healthz", number)[1]["lanes"] for number in (1, 2)] == [LANES // 2] * 2
    assert total(crew.samples(0), "midstream_worker_restarts_total", worker="worker 1") == 0
