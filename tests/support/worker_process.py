"""The process behind `tests.support.workers.Worker`: its arguments in JSON come in, a worker runs until it is ended."""

import asyncio
import ctypes
import importlib
import json
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from streams import transport, worker
from streams.failures import told
from streams.lane import LaneConfig
from streams.pipeline import Pipeline
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from tables import store

PR_SET_PDEATHSIG = 1


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


def give_up_after(stuck_s: float) -> None:
    """Set how long a lane may be stuck: what the worker makes its lanes with says so."""
    made = worker.lane_config

    async def config(*args: Any) -> LaneConfig:
        return replace(await made(*args), stuck_s=stuck_s)

    worker.lane_config = config  # type: ignore[assignment] # the point


def sabotage(given: dict[str, Any]) -> None:
    """Do to this process what the test asks for."""
    # What is stopped by SIGSTOP sees no closed pipe: the kernel ends it when the test is gone.
    if given["attached"] and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if given["file_limit_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given["file_limit_bytes"],) * 2)
        # So that it soon writes a file, and that one too large a one.
        store.WRITE_BUFFER_BYTES = 8 * given["file_limit_bytes"]
    if given["session_s"] is not None:
        worker.SESSION_TIMEOUT_S = worker.STATIC_SESSION_TIMEOUT_S = given["session_s"]
        worker.HEARTBEAT_S = given["session_s"] / 6
    if given["stuck_s"] is not None:
        give_up_after(given["stuck_s"])
    exec(given["patch"], {})
    if given["pause_s"]:
        slow_down(given["pause_s"])


def main(arguments: str) -> None:
    """Run the worker that `arguments` describe."""
    given = json.loads(arguments)
    sabotage(given)
    config = worker.WorkerConfig(
        KafkaSettings.plaintext(given["bootstrap"]).client_options(),
        Path(given["home"]),
        playback=given["playback"],
        metrics_port=given["metrics_port"],
        instance=given["instance"],
        attached=given["attached"],
    )
    try:
        worker.run_worker(compile_plan(pipeline_of(given["expression"])), config)
    except Exception as error:
        # As `midstream worker` ends: an error that a person can do something about is a line and a code.
        known = told(error)
        if known is None:
            raise
        print(f"midstream: {known[1]}", file=sys.stderr, flush=True)
        sys.exit(known[0])


if __name__ == "__main__":
    main(sys.argv[1])
