"""Records made by hand, as a poll brings them."""

from collections.abc import Sequence

from schemas.record import Given
from streams.chunks import Chunk


def chunk(records: Sequence[Given]) -> Chunk:
    """One poll of the partition of `records`."""
    first, last = records[0], records[-1]
    return Chunk(first.topic, first.partition, first.offset, last.offset + 1, records)
