"""The process behind `tests.support.workers.Worker`: its arguments in JSON come in, a worker runs until it is ended."""

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from streams import transport, worker
from streams.pipeline import Pipeline
from streams.plan import compile_plan
from streams.settings import KafkaSettings


def pipeline_of(expression: str) -> Pipeline:
    """`module:call` → the pipeline."""
    module, _, call = expression.partition(":")
    made: Any = eval(call, vars(importlib.import_module(module)))
    assert isinstance(made, Pipeline)
    return made


def slow_down(pause_s: float) -> None:
    """Widen the moment between the seek to the committed offsets and the first poll: what may happen in it, will."""
    seek = transport.BatchConsumer.perform_seek

    async def slow(consumer: transport.BatchConsumer) -> None:
        await seek(consumer)
        await asyncio.sleep(pause_s)

    transport.BatchConsumer.perform_seek = slow  # type: ignore[method-assign,assignment] # the point


def main(arguments: str) -> None:
    """Run the worker that `arguments` describe."""
    given = json.loads(arguments)
    if given["session_s"] is not None:
        worker.SESSION_TIMEOUT_S = given["session_s"]
        worker.HEARTBEAT_S = given["session_s"] / 6
    exec(given["patch"], {})
    if given["pause_s"]:
        slow_down(given["pause_s"])
    config = worker.WorkerConfig(
        KafkaSettings.plaintext(given["bootstrap"]).client_options(),
        Path(given["home"]),
        playback=given["playback"],
        metrics_port=given["metrics_port"],
        instance=given["instance"],
    )
    worker.run_worker(compile_plan(pipeline_of(given["expression"])), config)


if __name__ == "__main__":
    main(sys.argv[1])
