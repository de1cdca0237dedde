"""Playback: a feed of past events in, the same events on `raw` in their old order and at a chosen speed, with a clock.

The publisher drives time: every `clock_step` of event time, each partition of `raw` gets a clock record. All that
happened before it stands before it, so a storm of 2013 played in thirty seconds has the time-outs of 2013.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_core import to_json

from schemas.event import CLOCK, Clock, Headers
from schemas.times import rfc3339
from streams.kafka import plain_producer

# Time goes on after the last event until everything that waits for late facts has been decided.
AFTERWARDS_MS = 3 * 3600 * 1000


class Played(Protocol):
    """One record of a feed."""

    @property
    def key(self) -> bytes:
        """The Kafka key."""

    @property
    def headers(self) -> Headers:
        """The Kafka headers, in order."""

    @property
    def value(self) -> bytes:
        """The bytes of the record."""

    @property
    def play_ms(self) -> int:
        """Where it stands in the play: event time and what displaces it, epoch milliseconds."""


@dataclass
class Progress:
    """How far a playback has come."""

    published: int = 0
    at_ms: int = 0
    final_ms: int | None = None


async def play(
    clients: Mapping[str, Any],
    topic: str,
    partitions: int,
    feed: Iterable[Played],
    *,
    speed: float,
    clock_step_ms: int = 30 * 60 * 1000,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Publish `feed` to `topic` in its play order.

    Args:
        clients: aiokafka options.
        topic: the pipeline's `raw` topic.
        partitions: how many partitions it has; each gets every clock record.
        feed: records in play order.
        speed: event seconds per second; 0 plays as fast as Kafka takes it.
        clock_step_ms: how often the clock is published, in event time.
        progress: updated while it goes on.
        stop: asked now and then; True ends the playback early, without a final clock.

    Raises:
        aiokafka.errors.KafkaError: Kafka did not take a record; what came after it may be there or not.
    """
    done = progress or Progress()
    async with plain_producer(clients) as producer:
        out = Outlet(producer, topic, partitions)
        clock_ms: int | None = None
        began, first_ms = time.monotonic(), 0
        for record in feed:
            if clock_ms is None:
                first_ms = clock_ms = record.play_ms // clock_step_ms * clock_step_ms
            while record.play_ms >= clock_ms + clock_step_ms:
                clock_ms += clock_step_ms
                await out.tell_time(clock_ms)
                if stop():
                    return done
                if speed:
                    await asyncio.sleep(
                        max(0.0, (clock_ms - first_ms) / 1000 / speed - (time.monotonic() - began))
                    )
            await out.send(record.value, record.key, list(record.headers))
            done.published += 1
            done.at_ms = record.play_ms
        if clock_ms is not None:
            # At least one step, so that there is a last word.
            last_ms = (done.at_ms + AFTERWARDS_MS) // clock_step_ms * clock_step_ms
            done.final_ms = max(clock_ms + clock_step_ms, last_ms)
            for at_ms in range(clock_ms + clock_step_ms, done.final_ms + 1, clock_step_ms):
                await out.tell_time(at_ms, final=at_ms == done.final_ms)
            await out.flush()
    return done


class Outlet:
    """Where the records go: one topic, and a note of what Kafka did not take."""

    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        """Publish with `producer` to the `partitions` of `topic`."""
        self.producer, self.topic, self.partitions = producer, topic, partitions
        self.failed: list[BaseException] = []

    async def send(
        self, value: bytes, key: bytes, headers: list[tuple[str, bytes]], partition: int | None = None
    ) -> None:
        """Send one record; the answer is looked at later."""
        future = await self.producer.send(self.topic, value, key=key, headers=headers, partition=partition)
        future.add_done_callback(self._sent)

    def _sent(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self.failed.append(error)

    async def tell_time(self, at_ms: int, final: bool = False) -> None:
        """One clock record on every partition, behind everything sent before it."""
        for number in range(self.partitions):
            clock = Clock(at_ms=at_ms, origin=f"raw/{number}", origins=self.partitions, final=final)
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_id", f"{clock.origin}@{at_ms}".encode()),
                ("ce_type", CLOCK.encode()),
                ("ce_source", b"/midstream/playback"),
                ("ce_time", rfc3339(at_ms).encode()),
                ("content-type", b"application/json"),
            ]
            await self.send(to_json(clock), b"clock", headers, number)
        self._check()

    async def flush(self) -> None:
        """Wait until Kafka has answered everything."""
        await self.producer.flush()
        self._check()

    def _check(self) -> None:
        if self.failed:
            raise self.failed[0]
