"""Named points in a lane's life at which a worker process ends, or freezes, itself: built from outside, by wrapping.

`install` runs in the worker's process before the worker does (tests/support/worker_process.py). Midstream itself knows
nothing of it.
"""

import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, NamedTuple

from aiokafka import AIOKafkaProducer

from streams import opening
from streams.lanes import Lanes
from tables.store import Store


class Point(NamedTuple):
    """A function of `owner`, whether the point is before or after it, and for which first arguments it counts."""

    owner: Any
    name: str
    side: Literal["before", "after"]
    counts: Callable[[Any], bool] = lambda first: True


POINTS = {
    "before the transaction": Point(AIOKafkaProducer, "begin_transaction", "before"),
    "after sends": Point(AIOKafkaProducer, "send_offsets_to_transaction", "before"),
    "after offsets": Point(AIOKafkaProducer, "commit_transaction", "before"),
    "after EndTxn": Point(AIOKafkaProducer, "commit_transaction", "after"),
    "before the RocksDB write": Point(Store, "write", "before"),
    "after the RocksDB write": Point(Store, "write", "after"),
    "after the fence": Point(opening, "restore", "before"),
    "in restore": Point(Store, "restore", "before"),
    "after restore": Point(opening, "restore", "after"),
    "in revoke": Point(Lanes, "revoke", "before", lambda lanes: bool(lanes.open_lanes)),
    "between closing lanes": Point(Store, "close", "before"),
}
HOW = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}


def install(point: str, nth: int, how: str, broker: int | None = None) -> None:
    """Let the process be killed, or frozen, when `point` is reached for the `nth` time; before it `broker` (a pid)."""
    owner, name, side, counts = POINTS[point]
    reached = itertools.count(1)

    def strike(args: tuple[Any, ...]) -> None:
        if counts(args[0]) and next(reached) == nth:
            if broker is not None:
                os.kill(broker, signal.SIGKILL)
            print(f"failpoint: {how} {point}, time {nth}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), HOW[how])

    setattr(owner, name, wrapped(getattr(owner, name), strike, side))


def wrapped(
    function: Callable[..., Any], strike: Callable[[tuple[Any, ...]], None], side: str
) -> Callable[..., Any]:
    """`function` with `strike` before or after it."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            if side == "before":
                strike(args)
            result = await function(*args, **kwargs)
            if side == "after":
                strike(args)
            return result

        return waiting

    @wraps(function)
    def straight(*args: Any, **kwargs: Any) -> Any:
        if side == "before":
            strike(args)
        result = function(*args, **kwargs)
        if side == "after":
            strike(args)
        return result

    return straight
