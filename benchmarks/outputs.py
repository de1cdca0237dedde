"""What a contender really wrote: a topic comes in, its committed records and the different events behind them go out.

Back of the envelope: librdkafka reads and Python parses an output in 4 µs; 200,000 outputs take a second, which no
figure includes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # only its __all__ forgot it
from pydantic_core import from_json

from streams.settings import KafkaSettings

POLL_RECORDS = 10_000
DEADLINE_S = 60.0


class Counted(NamedTuple):
    """Committed records on a topic, and how many different events they name."""

    records: int
    event_ids: int


def count(settings: KafkaSettings, topic: str, partitions: int) -> Counted:
    """How many committed outputs `topic` has, and of how many events.

    Raises:
        TimeoutError: a transaction on it stays open, or it cannot be read.
    """
    records, event_ids = 0, set[str]()
    for _, value in read(settings, topic, partitions):
        records += 1
        event_ids.add(from_json(value)["event_id"])
    return Counted(records, len(event_ids))


def read(settings: KafkaSettings, topic: str, partitions: int) -> Iterator[tuple[bytes | None, bytes]]:
    """Key and value of each record of `topic` to its end under `read_committed`, with a client that no contender uses.

    Raises:
        TimeoutError: a transaction on it stays open, or it cannot be read.
    """
    deadline_s = time.monotonic() + DEADLINE_S
    wait_until_settled(settings, topic, partitions, deadline_s)
    options: dict[str, str | bool] = {
        **settings.librdkafka_options(),
        "group.id": f"{topic}.count",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    consumer = Consumer(options)
    open_partitions = set(range(partitions))
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in open_partitions])
        while open_partitions:
            if time.monotonic() > deadline_s:
                raise TimeoutError(
                    f"{topic}: nothing more to read for {DEADLINE_S:.0f} s, and not at its end"
                )
            for message in consumer.consume(POLL_RECORDS, timeout=1.0):
                deadline_s = time.monotonic() + DEADLINE_S
                value = value_of(message, open_partitions)
                if value is not None:
                    key = message.key()
                    yield key if isinstance(key, bytes) else None, value
    finally:
        consumer.close()


def value_of(message: Message, open_partitions: set[int]) -> bytes | None:
    """The record's bytes; None at the end of a partition, which is then struck off."""
    error = message.error()
    if error is None:
        value = message.value()
        return value if isinstance(value, bytes) else None
    if error.code() != KafkaError._PARTITION_EOF:
        raise RuntimeError(f"{message.topic()}: {error.str()}")
    open_partitions.discard(message.partition() or 0)
    return None


def wait_until_settled(settings: KafkaSettings, topic: str, partitions: int, deadline_s: float) -> None:
    """Wait until no transaction is open on `topic`: a commit is acknowledged before its markers are written."""
    admin = AdminClient({**settings.librdkafka_options()})
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(topic, number): latest for number in range(partitions)}

    def ends(level: IsolationLevel) -> list[int]:
        return [f.result().offset for f in admin.list_offsets(asked, isolation_level=level).values()]

    while ends(IsolationLevel.READ_COMMITTED) != ends(IsolationLevel.READ_UNCOMMITTED):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{topic}: a transaction is still open after {DEADLINE_S:.0f} s")
        time.sleep(0.05)
