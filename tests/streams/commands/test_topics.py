"""`midstream topics`: made once, listed with what they hold, and refused when they do not fit."""

import asyncio
from pathlib import Path

import pytest

from streams import kafka, topics
from streams.settings import KafkaSettings
from tests.support.desk import Desk

pytestmark = pytest.mark.broker


def test_the_list_has_partitions_offsets_retention_and_writer(desk: Desk) -> None:
    listed = {topic["role"]: topic for topic in desk.told("topics", "list")}
    run = desk.run("topics", "list")

    assert run.returncode == 0, run.stderr
    assert {topic["partitions"] for topic in listed.values()} == {3}
    assert sum(listed["raw"]["last"]) >= 16
    assert listed["raw"]["retention"] == "7 d"
    assert listed["quarantine"]["retention"] == "30 d"
    assert listed["reviews"]["retention"] == "the last of each key"
    assert listed["actions"]["retention"] == "for ever"
    assert "ingest, entity, people" in run.stdout


def test_missing_ones_are_made_and_those_that_are_there_are_left(
    broker: KafkaSettings, tmp_path: Path
) -> None:
    desk = Desk(broker, tmp_path)
    before = desk.run("topics", "list")
    first = desk.told("topics", "create", "--partitions", "2")
    again = desk.told("topics", "create", "--partitions", "5")

    assert before.returncode == 1
    assert f"midstream topics create {desk.file}" in before.stderr
    assert len(first["created"]) == len(topics.topics(desk.plan))
    assert first["topics"][0]["partitions"] == 2
    assert again["created"] == []
    assert again["topics"] == first["topics"]


def test_partition_counts_that_do_not_fit_are_code_78(broker: KafkaSettings, tmp_path: Path) -> None:
    desk = Desk(broker, tmp_path)
    some = [topic for topic in topics.topics(desk.plan) if topic.role == topics.DECISIONS]
    asyncio.run(kafka.create_topics(desk.clients, desk.name, some, 3, 1))

    made = desk.run("topics", "create", "--partitions", "2")

    assert made.returncode == 78
    assert f"{desk.name}.decisions has 3 partitions, {desk.name}.events has 2" in made.stderr
    assert desk.run("topics", "list").returncode == 1
    assert desk.run("worker", "--home", str(tmp_path / "state")).returncode == 78


def test_more_copies_than_brokers_is_a_line(broker: KafkaSettings, tmp_path: Path) -> None:
    made = Desk(broker, tmp_path).run("topics", "create", "--replication", "9")

    assert made.returncode == 69
    assert made.stderr.startswith("midstream: Kafka: ")
    assert made.stderr.count("\n") == 1
