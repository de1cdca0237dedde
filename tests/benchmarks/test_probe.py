"""benchmarks/probe.py: percentiles by nearest rank; every event had exactly one action, or it is said what is wrong."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from benchmarks.broker import fresh_topics
from benchmarks.probe import Heard, Listener, ProbeError, Sender, check_once_each, percentile
from streams.settings import KafkaSettings
from streams.topics import Topic
from tests.support.workers import unique


def heard(*numbers: int) -> list[Heard]:
    return [Heard(number, 0, 1) for number in numbers]


def test_percentiles_are_values_that_were_measured() -> None:
    ordered = [float(number) for number in range(1, 1001)]
    assert [percentile(ordered, share) for share in (0, 0.5, 0.99, 0.999, 1)] == [1, 500, 990, 999, 1000]
    assert percentile([7.0], 0.99) == 7
    assert percentile([1.0, 2.0], 0.5) == 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_as_large_a_share_as_asked_for_is_not_above_a_percentile(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    at_most = sum(1 for value in values if value <= found)
    below = sum(1 for value in values if value < found)
    # A share is taken in whole millionths.
    assert at_most >= (share - 1e-6) * len(values)
    assert below <= (share + 1e-6) * len(values)


def test_a_percentile_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"got 0, 0\.5"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        percentile([1.0], 99)


def test_one_action_for_each_event_in_any_order() -> None:
    check_once_each(heard(2, 0, 1), 3)
    with pytest.raises(ProbeError, match="each of 3 events; 1 had none, 1 actions were one too many"):
        check_once_each(heard(0, 2, 2), 3)
    with pytest.raises(ProbeError, match="1 had none, 0 actions"):
        check_once_each(heard(0, 7, 1), 3)


@pytest.mark.broker
def test_the_sender_holds_its_pace_and_the_listener_hears_at_once(kafka: KafkaSettings) -> None:
    name, checked = unique("probe"), list[None]()
    with fresh_topics(kafka, name, [Topic("raw", "", "", ""), Topic("actions", "", "", "")], 2):
        sender = Sender(kafka, f"{name}.raw", 2)
        began_s = time.monotonic()
        sender.at_pace(500, 1.0, lambda: checked.append(None))
        assert 1.0 <= time.monotonic() - began_s < 3.0
        sender.flush()
        assert 450 <= sender.sent <= 501
        assert checked
        bodies = read(kafka, f"{name}.raw", sender.sent)
        assert sorted(body["number"] for body in bodies) == list(range(sender.sent))
        # A worker that only copies: the listener reads what an action looks like.
        producer = Sender(kafka, f"{name}.actions", 2)._producer
        with Listener(kafka, f"{name}.actions", 2) as listener:
            producer.produce(f"{name}.actions", b'{"input": {"number": 3, "sent_ns": 5}}')
            producer.flush(10)
            listener.wait(1, 10, lambda: None)
            assert listener.heard[0][:2] == (3, 5)
            assert listener.heard[0].received_ns <= time.monotonic_ns()
            with pytest.raises(ProbeError, match=r"1 of 2 actions came within 0\.1 s"):
                listener.wait(2, 0.1, lambda: None)
            producer.produce(f"{name}.actions", None, b"a tombstone is no action")
            producer.flush(10)
            with pytest.raises(ProbeError, match="without a value"):
                listener.wait(2, 10, lambda: None)


def read(kafka: KafkaSettings, topic: str, count: int) -> list[dict[str, int]]:
    consumer = Consumer({**kafka.librdkafka_options(), "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found = consumer.consume(count, 20)
    consumer.close()
    return [from_json(message.value() or b"") for message in found]
