"""A worker process: a plan and a Kafka come in, Faust agents over lanes run until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import mode.loop
from faust.app.base import BootStrategy
from faust.types import TP, StreamT

from streams import kafka, topics
from streams.exits import EXIT_MISTAKE, die, stop_with_stdin
from streams.health import Health, Teller, pages
from streams.lane import LaneConfig
from streams.lanes import Lanes
from streams.metrics import Metrics, serve
from streams.outage import Outage
from streams.partitions import fitting
from streams.plan import Plan
from streams.signatures import PipelineError
from streams.transport import BatchSchema, BatchTransport, Place
from streams.watchdog import Watchdog

# A crashed worker's partitions move on after this; a rebalance pauses everybody for less.
SESSION_TIMEOUT_S = 10.0
# One with a fixed name comes back under it: what is its own waits for the restart.
STATIC_SESSION_TIMEOUT_S = 30.0
HEARTBEAT_S = 3.0
WATCH_INTERVAL_S = 0.5
# A batch in flight takes well under a second; what takes this long will not end by itself.
ORDERLY_STOP_S = 20.0
# How long a worker whose lanes are closed may take to leave the group and end by itself.
LEAVE_S = 5.0
STOP_CHECK_S = 0.5


@dataclass(frozen=True)
class WorkerConfig:
    """Where one worker process reads, keeps and shows what it does."""

    clients: Mapping[str, Any]
    # Local databases; a folder per cluster and pipeline is made in it.
    home: Path
    playback: bool = False
    metrics_port: int | None = None
    # Stop when standard input closes: the process that started this worker is gone, however it went.
    attached: bool = False
    # A fixed name makes a restart keep its partitions (static membership).
    instance: str | None = None
    # Told how many lanes run, each time that they have been opened.
    opened: Callable[[int], None] | None = None
    # One line for people, and the worker's health for a program, now and then.
    notice: Callable[[str], None] = lambda line: None
    report: Callable[[Health], None] | None = None


class LaneBoot(BootStrategy):
    """Faust without its producer and web server: lanes produce, and metrics have a port of their own."""

    enable_kafka_producer = False
    enable_web = False


class LaneApp(faust.App):
    """A Faust app that boots without what the lanes replace, and ends the process when a part of it fails."""

    BootStrategy = LaneBoot

    def _crash(self, reason: BaseException) -> None:
        """Called for a failure anywhere below. Faust would stop the rest in good order, which takes seconds, may
        hang, and ends with the exit code of a program that is wrong.
        """
        said = f"{type(reason).__name__}: {reason}"
        if isinstance(reason, asyncio.CancelledError):
            said = "a part of the worker was cancelled while it waited for Kafka"
        die(f"{self.conf.id}: {said}", reason)


class LaneWorker(faust.Worker):
    """A Faust worker that ends when its services have: Faust waits two seconds more, for nothing of ours."""

    def _shutdown_loop(self) -> None:
        """Only what ends with the process is left."""


@contextmanager
def or_die(what: str) -> Iterator[None]:
    """End the process if the body fails: Faust and aiokafka would log it and go on without the lanes."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        die(f"{what}: {type(error).__name__}: {error}", error)


async def lane_config(plan: Plan, config: WorkerConfig) -> LaneConfig:
    """Look at the cluster: its id and the pipeline's topics.

    Raises:
        PipelineError: a topic is missing, or its number of partitions is not the one it must be.
    """
    partitions = await fitting(config.clients, plan)
    folder = config.home / await kafka.cluster_id(config.clients) / plan.name
    return LaneConfig(plan, config.clients, plan.name, partitions, folder, config.playback)


def build(plan: Plan, config: WorkerConfig, lanes: Lanes) -> faust.App:
    """The Faust app: which agent reads which topic, and when lanes open and close."""
    app = LaneApp(
        plan.name,
        broker=f"kafka://{str(config.clients['bootstrap_servers']).replace(',', ';')}",
        store="memory://",
        datadir=str(config.home / "faust"),
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=STATIC_SESSION_TIMEOUT_S if config.instance else SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_max_poll_interval=600.0,
        consumer_group_instance_id=config.instance,
        stream_buffer_maxsize=4,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
    )

    async def closing(*args: Any, **kwargs: Any) -> None:
        lanes.metrics.assigned.set(-1)
        with or_die(f"{plan.name}: a lane could not be closed"):
            await lanes.revoke()

    app.transport = BatchTransport(app, config.clients, closing, lanes.sought)

    def source(role: str) -> Any:
        schema = BatchSchema(key_serializer="raw", value_serializer="raw")
        return app.topic(topics.topic_name(plan, role), schema=schema, acks=False)

    async def ingest(stream: StreamT[Any]) -> None:
        """`raw` → `events`: see `streams.topology.Ingest`."""
        await hand_over(stream, lanes)

    async def entity(stream: StreamT[Any]) -> None:
        """`events` → everything else: see `streams.topology.EntityLane`."""
        await hand_over(stream, lanes)

    app.agent(source(topics.RAW), name="ingest")(ingest)
    app.agent(source(topics.EVENTS), name="entity")(entity)

    # Sent after the assignment and before Faust seeks to the committed offsets: a lane is fenced first.
    async def opened(*args: Any, **kwargs: Any) -> None:
        consumer: Any = app.consumer

        def held() -> list[tuple[str, int]]:
            return [(tp.topic, tp.partition) for tp in consumer.assignment()] if consumer.holding else []

        with or_die(f"{plan.name}: a lane could not be opened"):
            await check_fit(plan, lanes.config)
            await lanes.assign(held)
        lanes.metrics.assigned.set(len(lanes.open_lanes))
        if config.opened is not None:
            config.opened(len(lanes.open_lanes))

    app.on_rebalance_complete.connect(opened, weak=False)
    app.on_before_shutdown.connect(closing, weak=False)
    return app


async def check_fit(plan: Plan, config: LaneConfig) -> None:
    """End the process if the topics have grown since it began: partitions that are new would be lanes without state."""
    try:
        found = await fitting(config.clients, plan)
    except PipelineError as error:
        die(str(error), code=EXIT_MISTAKE)
    if found != config.partitions:
        die(f"{plan.name}: the topics had {config.partitions} partitions and have {found} now")


async def hand_over(stream: AsyncIterable[Any], lanes: Lanes) -> None:
    """Give each polled batch to the lane of its partition."""
    with or_die("a batch could not be handed over"):
        async for poll in stream:
            await lanes.submit(poll.epoch, poll.chunk)


async def watch(app: faust.App, lanes: Lanes, metrics: Metrics, outage: Outage, stuck_s: float) -> None:
    """Show how many records each lane has yet to read; end the process when none is read although some wait.

    Faust and aiokafka have ways to hang that look healthy: a task that ended in silence, a rebalance that never does.
    """
    places: dict[TP, Place] = {}
    moved_s = time.monotonic()
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        found = await positions(app, places)
        for tp, place in found.items():
            lane = lanes.open_lanes.get((tp.topic, tp.partition))
            if lane is not None:
                metrics.looked(lane.name, max(0, place.last - place.position), place.heard_s)
        waiting = sum(place.last - place.position for place in found.values())
        outage.heard(max((place.heard_s for place in found.values()), default=0.0))
        # When it was heard is no progress.
        found = {tp: place._replace(heard_s=0.0) for tp, place in found.items()}
        # Opening and closing lanes have a limit of their own.
        if found != places or lanes.turning or not (waiting or app.rebalancing):
            places, moved_s = found, time.monotonic()
        elif time.monotonic() - moved_s > stuck_s:
            die(f"{app.conf.id}: nothing was read for {stuck_s:g} s although {waiting} records wait")


async def positions(app: faust.App, before: dict[TP, Place]) -> dict[TP, Place]:
    """How far each partition has been read; `before` while the consumer cannot say."""
    thread = getattr(app.consumer, "_thread", None)
    if thread is None or thread._consumer is None:
        return before
    try:
        async with asyncio.timeout(WATCH_INTERVAL_S * 10):
            found: dict[TP, Place] = await thread.positions()
    except TimeoutError:
        return before
    return found


def run_worker(plan: Plan, config: WorkerConfig) -> None:
    """Run one worker until SIGINT or SIGTERM; it then finishes the batches in flight and leaves the group.

    Raises:
        PipelineError: topics are missing or do not fit.
        aiokafka.errors.KafkaError: Kafka cannot be reached.
    """
    mode.loop.use("uvloop")
    (config.home / "faust").mkdir(parents=True, exist_ok=True)
    metrics = Metrics()
    # What a client logs while it looks for Kafka in vain is said by the error itself.
    log = logging.getLogger("aiokafka")
    log.setLevel(logging.CRITICAL)
    lane = asyncio.run(lane_config(plan, config))
    log.setLevel(logging.NOTSET)
    outage = Outage(lambda line: config.notice(f"{plan.name}: {line}"))
    outage.install()
    teller = Teller(plan.name, metrics, config.notice, config.report)
    if config.metrics_port is not None:
        serve(config.metrics_port, metrics.registry, pages(teller.ask))
    teller.start()
    if config.attached:
        threading.Thread(target=stop_with_stdin, daemon=True).start()
    # Faust listens to SIGINT and SIGTERM; a terminal that goes away means the same.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    lanes = Lanes(lane, metrics)
    app = build(plan, config, lanes)

    async def watching() -> None:
        # A lane ends the process itself when a batch takes too long; here is what lies between the lanes.
        await watch(app, lanes, metrics, outage, 2 * lane.stuck_s)

    app.task(watching)
    watchdog = Watchdog(plan.name, lane.stuck_s)
    app.task(watchdog.turn)
    threading.Thread(target=watchdog.watch, daemon=True, name="watchdog").start()
    worker = LaneWorker(app, loop=loop, loglevel=logging.WARNING, quiet=True, redirect_stdouts=False)
    # It writes cursor sequences to standard output, terminal or not.
    worker.spinner = None
    threading.Thread(target=end_in_time, args=(worker, lanes), daemon=True).start()
    worker.execute_from_commandline()


def end_in_time(worker: faust.Worker, lanes: Lanes) -> None:
    """End a process that was told to stop and does not: with Kafka away, a client can wait for it for ever, and a
    group that waits for a dead member lets nobody leave.
    """
    while not worker.should_stop:
        time.sleep(STOP_CHECK_S)
    deadline = time.monotonic() + ORDERLY_STOP_S
    while lanes.open_lanes or lanes.turning:
        if time.monotonic() > deadline:
            break
        time.sleep(STOP_CHECK_S)
    else:
        # Every batch is committed and every database closed: what is left is to say good-bye.
        time.sleep(LEAVE_S)
        os._exit(0)
    die(f"told to stop, and not done within {ORDERLY_STOP_S:g} s; what was not committed will be done again")
