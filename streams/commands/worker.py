"""`midstream worker PIPELINE`: a pipeline file comes in; a worker runs it until it is stopped."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from streams.commands.shared import PipelineFile, note, plan_of
from streams.settings import SettingsError
from streams.where import clients, state_home

app = App(name="worker")


@app.default
def worker(
    pipeline: PipelineFile,
    /,
    *,
    playback: Annotated[
        bool, Parameter(negative="", help="Time comes from the publisher's clock, not from the wall.")
    ] = False,
    home: Annotated[Path | None, Parameter(help="Where the local databases are kept.")] = None,
    metrics_port: Annotated[
        int, Parameter(validator=Number(gte=0, lte=65535), help="Prometheus metrics on loopback; 0: none.")
    ] = 0,
    instance: Annotated[
        str | None, Parameter(help="A fixed name: a restart under it keeps its partitions.")
    ] = None,
    attached: Annotated[
        bool, Parameter(negative="", help="Stop when standard input closes, so with whoever started it.")
    ] = False,
) -> int:
    """Run a pipeline until SIGINT (Ctrl-C) or SIGTERM; it then finishes the batches in flight and leaves the group.

    Exit code 0: it was stopped. 70: it stopped itself rather than do something wrong; start it again. 69: Kafka is
    not there. 78: a mistake in the pipeline, its topics or the settings; starting it again does not help.
    """
    plan = plan_of(pipeline)
    where = clients()
    # Only now: Faust, RocksDB and the rest take half a second to load.
    from streams.worker import WorkerConfig, run_worker

    config = WorkerConfig(
        where,
        (home or state_home()).absolute(),
        playback=playback,
        metrics_port=metrics_port or None,
        instance=instance,
        attached=attached,
        opened=lambda count: note(f"{plan.name}: ready, {count} lanes run on {where['bootstrap_servers']}"),
    )
    try:
        run_worker(plan, config)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SettingsError(
            f"--metrics-port {metrics_port} is taken: choose another, or 0 for none"
        ) from error
    return 0
