"""schemas/keys.py: keys follow from their causes, and partitions are those of every other Kafka client."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Message, Producer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.keys import (
    action_id,
    decision_id,
    derived,
    entity_key,
    event_id,
    fingerprint,
    murmur2,
    partition_of,
    quarantine_id,
    review_id,
)

PARTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=4).map(tuple)


def test_keys_do_not_change_from_version_to_version() -> None:
    """They stand in topics and in other people's systems: a change of derivation would double every action.

    The digits are those of coreutils: `printf '7:flights1:1…' | b2sum -l 96`.
    """
    decision = decision_id("flights", 1, "rebook", "flight:UA1", "flight:UA1/e1")
    assert decision == "dec_9f7f815312c81e7a410cad6f"
    assert action_id(decision, "rebook", 0) == "act_cee5687ccec37ea61a4ef26b"
    assert review_id(decision) == "rev_761fba7eda22a053871499f8"
    assert event_id("/sensor", b'{"a":1}') == "evt_cd3e48792fefc92bcc0ec351"
    assert quarantine_id("flights.raw", 3, 17) == "qua_bf09fe259482f633905ac55e"


@settings(deadline=None)
@given(PARTS, PARTS)
def test_only_equal_parts_give_equal_keys(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (derived("k_", *one) == derived("k_", *other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("", "a"), ("a", "")),
        (("1:a",), ("a",)),
        (("a", "1:b"), ("a1:1:b",)),
        ((), ("",)),
    ],
)
def test_parts_do_not_run_into_each_other(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert derived("k_", *one) != derived("k_", *other)


def test_every_part_of_a_decision_tells() -> None:
    keys = {
        decision_id("p", 1, "d", "e:k", "t"),
        decision_id("q", 1, "d", "e:k", "t"),
        decision_id("p", 2, "d", "e:k", "t"),
        decision_id("p", 1, "x", "e:k", "t"),
        decision_id("p", 1, "d", "e:l", "t"),
        decision_id("p", 1, "d", "e:k", "u"),
    }
    assert len(keys) == 6


def test_every_part_of_an_action_and_of_a_place_tells() -> None:
    assert (
        len({action_id("d", "a", 0), action_id("d", "a", 1), action_id("d", "b", 0), action_id("e", "a", 0)})
        == 4
    )
    places = [("t", 0, 1, ""), ("t", 1, 0, ""), ("u", 0, 1, ""), ("t", 0, 1, "flight:a")]
    assert len({quarantine_id(*place) for place in places}) == 4


def test_an_entity_key_keeps_colons_and_unicode_of_the_key() -> None:
    assert entity_key("flight", "EWR:2013/ü") == "flight:EWR:2013/ü"


def test_a_fingerprint_tells_bodies_apart() -> None:
    assert fingerprint(b'{"a":1}') != fingerprint(b'{"a":2}')
    assert fingerprint(b"123456789") == 0xCBF43926  # the check value of CRC-32 (ISO-HDLC)


@pytest.mark.parametrize(
    ("key", "signed"),
    # Apache Kafka, UtilsTest.testMurmur2.
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: str, signed: int) -> None:
    assert murmur2(key.encode()) == signed % (1 << 32)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=64), st.integers(1, 100))
def test_partitions_are_those_of_aiokafka(key: bytes, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)


def test_partitions_are_those_of_librdkafka() -> None:
    """librdkafka's own mock cluster, in this process: four partitions, no network."""
    keys = [random.Random(n).randbytes(n % 40 + 1) for n in range(300)]
    found: dict[bytes, int | None] = {}

    def delivered(error: object, message: Message) -> None:
        assert error is None
        found[bytes(message.key() or b"")] = message.partition()

    producer = Producer({"test.mock.num.brokers": 1, "partitioner": "murmur2_random", "linger.ms": 1})
    for key in keys:
        producer.produce("mock", key=key, value=b"", on_delivery=delivered)
    assert producer.flush(30) == 0
    assert found == {key: partition_of(key, 4) for key in keys}
