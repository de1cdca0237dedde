"""Looks at the ends of the topics come in; ends go out that no transaction of a lane is in with only a part.

A transaction becomes readable partition by partition, so one look at all ends can find an action whose decision is not
there yet. Lanes share no transaction: each has its own instant between two of them, and it is enough to find that.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

# Topic and partition; aiokafka's TopicPartition is one.
Place = tuple[str, int]
Look = Callable[[], Awaitable[Mapping[Place, int]]]


async def between_transactions(
    lanes: Mapping[int, Sequence[Place]], stable: Look, high: Look, patience_s: float
) -> tuple[dict[Place, int], frozenset[int]]:
    """An end for every place, and the lanes for which no instant between two transactions was found in time.

    A last stable offset never lies beyond the high watermark, and neither ever falls. So when the high watermark of a
    place, looked up second, equals the last stable offset, looked up first, then nothing was appended to the place
    between the two looks and nothing in it was undecided. When that is so for every place of a lane, it was so for all
    of them at once: after the last of the first looks and before the first of the second.

    Args:
        lanes: lane → the places that its transactions write to. Other places get their last stable offset.
        stable: the last stable offset of every place; aiokafka's `end_offsets` under `read_committed`.
        high: the high watermark of every place; the same under `read_uncommitted`.
        patience_s: after this long the last stable offsets have to do.
    """
    deadline_s = time.monotonic() + patience_s
    waiting = dict(lanes)
    found: dict[Place, int] = {}
    while True:
        last, top = await stable(), await high()
        for lane, places in list(waiting.items()):
            if all(last[place] == top[place] for place in places):
                found |= {place: last[place] for place in places}
                del waiting[lane]
        if not waiting or time.monotonic() > deadline_s:
            return {**last, **found}, frozenset(waiting)
