"""The process behind `tests.support.workers.Worker`: its arguments in JSON come in, a worker runs until it is ended."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from streams import worker
from streams.pipeline import Pipeline
from streams.plan import compile_plan
from streams.settings import KafkaSettings


def pipeline_of(expression: str) -> Pipeline:
    """`module:call` → the pipeline."""
    module, _, call = expression.partition(":")
    made: Any = eval(call, vars(importlib.import_module(module)))
    assert isinstance(made, Pipeline)
    return made


def main(arguments: str) -> None:
    """Run the worker that `arguments` describe."""
    given = json.loads(arguments)
    if given["session_s"] is not None:
        worker.SESSION_TIMEOUT_S = given["session_s"]
        worker.HEARTBEAT_S = given["session_s"] / 6
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
