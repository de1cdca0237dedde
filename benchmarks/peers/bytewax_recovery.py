"""Bytewax on the same work, with recovery: its state is saved in SQLite at the end of each epoch.

This is **not** exactly-once: after a crash it starts from the last epoch that was saved and writes what it had
written since a second time. Its outputs are counted all the same.

Back of the envelope: Rust moves the items, Python makes them: 4 µs of JSON, 4 of work, 10 between the steps: 50,000/s.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found] # in an environment of its own
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource  # type: ignore[import-not-found]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.recovery import RecoveryConfig, init_db_dir  # type: ignore[import-not-found]
from bytewax.run import cli_main  # type: ignore[import-not-found]

from benchmarks.contender import Task, end_with_parent
from benchmarks.peers.work import NEW, changed, paid

# At most this much is done again after a crash; its default is ten seconds.
EPOCH = timedelta(seconds=1)
# The first thousand of a poll wait for the last: more makes the output late, not fast.
BATCH_RECORDS = 1000
PRODUCER = {"linger.ms": "20", "batch.size": "500000", "acks": "all", "enable.idempotence": "true"}


def account(before: dict[str, Any] | None, event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The account after the payment, and the output."""
    old = before or NEW
    new = paid(old, event)
    return new, changed(event, old, new)


def build(task: Task) -> Dataflow:
    """The dataflow as its documentation has it."""
    brokers = task.bootstrap.split(",")
    flow = Dataflow("bench")
    records = op.input("records", flow, KafkaSource(brokers, [task.source], batch_size=BATCH_RECORDS))
    events = op.map("decode", records, lambda record: (record.key.decode(), orjson.loads(record.value)))
    changes = op.stateful_map("account", events, account)
    outputs = op.map(
        "encode", changes, lambda pair: KafkaSinkMessage(pair[0].encode(), orjson.dumps(pair[1]))
    )
    op.output("changes", outputs, KafkaSink(brokers, task.output, add_config=PRODUCER))
    return flow


def main() -> None:
    """Run the dataflow until it is ended."""
    task = Task.from_argv()
    end_with_parent()
    saved = Path(task.folder, "recovery")
    saved.mkdir()
    init_db_dir(saved, 1)
    cli_main(build(task), epoch_interval=EPOCH, recovery_config=RecoveryConfig(str(saved)))


if __name__ == "__main__":
    main()
