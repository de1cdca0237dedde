"""Our worker, as `midstream worker` runs it, on the benchmark's source: a task on the command line in, records out.

Back of the envelope, per event and in the processor's cache: record and headers 2 µs, body 2, dedupe 3.5, reduce 6.5,
output 1.5, the rest of the way 2.5: 18 µs; then a row to encode and write 2.5, wire batches and requests 3: 24 µs,
40,000/s on one core. 10,000 accounts do not stay in the cache; docs/benchmarks.md has what that costs.
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
