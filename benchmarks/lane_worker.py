"""Our worker, as `midstream worker` runs it, on the benchmark's source: a task on the command line in, records out.

Back of the envelope, per event and in the processor's cache: headers 2.5 µs, body 1.5, dedupe 4.8, reduce 7.3, output
1.4, the rest of the way 4, half a row to encode 2, wire batches 1.6, database and producer 3: 28 µs, 35,000/s on
one core. 10,000 accounts do not stay in the cache; docs/benchmarks.md has what that costs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

from benchmarks.contender import Task, end_with_parent
from benchmarks.payments import payments
from streams import topics, worker
from streams.plan import Plan, compile_plan
from streams.settings import KafkaSettings


def main() -> None:
    """Run the worker until it is ended."""
    task = Task.from_argv()
    end_with_parent()
    plan = replace(compile_plan(payments), name=task.name)
    config = worker.WorkerConfig(KafkaSettings.plaintext(task.bootstrap).client_options(), Path(task.folder))
    usual = topics.topic_name

    def topic_name(plan: Plan, role: str) -> str:
        return task.source if role == task.role else usual(plan, role)

    # A pipeline's topics are named after it; here all contenders read the same one. Nothing else is different.
    with mock.patch.object(topics, "topic_name", topic_name):
        worker.run_worker(plan, config)


if __name__ == "__main__":
    main()
