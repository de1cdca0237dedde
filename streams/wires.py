"""Wire batches: outputs and changed rows of one batch come in, packed producer batches per topic and partition go out.

Every output is encoded as soon as it is there, so that a batch holds its bytes once and no list of records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.keys import partition_of
from schemas.record import NO_HEADERS, Out
from streams import topics
from streams.plan import Plan
from tables.entity import ChangedRow

# A producer batch on the wire; one transaction sends as many as it needs.
WIRE_BATCH_BYTES = 900_000


class TooLargeError(Exception):
    """An output or a row is larger than any may be."""


class Wire(NamedTuple):
    """A producer batch, ready to be sent: where to, and how many records it has."""

    topic: str
    partition: int
    batch: Any
    records: int


@dataclass
class Wires:
    """What one transaction writes, packed while it is computed. Order within a topic and partition is kept."""

    plan: Plan
    # The lane's partition, and how many there are of `events` and every topic behind it.
    partition: int
    partitions: int
    # Makes an empty producer batch.
    create: Callable[[], BatchBuilder]
    # Decisions and actions, of which metrics are kept.
    told: list[Out] = field(default_factory=list)
    # When the batch was computed, epoch milliseconds: the Kafka timestamp of all that it writes.
    at_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    _full: list[tuple[str, int, BatchBuilder]] = field(default_factory=list)
    _open: dict[tuple[str, int], BatchBuilder] = field(default_factory=dict)

    def add(self, out: Out) -> None:
        """Pack one output.

        Raises:
            TooLargeError: it is larger than `topics.MAX_OUT_BYTES`.
        """
        role, key, value, headers, partition = out
        # What is refused goes away whole: Kafka has let it in, and its topic takes as much.
        if value is not None and len(value) > topics.MAX_OUT_BYTES and role != topics.QUARANTINE:
            raise TooLargeError(f"a record of {len(value)} bytes for {role}")
        if partition is None:
            partition = (
                self.partition % self.partitions if key is None else partition_of(key, self.partitions)
            )
        self._append(role, partition, key, value, headers)
        if role in (topics.ACTIONS, topics.DECISIONS):
            self.told.append(out)

    def add_rows(self, changed: Iterable[ChangedRow]) -> None:
        """Pack changed rows for their changelogs.

        Raises:
            TooLargeError: one is larger than `topics.MAX_OUT_BYTES`.
        """
        for row in changed:
            if len(row.value) > topics.MAX_OUT_BYTES:
                raise TooLargeError(f"a row of {len(row.value)} bytes: {row.key!r}")
            headers = NO_HEADERS if row.due_ms is None else [("ms_due", b"%d" % row.due_ms)]
            self._append(topics.changelog(row.entity), self.partition, row.key, row.value, headers)

    def _append(
        self,
        role: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
    ) -> None:
        batch = self._open.get((role, partition))
        if batch is None:
            batch = self._open[role, partition] = self.create()
        if batch.append(timestamp=self.at_ms, key=key, value=value, headers=headers) is not None:
            return
        self._full.append((role, partition, batch))
        batch = self._open[role, partition] = self.create()
        # An empty batch takes any record.
        batch.append(timestamp=self.at_ms, key=key, value=value, headers=headers)

    def close(self) -> Iterator[Wire]:
        """Everything that was packed, in order."""
        last = ((*where, batch) for where, batch in self._open.items())
        for role, partition, batch in (*self._full, *last):
            batch.close()
            yield Wire(topics.topic_name(self.plan, role), partition, batch, batch.record_count())
