"""The lanes of one worker: opened on assignment, closed on revocation; between the two they get what is polled, the
wall clock's ticks, and a collector that keeps out of their way.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterable

from streams import topics
from streams.chunks import Chunk
from streams.exits import die
from streams.lane import Lane, LaneConfig
from streams.leftovers import asking
from streams.metrics import Metrics

# How long cycles may wait for the collector while there is no quiet moment.
SWEEP_AT_LEAST_S = 20.0


class Lanes:
    """The lanes of one worker: opened on assignment, closed on revocation."""

    def __init__(self, config: LaneConfig, metrics: Metrics) -> None:
        """Hold no lane yet."""
        self.config, self.metrics = config, metrics
        self.open_lanes: dict[tuple[str, int], Lane] = {}
        # Polls made since the lanes were opened and the source was sought carry this number; others are of a time
        # before, and what came between them and the seek was not read.
        self.epoch: int | None = None
        self._roles = {topics.topic_name(config.plan, role): role for role in (topics.RAW, topics.EVENTS)}
        # Assignments and revocations follow each other; they never overlap.
        self._turn = asyncio.Lock()
        self._ticker: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def assign(self, partitions: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """Open the lanes of `partitions` (topic, number); all are fenced and restored when this returns.

        It is asked when it is this assignment's turn, and says none if another one has overtaken it by then.
        """
        async with self._turn:
            self.epoch = None
            wanted = {(topic, number) for topic, number in partitions() if topic in self._roles}
            await self._close([key for key in self.open_lanes if key not in wanted])
            lanes = [
                Lane(self.config, self._roles[topic], number, self.metrics)
                for topic, number in sorted(wanted - self.open_lanes.keys())
            ]
            # It turns the collector off, which a restore would otherwise feed with every record (half of its time).
            if self._sweeper is None:
                self._sweeper = asyncio.create_task(self._sweep(), name="sweeper")
                self._sweeper.add_done_callback(self._ended)
            if lanes:
                async with asyncio.timeout(10 * self.config.stuck_s), asking(self.config.clients) as client:
                    await asyncio.gather(*(lane.open(client) for lane in lanes))
            for lane in lanes:
                self.open_lanes[lane.source.topic, lane.partition] = lane
            if self._ticker is None and not self.config.playback:
                self._ticker = asyncio.create_task(self._tick(), name="ticker")
                self._ticker.add_done_callback(self._ended)

    async def revoke(self) -> None:
        """Finish the batches in flight and close every lane."""
        async with self._turn:
            self.epoch = None
            await self._close(list(self.open_lanes))

    async def _close(self, keys: Iterable[tuple[str, int]]) -> None:
        await asyncio.gather(*(lane.close() for lane in [self.open_lanes.pop(key) for key in keys]))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            die(f"{self.config.plan.name}: {task.get_name()}: {type(error).__name__}: {error}", error)

    def sought(self, epoch: int) -> None:
        """The source stands at the committed offsets; polls made from now on carry `epoch`."""
        self.epoch = epoch

    @property
    def turning(self) -> bool:
        """Whether lanes are being opened or closed just now."""
        return self._turn.locked()

    async def submit(self, epoch: int, chunk: Chunk) -> None:
        """Hand a polled batch to its lane; one from before the last seek is dropped: it is read once more."""
        lane = self.open_lanes.get((chunk.topic, chunk.partition))
        if lane is not None and epoch == self.epoch:
            await lane.submit(chunk)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now_ms = time.time_ns() // 1_000_000
            for lane in list(self.open_lanes.values()):
                await lane.tick(now_ms)

    async def _sweep(self) -> None:
        """Run the cyclic collector beside the lanes instead of inside their batches.

        Rows are freed by reference counts; what the collector is needed for is the little that clients leave in
        cycles. Left on, it would walk a hundred thousand live rows again and again (half of the time, measured).
        """
        gc.disable()
        swept = 0.0
        while True:
            await asyncio.sleep(1.0)
            idle = all(lane.queue.empty() for lane in self.open_lanes.values())
            if idle or time.monotonic() - swept > SWEEP_AT_LEAST_S:
                gc.collect(1)
                # What has survived is rows and the program itself: the next sweep need not look at it again.
                gc.freeze()
                swept = time.monotonic()
