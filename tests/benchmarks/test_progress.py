"""What counts of a run, and that it is asked for rightly: committed offsets on a real broker, ends without markers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.broker import fresh_topics
from benchmarks.contender import ContenderError, Task, running
from benchmarks.progress import Progress, Sample, committed, measured, watch, written
from streams.settings import KafkaSettings
from streams.topics import Topic
from tests.support.topics import wait_until


def samples(*done: int, cpu_s: float | None = 1.0) -> list[Sample]:
    """One a second; `cpu_s` of processor time a second."""
    return [Sample(float(n), each, None if cpu_s is None else n * cpu_s) for n, each in enumerate(done)]


def test_the_first_tenth_of_a_run_warms_up() -> None:
    found = measured(samples(0, 0, 5, 20, 60, 100), peak_rss_bytes=7)
    assert (found.seconds, found.share, found.cpu_s, found.peak_rss_bytes) == (2.0, 0.8, 2.0, 7)


def test_a_run_of_one_commit_counts_from_the_last_sample_with_nothing_done() -> None:
    found = measured(samples(0, 0, 0, 100), None)
    assert (found.seconds, found.share) == (1.0, 1.0)


def test_without_proc_there_is_no_processor_time() -> None:
    assert measured(samples(0, 50, 100, cpu_s=None), None).cpu_s is None


@pytest.fixture
def name(kafka: KafkaSettings) -> Iterator[str]:
    """Two topics of two partitions, `first` and `second`."""
    name = f"progress-{uuid.uuid4().hex[:12]}"
    with fresh_topics(kafka, name, [Topic(role, "", "", "") for role in ("first", "second")], 2):
        yield name


@pytest.mark.broker
def test_progress_is_what_the_group_has_committed_and_no_marker_is_waited_for(
    kafka: KafkaSettings, name: str
) -> None:
    first, second = f"{name}.first", f"{name}.second"
    plain = Producer(kafka.librdkafka_options())
    for number in range(4):
        plain.produce(first, b"x", partition=number % 2)
    plain.flush(10)
    ask, outputs = committed(kafka, name, [first, second], 2), written(kafka, first, 2, 5)
    assert ask() == Progress(0, 4)
    assert outputs() == Progress(4, 5)

    consumer = Consumer({**kafka.librdkafka_options(), "group.id": name})
    producer = Producer({**kafka.librdkafka_options(), "transactional.id": name})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(second, b"y", partition=0)
    producer.send_offsets_to_transaction(
        [TopicPartition(first, 0, 2), TopicPartition(first, 1, 2)], consumer.consumer_group_metadata(), 10
    )
    producer.flush(10)
    # What an open transaction holds is not done.
    assert ask().done == 0
    producer.commit_transaction(10)
    # All of `first`; of `second` the record, not the marker behind it.
    consumer.commit(offsets=[TopicPartition(second, 0, 1)], asynchronous=False)
    consumer.close()
    # A transaction is committed when its coordinator has noted so; offsets and records show it a moment later.
    wait_until(lambda: ask() == Progress(5, 5), "the transaction to show", 20)
    assert ask() == Progress(5, 5)


def a_task(folder: str) -> Task:
    return Task("bench-x", "127.0.0.1:9", "events", "s", "o", 10, 1, folder)


def test_a_contender_that_ends_by_itself_is_told_with_its_last_words(tmp_path: str) -> None:
    command = ["sh", "-c", "echo no such topic; exit 3"]
    with (
        running(command, a_task(f"{tmp_path}/c")) as process,
        pytest.raises(ContenderError, match=r"(?s)ended with 3\. .*no such topic"),
    ):
        watch(process, lambda: Progress(0, 10), 10)


def test_a_contender_that_does_not_move_is_stuck(tmp_path: str) -> None:
    with (
        running(["sh", "-c", "read line"], a_task(f"{tmp_path}/c")) as process,
        pytest.raises(ContenderError, match="stuck at 4 offsets"),
    ):
        watch(process, lambda: Progress(4, 10), 10, stuck_s=0.2)
    assert process.popen.returncode == -9
