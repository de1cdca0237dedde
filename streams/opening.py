"""A lane's database as it must be before the first batch: a folder and its changelogs come in, an open store goes out.

What is damaged, or does not go with the changelogs any more, is set aside and restored; each time it is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from streams.exits import say
from streams.heads import ChangelogError, Heads, read_heads
from streams.kafka import committed_offsets, reader
from streams.metrics import Metrics
from streams.restore import restore
from tables.store import DamagedError, Store, StoreError, set_aside
from tables.timers import Timers

# How long a database may be held by a process that has lost the lane: it closes it within its batch, or is killed.
HELD_S = 30.0
HELD_RETRY_S = 0.25


class Opened(NamedTuple):
    """A lane's state: its database, its timers, changelog topic → next offset, and what its offset carries on."""

    store: Store
    timers: Timers
    offsets: dict[str, int]
    heads: Heads


@dataclass(frozen=True)
class Opening:
    """One lane's database, to be opened."""

    clients: Mapping[str, Any]
    group: str
    source: TopicPartition
    # Changelog topic → entity.
    changelogs: Mapping[str, str]
    folder: Path
    lane: str
    stuck_s: float
    metrics: Metrics

    async def opened(self) -> Opened:
        """Open and restore; the lane must have been fenced.

        Raises:
            ChangelogError: a changelog has lost rows, or the group its offset.
            StoreError: the database cannot be used, or is damaged as soon as it has been made anew.
            TimeoutError: the restore does not move.
        """
        committed = (await committed_offsets(self.clients, self.group)).get(self.source)
        heads = Heads() if committed is None else read_heads(committed.metadata)
        try:
            opened = await self._attempt(heads)
        except DamagedError as error:
            say(f"lane {self.lane}: {error}. What is damaged is kept in {set_aside(self.folder)}")
            opened = await self._attempt(heads)
        # Not by the changelogs' ends: a first transaction that was aborted moves them, too.
        if committed is None and next(opened.store.rows(), None) is not None:
            # Rows and offset are of one transaction: where there is the one, there was the other.
            release(opened.store)
            raise ChangelogError(
                f"it has rows, but the group {self.group} has no offset for {self.source.topic} partition "
                f"{self.source.partition}: the topic was made anew, or all workers were away for longer than the "
                f"brokers' offsets.retention.minutes. Say where it goes on: midstream offsets reset PIPELINE "
                f"--to earliest|OFFSET --partition events:{self.source.partition}"
            )
        return opened

    async def _attempt(self, heads: Heads) -> Opened:
        store = await self._fitting(heads.life)
        try:
            offsets = await restore(
                self.clients,
                store,
                self.changelogs,
                self.source.partition,
                self.lane,
                self.stuck_s,
                self.metrics,
                heads,
            )
            return Opened(store, Timers(store.timers()), offsets, heads)
        except BaseException:
            release(store)
            raise

    async def _fitting(self, life: str) -> Store:
        """The lane's database; an empty one if it is of another life of its changelogs."""
        store = await self._held()
        try:
            if store.life() == life:
                return store
            if store.offsets():
                store.close()
                say(
                    f"lane {self.lane}: {self.folder} is from before its changelogs were taken as they are (midstream "
                    f"offsets reset --to keep): kept in {set_aside(self.folder)}, the lane is restored"
                )
                store = await self._held()
            store.begin_life(life)
        except BaseException:
            release(store)
            raise
        return store

    async def _held(self) -> Store:
        """Open the database; wait for another process on this machine to let go of it."""
        deadline = time.monotonic() + HELD_S
        while True:
            try:
                return await asyncio.to_thread(Store, self.folder)
            except StoreError as error:
                # RocksDB names its lock file when somebody else has it.
                if f"{self.folder}/LOCK: " not in str(error) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(HELD_RETRY_S)


async def look_at_source(clients: Mapping[str, Any], group: str, source: TopicPartition, lane: str) -> None:
    """Say it when a source without rows of its own (`raw`) has no offset although the group has read on behind it.

    Kafka forgets a group's offsets with the topic. Its new records are read from the first one, as they must be.
    """
    committed = await committed_offsets(clients, group)
    if not committed or any(tp.topic == source.topic for tp in committed):
        return
    async with reader(clients, [source]) as consumer:
        last = (await consumer.end_offsets([source]))[source]
    if last:
        say(
            f"lane {lane}: {source.topic} has no committed offset, but {len(committed)} partitions behind it have. "
            f"It was made anew, or is first written now: it is read from its first record on; what an older topic of "
            f"that name held and nobody had read is lost"
        )


def release(store: Store) -> None:
    """Close a database that may be past closing: what matters is that its lock is free."""
    with contextlib.suppress(Exception):
        store.close()
