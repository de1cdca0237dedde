"""streams/chunks.py: what is taken of a fetch is what aiokafka itself would hand out, record for record."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams import transport
from streams.chunks import Chunk, KeptRecords, take

TP = TopicPartition("t", 3)
# `transport` lets fetchers keep their bytes when it is imported.
assert transport.fetched is not None


class Place:
    """One partition's position, as a subscription holds it."""

    paused = False

    def __init__(self, position: int) -> None:
        self.position = position
        self.active = True

    def state_value(self, tp: TopicPartition) -> Place:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def batch(base: int, count: int, producer: int = -1, lz4: bool = False) -> bytes:
    """`count` records from offset `base` on, as a broker keeps them; with a producer, in a transaction."""
    builder = DefaultRecordBatchBuilder(2, 3 if lz4 else 0, int(producer >= 0), producer, 0, 0, 1 << 20)
    for number in range(count):
        offset = base + number
        builder.append(number, offset, b"k%d" % offset, b"v%d" % offset, [("h", b"%d" % offset)])
    return with_base(builder.build(), base)


def marker(base: int, producer: int, commit: bool) -> bytes:
    """The end of a transaction: a control record."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 20)
    builder.append(0, 0, b"\0\0\0\1" if commit else b"\0\0\0\0", b"\0" * 6, [])
    raw = builder.build()
    # Attribute bit 5: control. It is under the checksum, which is then reckoned anew by the builder's own function.
    raw[22] |= 0x20
    from aiokafka.record.util import calc_crc32c_py

    raw[17:21] = calc_crc32c_py(bytes(raw[21:])).to_bytes(4, "big")
    return with_base(raw, base)


def with_base(raw: bytearray, base: int) -> bytes:
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


def result(buffer: bytes, first: int, aborted: list[tuple[int, int]], reader: Any = KeptRecords) -> Any:
    """A fetch of `buffer` from offset `first` on, as aiokafka's fetcher holds it."""
    waiting = PartitionRecords(TP, reader(buffer), aborted, first, None, None, True, READ_COMMITTED)
    return FetchResult(TP, assignment=Place(first), partition_records=waiting, backoff=0)


def told(chunk: Chunk) -> list[tuple[Any, ...]]:
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in chunk.records]


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]], int]:
    """Kafka's bytes of a partition, its aborted transactions, and an offset to begin at."""
    at, parts, aborted = 0, [], []
    # A broker begins with the batch that holds the offset it was asked for.
    first = draw(st.integers(0, 3))
    for number in range(draw(st.integers(1, 6))):
        count, kind = draw(st.integers(1, 4)), draw(st.sampled_from(["plain", "lz4", "commit", "abort"]))
        count += 0 if number else first
        if kind in ("plain", "lz4"):
            parts.append(batch(at, count, lz4=kind == "lz4"))
            at += count
            continue
        producer = draw(st.integers(0, 2))
        parts += [batch(at, count, producer), marker(at + count, producer, kind == "commit")]
        if kind == "abort":
            aborted.append((producer, at))
        # A gap, as compaction leaves them.
        at += count + 1 + draw(st.integers(0, 3))
    return b"".join(parts), aborted, first


@given(logs())
def test_a_fetch_is_taken_as_aiokafka_would(log: tuple[bytes, list[tuple[int, int]], int]) -> None:
    buffer, aborted, first = log
    theirs = result(buffer, first, aborted, MemoryRecords)
    expected = [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in theirs.getall()]
    ours = result(buffer, first, aborted)
    chunk = take(ours)
    if chunk is None:
        assert expected == []
    else:
        assert told(chunk) == expected
        assert (chunk.topic, chunk.partition, chunk.first) == ("t", 3, first)
        assert told(chunk) == expected, "it can be read again"
        assert chunk.next_offset == theirs._assignment.position
    assert ours._assignment.position == theirs._assignment.position
    assert take(ours) is None


def test_a_position_that_has_moved_since_makes_a_fetch_useless() -> None:
    moved = result(batch(0, 3), 0, [])
    moved._assignment.position = 7
    assert take(moved) is None
    assert moved._assignment.position == 7


def test_a_broken_byte_is_never_handed_on() -> None:
    raw = bytearray(batch(0, 3))
    raw[-3] ^= 0xFF
    with pytest.raises(CorruptRecordException, match="Invalid CRC"):
        take(result(bytes(raw), 0, []))
