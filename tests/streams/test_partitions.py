"""streams/partitions.py: what a commit says of its partitions. What follows: tests/broker/test_repartition.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.partitions import fitting, made_with, mark, marked
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.signatures import PipelineError
from tests.support.bank import bank, moves
from tests.support.topics import publish
from tests.support.verify import wait_idle
from tests.support.workers import Worker, create, unique


@given(st.integers(1, 10_000), st.sampled_from(["", " heads=account:12,lane:3", " life=x"]))
def test_a_mark_is_read_whatever_else_the_offset_carries(partitions: int, more: str) -> None:
    assert marked(mark(partitions) + more) == partitions


@pytest.mark.parametrize("metadata", ["", "heads=a:1", "partitions=", "partitions=x", "4"])
def test_an_offset_without_a_mark_says_nothing(metadata: str) -> None:
    assert marked(metadata) is None


@pytest.mark.broker
def test_state_remembers_with_how_many_partitions_it_was_made(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = unique("marked")
    plan = asyncio.run(create(kafka, bank(name), 2))
    assert asyncio.run(made_with(kafka.client_options(), plan)) is None
    worker = Worker(kafka, tmp_path, f"tests.support.bank:bank({name!r})", instance="one").start()
    try:
        publish(kafka, f"{name}.raw", moves(50))
        wait_idle(kafka, name)
    finally:
        worker.end()
    assert asyncio.run(made_with(kafka.client_options(), plan)) == 2
    assert asyncio.run(fitting(kafka.client_options(), plan)) == 2


@pytest.mark.broker
def test_a_pipeline_without_topics_does_not_fit(kafka: KafkaSettings) -> None:
    plan = compile_plan(bank(unique("marked")))
    with pytest.raises(PipelineError, match="Create them with: midstream topics create"):
        asyncio.run(fitting(kafka.client_options(), plan))
