"""Our worker, as `midstream worker` runs it, on the pipeline of alerts: a task on the command line in, actions out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.alerts import alerts
from benchmarks.contender import Task, end_with_parent
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.worker import WorkerConfig, run_worker


def main() -> None:
    """Run the worker until it is ended."""
    task = Task.from_argv()
    end_with_parent()
    config = WorkerConfig(KafkaSettings.plaintext(task.bootstrap).client_options(), Path(task.folder))
    run_worker(replace(compile_plan(alerts), name=task.name), config)


if __name__ == "__main__":
    main()
