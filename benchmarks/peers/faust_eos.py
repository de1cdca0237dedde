"""Stock Faust on the same work: exactly_once, a RocksDB table with its changelog, one output per event.

Back of the envelope: Faust hands events over one by one and each of the two sends of an event (changelog, output)
is a coroutine of its own: 240 µs an event, 4,200/s, whatever the work is (its defaults: 450 µs, 2,200/s).

Where it had a choice it got the faster one: uvloop, orjson, its compiled stream loop, `send` whose acknowledgement
nobody awaits, large producer batches, rare commits, no web server, no leader topic. Nobody subscribes to the output
topic, so Faust 0.15.3 writes it outside of the transaction (`TransactionManager.send` finds no partition for it): less
work than it promises, and in its favour.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import faust
import mode.loop
from faust.types import StreamT

from benchmarks.contender import Task, end_with_parent
from benchmarks.peers.work import changed


class Paid(faust.Record, serializer="json", validation=True):
    """The event. Faust checks and converts the types it knows; a Literal is none of them."""

    account_id: str
    payment_id: str
    amount: int
    currency: str
    status: str
    note: str
    at: datetime


class Account(faust.Record, serializer="json"):
    """The state of an account."""

    payments: int = 0
    total: int = 0
    last_payment: str = ""
    last_status: str = ""


def reduced(old: Account, event: Paid) -> Account:
    """The account after the payment."""
    return Account(
        payments=old.payments + 1,
        total=old.total + event.amount,
        last_payment=event.payment_id,
        last_status=event.status,
    )


def build(task: Task) -> faust.App:
    """The application as a Faust user writes it, and a task that commits when all is done."""
    app = faust.App(
        task.name,
        broker=f"kafka://{task.bootstrap.replace(',', ';')}",
        store="rocksdb://",
        processing_guarantee="exactly_once",
        topic_partitions=task.partitions,
        datadir=f"{task.folder}/faust",
        web_enabled=False,
        topic_disable_leader=True,
        # Public settings that make it faster: with its defaults it does about half as much (docs/benchmarks.md).
        producer_linger=0.05,
        producer_max_batch_size=500_000,
        stream_buffer_maxsize=16_384,
        broker_commit_every=100_000,
        # After a kill the group goes on without the dead member within ten seconds instead of sixty.
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
    )
    events = app.topic(task.source, key_type=str, value_type=Paid, partitions=task.partitions)
    changes = app.topic(task.output, key_type=str, value_serializer="json", partitions=task.partitions)
    accounts = app.Table(
        "account", default=Account, key_type=str, value_type=Account, partitions=task.partitions
    )
    left = task.events
    done = asyncio.Event()

    @app.agent(events)
    async def account(stream: StreamT[Paid]) -> None:
        nonlocal left
        async for key, event in stream.items():
            old = accounts[key]
            new = accounts[key] = reduced(old, event)
            body = changed({**event.asdict(), "at": event.at.isoformat()}, old.asdict(), new.asdict())
            # What it returns is the acknowledgement, for which nobody waits here.
            _ = await changes.send(key=key, value=body)
            left -= 1
            if left == 0:
                done.set()

    async def stop() -> None:
        await done.wait()
        # Faust commits every 2.8 s; it need not wait for the next time.
        await app.producer.flush()
        while sum(app.monitor.tp_committed_offsets.values()) < task.events:
            await app.consumer.commit()
            await asyncio.sleep(0.001)

    app.task(stop)
    return app


def main() -> None:
    """Run the application until it is ended."""
    mode.loop.use("uvloop")
    task = Task.from_argv()
    end_with_parent()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = faust.Worker(
        build(task), loop=loop, loglevel=logging.WARNING, quiet=True, redirect_stdouts=False
    )
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
