"""The same worker without transactions, to see what they cost: a task on the command line in, actions out.

For the benchmark only. Lanes, batches, rows and database are the same; their producer is a plain idempotent one, whose
records are visible as soon as they are written, and the offsets are committed by the consumer once a second, as other
at-least-once processors do. After a crash, what came since the last commit is done again, and rows may count it twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest import mock

import faust
from aiokafka import AIOKafkaProducer

from benchmarks import alert_worker
from streams import lane, worker
from streams.kafka import MAX_REQUEST_BYTES
from streams.lanes import Lanes
from streams.plan import Plan

COMMIT_EVERY_S = 1.0

# What has been processed and is not committed yet: the next offset by partition.
Noted = dict[Any, Any]


class PlainProducer(AIOKafkaProducer):  # type: ignore[misc] # aiokafka has no types
    """A lane's producer for which a transaction is nothing: what is sent is there."""

    def __init__(self, clients: Mapping[str, Any], batch_bytes: int, noted: Noted) -> None:
        """As `streams.kafka.transactional_producer` makes it, without a transactional id."""
        super().__init__(
            **clients,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=batch_bytes,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=30_000,
        )
        self._noted = noted

    async def begin_transaction(self) -> None:
        """Nothing begins."""

    async def send_offsets_to_transaction(self, offsets: Mapping[Any, Any], group_id: str) -> None:
        """Every send has been acknowledged: from now on the offsets may be committed."""
        self._noted.update(offsets)

    async def commit_transaction(self) -> None:
        """Nothing ends."""


def committing(app: faust.App, noted: Noted) -> None:
    """Let `app` commit what is noted, now and then, from the consumer that is in the group."""

    async def commit() -> None:
        thread = getattr(app.consumer, "_thread", None)
        if not noted or thread is None:
            return
        offsets = dict(noted)
        noted.clear()
        await thread.call_thread(thread._ensure_consumer().commit, offsets)

    app.timer(COMMIT_EVERY_S)(commit)


def main() -> None:
    """Run the worker until it is ended."""
    noted: Noted = {}
    build = worker.build

    def producer(
        clients: Mapping[str, Any], name: str, timeout_ms: int, batch_bytes: int
    ) -> AIOKafkaProducer:
        return PlainProducer(clients, batch_bytes, noted)

    def built(plan: Plan, config: worker.WorkerConfig, held: Lanes) -> faust.App:
        app = build(plan, config, held)
        committing(app, noted)
        return app

    with (
        mock.patch.object(lane, "transactional_producer", producer),
        mock.patch.object(worker, "build", built),
    ):
        alert_worker.main()


if __name__ == "__main__":
    main()
