"""A whole Midstream on this machine: what is started is supervised, and stopped with whoever started it."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from examples.tickets import tickets
from streams.exits import EXIT_MISTAKE
from streams.local import PARTITIONS, Local, LocalError, arrived
from streams.metrics import total
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from tests.support.workers import unique

PIPELINE = Path(__file__).parents[2] / "examples" / "tickets.py"


def local(kafka: KafkaSettings, folder: Path, pipeline: Path) -> Local:
    """A Local on the session's broker."""
    lines: list[str] = []
    made = Local(compile_plan(tickets), pipeline, folder, kafka, lines.append)
    made.said = lines  # type: ignore[attr-defined]
    return made


@pytest.fixture
def pipeline(tmp_path: Path) -> tuple[Path, str]:
    """The tickets pipeline under a name of its own."""
    name = unique("local")
    file = tmp_path / "pipeline.py"
    file.write_text(PIPELINE.read_text().replace(f'Pipeline("{tickets.name}"', f'Pipeline("{name}"'))
    return file, name


def test_arrived_wants_every_lane_and_every_rank() -> None:
    plan = compile_plan(tickets)
    lanes = [f"{plan.name}.events.{number}" for number in range(PARTITIONS)]

    def samples(at_s: float, left_out: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            ("midstream_clock_timestamp_seconds", frozenset({("lane", lane), ("rank", str(rank))})): at_s
            for lane in lanes
            for rank in range(1, plan.ranks + 1)
            if lane != left_out
        }

    assert arrived(samples(10.0), plan, 10_000)
    assert not arrived(samples(9.9), plan, 10_000)
    assert not arrived(samples(10.0, left_out=lanes[0]), plan, 10_000)
    assert not arrived({}, plan, 10_000)


@pytest.mark.broker
async def test_topics_that_exist_are_not_played_into(
    kafka: KafkaSettings, tmp_path: Path, pipeline: tuple[Path, str]
) -> None:
    from streams.plan import load

    made = local(kafka, tmp_path, pipeline[0])
    made.plan = compile_plan(load(pipeline[0]))
    await made.create_topics()
    with pytest.raises(LocalError, match="exist already"):
        await made.create_topics()


@pytest.mark.broker
@pytest.mark.timeout(180)
async def test_a_worker_that_dies_is_started_again_and_stops_when_told(
    kafka: KafkaSettings, tmp_path: Path, pipeline: tuple[Path, str]
) -> None:
    from streams.plan import load

    made = local(kafka, tmp_path, pipeline[0])
    made.plan = compile_plan(load(pipeline[0]))
    await made.create_topics()
    made.start_worker()
    try:
        await running(made)
        assert made.worker is not None
        assert made.worker.process is not None
        made.worker.process.kill()
        made.worker.process.wait()
        made.supervise()
        assert made.restarts == 1
        assert made.said == [  # type: ignore[attr-defined]
            "the worker was ended by SIGKILL; starting it again in 0.5 s"
        ]
        await running(made)
        pid = made.worker.process.pid
    finally:
        made.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def running(made: Local, seconds: float = 60.0) -> None:
    """Wait until every lane of the worker runs."""
    deadline = time.monotonic() + seconds
    while total(await made.samples(), "midstream_lane_state", state="running") < 2 * PARTITIONS:
        made.supervise()
        assert time.monotonic() < deadline, made.worker
        await asyncio.sleep(0.1)


@pytest.mark.broker
def test_a_mistake_is_not_tried_again(kafka: KafkaSettings, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ValueError('not a pipeline')\n")
    made = local(kafka, tmp_path, broken)
    made.start_worker()
    try:
        assert made.worker is not None
        assert made.worker.process is not None
        assert made.worker.process.wait(60) == EXIT_MISTAKE
        with pytest.raises(LocalError, match=r"the worker ended with code 78: midstream: .*not a pipeline"):
            made.supervise()
    finally:
        made.stop()


async def test_a_worker_that_does_not_answer_has_no_samples(tmp_path: Path) -> None:
    made = local(KafkaSettings.plaintext("127.0.0.1:1"), tmp_path, PIPELINE)
    assert await made.samples() == {}
