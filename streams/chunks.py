"""What a poll of one partition brings: Kafka's bytes come in; records come out, decoded one by one while they are read.

A fetched record is some thirty Python objects. Decoding a poll at once makes a hundred thousand of them, which push
the rows out of the processor's cache before the first record is looked at; one by one, each is made of the memory of
the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from schemas.record import Record


@dataclass(frozen=True, slots=True)
class Chunk:
    """The records of one poll of one partition: what a lane takes as one batch."""

    topic: str
    partition: int
    # The offset at which the poll began, and the one after everything that it covers.
    first: int
    next_offset: int
    # Can be read more than once.
    records: Iterable[Record]
    # As they came from Kafka.
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """The committed records in `buffer` (Kafka's record batches, one after the other) from offset `first` on."""

    buffer: bytes
    first: int
    # Base offsets of the batches that are neither control records nor of an aborted transaction.
    kept: frozenset[int]

    def __iter__(self) -> Iterator[Record]:
        """Decode one record after the other."""
        batches = MemoryRecords(self.buffer)
        while batches.has_next():
            batch = batches.next_batch()
            if batch.base_offset not in self.kept:
                continue
            for record in batch:
                # A seek may lead into the middle of a batch.
                if record.offset >= self.first:
                    yield record


class KeptRecords:
    """aiokafka's reader of record batches, which also keeps the bytes that it reads."""

    def __init__(self, buffer: bytes) -> None:
        """Read `buffer`."""
        self.buffer = buffer
        self._records = MemoryRecords(buffer)
        self.has_next = self._records.has_next
        self.next_batch = self._records.next_batch
        self.size_in_bytes = self._records.size_in_bytes


def keep_bytes() -> None:
    """Let aiokafka's fetchers keep what they fetch; other consumers of the process do not notice."""
    fetcher.MemoryRecords = KeptRecords


def take(result: Any) -> Chunk | None:
    """Everything of a fetch of one partition, and the consumer's position behind it; None when it is of no use.

    As `FetchResult.getall` and `PartitionRecords._unpack_records` do, which decode every record.

    Raises:
        aiokafka.errors.CorruptRecordException: a checksum does not fit. The same bytes are fetched again.
    """
    tp = result._topic_partition
    if not result.has_more() or not result.check_assignment(tp):
        return None
    waiting = result._partition_records
    first = waiting.next_fetch_offset
    kept = frozenset(committed(waiting, tp))
    result._update_position()
    result._partition_records = None
    # It refers to `waiting` and would keep the fetched bytes until the collector runs.
    waiting._records_iterator = None
    if not kept:
        return None
    records = Committed(waiting._records.buffer, first, kept)
    size_bytes = len(waiting._records.buffer)
    return Chunk(tp.topic, tp.partition, first, waiting.next_fetch_offset, records, size_bytes)


def committed(waiting: Any, tp: Any) -> Iterator[int]:
    """The base offsets of the batches of `waiting` (a `PartitionRecords`) that hold committed records."""
    while waiting._records.has_next():
        batch = waiting._records.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {tp}")
        aborted = False
        if batch.producer_id is not None:
            waiting._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and waiting._contains_abort_marker(batch):
                waiting._aborted_producers.discard(batch.producer_id)
            aborted = batch.is_transactional and batch.producer_id in waiting._aborted_producers
        waiting.next_fetch_offset = batch.next_offset
        if not aborted and not batch.is_control_batch:
            yield batch.base_offset
