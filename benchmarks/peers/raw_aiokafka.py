"""The limit of aiokafka: the same records in and out in transactions, without state, changelog or stream processor.

Back of the envelope: 1 µs to decode, 4 for the body of the output, 2 to encode, 6 in aiokafka's Python around its C
record code: 70,000/s. The outputs go to the partition that their event came from, where murmur2 would put them, too.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contender import Task, end_with_parent
from benchmarks.peers.work import NEW, changed, paid

BATCH_RECORDS = 10_000


async def consume_produce(task: Task) -> None:
    """One poll is one transaction, until the process is ended."""
    consumer = AIOKafkaConsumer(
        task.source,
        bootstrap_servers=task.bootstrap,
        group_id=task.name,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=task.bootstrap, transactional_id=task.name, linger_ms=0, max_batch_size=500_000
    )
    async with producer, consumer:
        while True:
            polled = await consumer.getmany(timeout_ms=100, max_records=BATCH_RECORDS)
            if not polled:
                continue
            async with producer.transaction():
                sent = [
                    future
                    for source, records in polled.items()
                    for future in await send(producer, task.output, source.partition, records)
                ]
                await asyncio.gather(*sent)
                offsets = {source: records[-1].offset + 1 for source, records in polled.items()}
                await producer.send_offsets_to_transaction(offsets, task.name)


async def send(producer: Any, topic: str, partition: int, records: list[Any]) -> list[Any]:
    """Hand the outputs of `records` over in batches of the wire's form: the fastest way that aiokafka has."""
    sent = []
    batch = producer.create_batch()
    for record in records:
        event = orjson.loads(record.value)
        value = orjson.dumps(changed(event, NEW, paid(NEW, event)))
        if batch.append(key=record.key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=record.key, value=value, timestamp=None)
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


def main() -> None:
    """Consume and produce until ended."""
    task = Task.from_argv()
    end_with_parent()
    uvloop.run(consume_produce(task))


if __name__ == "__main__":
    main()
