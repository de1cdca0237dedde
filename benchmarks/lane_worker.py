"""Our worker, as `midstream worker` runs it, with a stopwatch: a task on the command line in, figures out.

Back of the envelope, per event and in the processor's cache: headers 2.5 µs, body 1.5, dedupe 4.8, reduce 7.3, output
1.4, the rest of the way 4, half a row to encode 2, wire batches 1.6, database and producer 3: 28 µs, 35,000/s on
one core. 10,000 accounts do not stay in the cache; docs/benchmarks.md has what that costs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

from benchmarks.contender import Stopwatch, Task, end_with_parent
from benchmarks.payments import payments
from schemas.record import Out, Record
from streams import worker
from streams.metrics import Metrics
from streams.plan import compile_plan
from streams.settings import load_settings
from streams.topics import EVENTS


class Timed(Metrics):
    """The worker's own metrics, which hear of every batch once it is committed; the last one ends the process."""

    def __init__(self, task: Task) -> None:
        """Measure until the task's number of records of the topic `events` is committed."""
        super().__init__()
        self._left = task.events
        self._stopwatch = Stopwatch(task)

    def lane_state(self, lane: str, state: str) -> None:
        """A lane is open: its batches may come."""
        super().lane_state(lane, state)
        self._stopwatch.ready()

    def batch(
        self, role: str, batch: Sequence[Record], outs: Sequence[Out], tally: Counter[tuple[str, ...]]
    ) -> None:
        """Count what the entity lanes have committed."""
        super().batch(role, batch, outs, tally)
        if role == EVENTS:
            self._left -= len(batch)

    def committed(self, lane: str, seconds: float) -> None:
        """The batch of the call before was taken `seconds` ago and is committed."""
        super().committed(lane, seconds)
        self._stopwatch.taken(time.monotonic() - seconds)
        if self._left <= 0:
            self._stopwatch.finish()


def main() -> None:
    """Run the worker until the task is done."""
    task = Task.from_argv()
    end_with_parent()
    plan = replace(compile_plan(payments), name=task.name)
    config = worker.WorkerConfig(load_settings().client_options(), Path(task.folder))
    # The metrics are the one place that hears of commits: the worker itself runs as it always does.
    with mock.patch.object(worker, "Metrics", return_value=Timed(task)):
        worker.run_worker(plan, config)


if __name__ == "__main__":
    main()
