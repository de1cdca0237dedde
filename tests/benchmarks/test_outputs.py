"""What is counted is what a consumer under read_committed sees, and a doubled output shows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from benchmarks.broker import fresh_topics
from benchmarks.outputs import Counted, count, wait_until_settled
from streams.settings import KafkaSettings
from streams.topics import Topic

pytestmark = pytest.mark.broker


@pytest.fixture
def topic(kafka: KafkaSettings) -> Iterator[str]:
    """A topic of two partitions."""
    name = f"outputs-{uuid.uuid4().hex[:12]}"
    with fresh_topics(kafka, name, [Topic("changes", "", "", "")], 2):
        yield f"{name}.changes"


def writer(kafka: KafkaSettings, topic: str) -> Producer:
    """A transactional producer, fencing the one before it."""
    producer = Producer({**kafka.librdkafka_options(), "transactional.id": topic})
    producer.init_transactions(10)
    producer.begin_transaction()
    return producer


def test_aborted_records_do_not_count_and_a_doubled_event_does_not_hide(
    kafka: KafkaSettings, topic: str
) -> None:
    producer = writer(kafka, topic)
    for partition, event_id in ((0, "a"), (1, "b"), (1, "b")):
        producer.produce(topic, f'{{"event_id":"{event_id}"}}', "k", partition=partition)
    producer.commit_transaction(10)
    producer.begin_transaction()
    producer.produce(topic, '{"event_id":"c"}', "k", partition=0)
    producer.flush(10)
    producer.abort_transaction(10)
    assert count(kafka, topic, 2) == Counted(records=3, event_ids=2)


def test_an_open_transaction_is_waited_for_and_named(kafka: KafkaSettings, topic: str) -> None:
    producer = writer(kafka, topic)
    producer.produce(topic, '{"event_id":"a"}', "k", partition=0)
    producer.flush(10)
    with pytest.raises(TimeoutError, match=f"{topic}: a transaction is still open"):
        wait_until_settled(kafka, topic, 2, time.monotonic() + 0.5)
    producer.commit_transaction(10)
    assert count(kafka, topic, 2) == Counted(records=1, event_ids=1)
