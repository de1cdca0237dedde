"""The events that are measured: a number comes in, that many payments stand on a topic, the same ones every time.

Back of the envelope: one event costs 4 µs to make and 3 µs to hand to librdkafka, so 200,000 events take 2 s and
occupy 200,000 × (300 B body + 60 B key and framing + 190 B headers) = 110 MB on the broker.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Producer
from pydantic_core import to_json

from schemas.keys import entity_key, partition_of
from schemas.times import rfc3339
from streams.settings import KafkaSettings
from streams.topics import EVENTS

KEYS = 10_000
SEED = 1
FIRST_MS = 1_700_000_000_000
STEP_MS = 10
# Brings the body to about 300 bytes.
NOTE = "an ordinary payment, with a note as somebody types it in by hand " * 2
# librdkafka's queue: enough to keep it busy, few enough to stay small.
IN_FLIGHT = 50_000


class Load(NamedTuple):
    """One record of the load."""

    key: bytes
    value: bytes
    headers: list[tuple[str, str | bytes | None]]


def payments_load(events: int, source: str) -> Iterator[Load]:
    """The first `events` payments of one endless seeded series, as `events` or `raw` has them.

    On `raw` a record carries what a producer knows; `events` has what ingest adds: subject and time of arrival.
    """
    draw = random.Random(SEED)
    for number in range(events):
        at_ms = FIRST_MS + number * STEP_MS
        account, at = f"cust-{draw.randrange(KEYS)}", rfc3339(at_ms)
        key = entity_key("account", account).encode()
        body = {
            "account_id": account,
            "payment_id": f"pay-{number}",
            "amount": draw.randrange(1, 5000),
            "currency": "usd",
            "status": draw.choice(("open", "closed", "failed")),
            "note": NOTE,
            "at": at,
        }
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"pay-%d" % number),
            ("ce_type", b"payment.made"),
            ("ce_source", b"/bench"),
            ("ce_time", at.encode()),
            ("content-type", b"application/json"),
        ]
        if source == EVENTS:
            headers += [("ce_subject", key), ("ms_time", b"%d" % at_ms), ("ms_ingested", b"%d" % FIRST_MS)]
        yield Load(key, to_json(body), headers)


def produce(settings: KafkaSettings, topic: str, events: int, source: str, partitions: int) -> None:
    """Write the load to `topic` and wait until the broker has all of it.

    Raises:
        RuntimeError: the broker did not take every record.
    """
    producer = Producer(
        settings.librdkafka_options()
        | {
            # Errors only: a broker that has just started is asked twice, which is no news.
            "log_level": 3,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 2 * IN_FLIGHT,
        }
    )
    for load in payments_load(events, source):
        producer.produce(
            topic,
            load.value,
            load.key,
            partition=partition_of(load.key, partitions),
            headers=load.headers,
        )
        while len(producer) > IN_FLIGHT:
            producer.poll(0.01)
    left = producer.flush(60)
    if left:
        raise RuntimeError(f"{topic}: {left} of {events} records were not taken by the broker within 60 s")
