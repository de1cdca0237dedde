"""The limit of librdkafka: the same records in and out in transactions, without state, changelog or stream processor.

Back of the envelope: 1 µs to decode, 4 for the body of the output, 2 to encode, 2 to read and 3 to write a record
through confluent-kafka: 80,000/s, with librdkafka's own threads on the other core.
"""

from __future__ import annotations

from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Producer

from benchmarks.contender import Task, end_with_parent
from benchmarks.peers.work import NEW, changed, paid

BATCH_RECORDS = 20_000
QUIET_S = 0.1
TIMEOUT_S = 30.0


def consume_produce(task: Task) -> None:
    """One poll is one transaction, until the process is ended."""
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": task.name,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 4 * BATCH_RECORDS,
            "fetch.message.max.bytes": 4 << 20,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": task.bootstrap,
            "transactional.id": task.name,
            "linger.ms": 5,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 4 * BATCH_RECORDS,
        }
    )
    producer.init_transactions(TIMEOUT_S)
    consumer.subscribe([task.source])
    while True:
        records = consumer.consume(BATCH_RECORDS, timeout=QUIET_S)
        if not records:
            continue
        producer.begin_transaction()
        record: Any
        for record in records:
            error = record.error()
            if error is not None:
                raise KafkaException(error)
            event = orjson.loads(record.value())
            value = orjson.dumps(changed(event, NEW, paid(NEW, event)))
            producer.produce(task.output, value, record.key(), partition=record.partition())
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), TIMEOUT_S)
        producer.commit_transaction(TIMEOUT_S)


def main() -> None:
    """Consume and produce until ended."""
    task = Task.from_argv()
    end_with_parent()
    consume_produce(task)


if __name__ == "__main__":
    main()
