"""Who is measured: each contender's name, toolchain and part of the work, and the order of a round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from streams.topics import EVENTS, RAW

Toolchain = Literal["ours", "faust", "quix", "bytewax", "raw", "kafka_streams"]

# Of a contender that gets fewer events than we do: not fewer than these.
ENOUGH = 50_000


@dataclass(frozen=True)
class Contender:
    """One side of the comparison. `about` is what a reader must know to judge its figure."""

    name: str
    toolchain: Toolchain
    about: str
    # Where it reads: "events", or "raw" for the whole way through ingest.
    role: str = EVENTS
    # A slow one gets one in so many of the events, but enough for some ten seconds; its figure is per second anyway.
    one_in: int = 1
    # What it wrote is wrapped in transactions with its offsets: one output per event, whatever happens.
    exactly_once: bool = True
    # One busy thread: much less than one core means that something else on the machine kept it waiting.
    one_thread: bool = True

    def share(self, events: int) -> int:
        """Its events when we get `events`."""
        return max(events // self.one_in, min(events, ENOUGH))


OURS = "midstream_eos"
# In the order of the report.
CONTENDERS = (
    Contender(OURS, "ours", "our entity lane"),
    Contender("midstream_full", "ours", "raw, ingest, events, entity: two transactions an event", role=RAW),
    Contender("faust_eos", "faust", "stock Faust, an eighth of the events", one_in=8),
    Contender("quix_eos", "quix", "Quix Streams, exactly-once"),
    Contender("bytewax_recovery", "bytewax", "Bytewax with recovery, not exactly-once", exactly_once=False),
    Contender(
        "kafka_streams_eos", "kafka_streams", "Kafka Streams, exactly_once_v2, 1 thread", one_thread=False
    ),
    Contender("raw_aiokafka", "raw", "aiokafka in transactions, no state", one_thread=False),
    Contender("raw_librdkafka", "raw", "librdkafka in transactions, no state", one_thread=False),
)


def chosen(names: str | None) -> list[Contender]:
    """Those that `names`, separated by commas, lists, in the order of the report; all of them for None.

    Raises:
        ValueError: a name is not known; the message has those that are.
    """
    if names is None:
        return list(CONTENDERS)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [contender.name for contender in CONTENDERS]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no contender {unknown[0]!r}: expected some of {', '.join(known)}")
    if not wanted:
        raise ValueError(f"no contender: expected some of {', '.join(known)}")
    return [contender for contender in CONTENDERS if contender.name in wanted]


def in_turn(taking_part: Iterable[Contender], number: int) -> Sequence[Contender]:
    """The order of round `number`: reversed in every other one, so that nobody always meets the warmer broker."""
    order = list(taking_part)
    return order if number % 2 == 0 else order[::-1]
