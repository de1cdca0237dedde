"""Topics as another client sees them: librdkafka writes, and reads what is committed."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas.quarantine import original_headers, read_quarantine
from schemas.record import Given
from streams.settings import KafkaSettings

Header = tuple[str, bytes]


class Got(NamedTuple):
    """A record as librdkafka read it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]

    @property
    def why(self) -> dict[str, str]:
        """What quarantine added."""
        return read_quarantine(self.headers)

    @property
    def original(self) -> list[Header]:
        """The headers without what quarantine added."""
        return original_headers(self.headers)


def wait_until(done: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Ask `done` again and again; fail naming `what` after `within_s`."""
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain for {what}"
        time.sleep(0.05)


def consumer(kafka: KafkaSettings, *, group: str = "tests", committed: bool = True) -> Consumer:
    """A consumer that never joins a group."""
    options: dict[str, str | int | bool] = {
        **kafka.librdkafka_options(),
        "group.id": group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed" if committed else "read_uncommitted",
        "fetch.wait.max.ms": 20,
        "fetch.max.bytes": 60 << 20,
        "receive.message.max.bytes": 64 << 20,
        "log_level": 2,
    }
    return Consumer(options)


def partitions_of(reader: Consumer, topic: str) -> list[int]:
    """The partition numbers of `topic`."""
    return sorted(reader.list_topics(topic, timeout=10).topics[topic].partitions)


def read(kafka: KafkaSettings, topic: str, *, committed: bool = True) -> list[Got]:
    """Everything on `topic` now, partition by partition, in order."""
    reader = consumer(kafka, committed=committed)
    try:
        places = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions_of(reader, topic)]
        return sorted(_to_the_end(reader, places), key=lambda got: got[:2])
    finally:
        reader.close()


def _to_the_end(reader: Consumer, places: list[TopicPartition]) -> Iterator[Got]:
    reader.assign(places)
    left, deadline = len(places), time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"{places} cannot be read to the end"
        # It waits until it has that many, or the time is over.
        for message in reader.consume(10_000, timeout=0.05):
            error = message.error()
            if error is None:
                # The stub is wider than what comes of a consumer.
                headers: Any = message.headers() or []
                place = message.partition() or 0, message.offset() or 0
                yield Got(*place, _bytes(message.key()), _bytes(message.value()), headers)
            elif error.code() == KafkaError._PARTITION_EOF:
                left -= 1
            else:
                raise KafkaException(error)


def _bytes(part: str | bytes | None) -> bytes | None:
    assert not isinstance(part, str)
    return part


def murmur2_producer(kafka: KafkaSettings, compression: str = "none") -> Producer:
    """librdkafka's producer with Java's partitioner; it keeps the order of each key, whatever it has to send twice."""
    options: dict[str, str | int | bool] = {
        **kafka.librdkafka_options(),
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "linger.ms": 5,
        "compression.type": compression,
        "message.max.bytes": 30 << 20,
        "queue.buffering.max.messages": 1_000_000,
        # A broker that is away is what some tests are about.
        "log_level": 2,
    }
    return Producer(options)


def publish(
    kafka: KafkaSettings,
    topic: str,
    records: Iterable[Given],
    *,
    partition: int | None = None,
    compression: str = "none",
) -> None:
    """Write `records` with librdkafka, and wait until Kafka has them."""
    failed: list[KafkaError] = []
    producer = murmur2_producer(kafka, compression)
    for record in records:
        producer.produce(
            topic,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            on_delivery=lambda error, message: failed.append(error) if error else None,
            partition=-1 if partition is None else partition,
        )
        producer.poll(0)
    left = producer.flush(60)
    assert (left, failed) == (0, [])


def ends(kafka: KafkaSettings, topic: str, *, committed: bool = True) -> dict[int, int]:
    """Partition → the offset behind its last record (with `committed`: behind the last that cannot be undone)."""
    reader = consumer(kafka, committed=committed)
    try:
        return {
            number: reader.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for number in partitions_of(reader, topic)
        }
    finally:
        reader.close()


class Watcher:
    """Whether a group has read all there is to read."""

    def __init__(self, kafka: KafkaSettings, group: str, *names: str) -> None:
        """Watch `names`, the topics that `group` reads."""
        self._reader = consumer(kafka, group=group)
        self._places = [
            TopicPartition(name, number) for name in names for number in partitions_of(self._reader, name)
        ]

    def ends(self) -> list[int]:
        """The last stable offset of each partition."""
        return [self._reader.get_watermark_offsets(place, timeout=10)[1] for place in self._places]

    def committed(self) -> list[TopicPartition]:
        """How far the group has come on each partition."""
        return self._reader.committed(self._places, timeout=10)

    def idle(self) -> bool:
        """True when nothing is left to read, and nothing came while that was found out."""
        before = self.ends()
        for place in self.committed():
            start = TopicPartition(place.topic, place.partition, max(place.offset, 0))
            # Behind the last record stands the mark of its transaction: only reading tells that nothing follows.
            self._reader.assign([start])
            message = self._reader.poll(10)
            error = None if message is None else message.error()
            if error is None:
                return False
            assert error.code() == KafkaError._PARTITION_EOF, error
        return before == self.ends()

    def wait(self, within_s: float = 60.0) -> None:
        """Wait until the group is idle."""
        wait_until(
            self.idle, f"the group to read all of {sorted({place.topic for place in self._places})}", within_s
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()
