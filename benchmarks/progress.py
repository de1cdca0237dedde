"""How far a contender is, asked from outside in the same way for each: a group or a topic goes in, a rate comes out.

Back of the envelope: a question is 0.5 ms of ours and as much of the broker's, twenty a second: 1 % of a core each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # only its __all__ forgot it

from benchmarks.contender import ContenderError, Process, last_lines
from streams.settings import KafkaSettings

ASK_EVERY_S = 0.05
# What is not measured of a run: processes warm up (a JVM compiles, caches fill) and must not be judged by that.
WARM_UP_PART = 0.1
# Stock Faust takes up to 20 s before its first event, and commits every 2.8 s.
STUCK_S = 90.0
DEFINITION = (
    "events per second of a run's last nine tenths: from the moment at which a tenth of the offsets is seen to be "
    "committed to the moment at which all are. The contender's committed group offsets are asked for from outside "
    "every 50 ms, for everybody alike; Bytewax, which commits none to Kafka, is "
    "asked for by the records on its output topic"
)


class Progress(NamedTuple):
    """How many offsets are done, of how many."""

    done: int
    total: int


class Sample(NamedTuple):
    """One answer: when it came, how far the contender was, and the processor time that it had used."""

    at_s: float
    done: int
    cpu_s: float | None


@dataclass(frozen=True)
class Measured:
    """The part of a run that counts, in offsets and seconds; `share` is that part of all offsets."""

    seconds: float
    share: float
    cpu_s: float | None
    peak_rss_bytes: int | None


def committed(
    settings: KafkaSettings, group: str, sources: Sequence[str], partitions: int
) -> Callable[[], Progress]:
    """A question: how many offsets of `sources` has `group` committed?

    The total is the ends of the topics, less the one transaction marker that a partition written in transactions ends
    with and that no consumer ever gets.
    """
    admin = AdminClient({**settings.librdkafka_options(), "log_level": 3})
    wanted = [TopicPartition(topic, number) for topic in sources for number in range(partitions)]

    def ask() -> Progress:
        # First the offsets, then the ends: what comes in between makes the contender look behind, never done.
        done = sum(offsets(admin, group, wanted).values())
        total = sum(
            # A marker is the last record of its partition when the consumer has taken all but that.
            end - (1 if topic != sources[0] and end else 0)
            for (topic, _), end in ends(admin, wanted).items()
        )
        return Progress(done, total)

    return ask


def written(settings: KafkaSettings, topic: str, partitions: int, events: int) -> Callable[[], Progress]:
    """A question: how many of `events` outputs are on `topic`? For outputs that no transaction wraps."""
    admin = AdminClient({**settings.librdkafka_options(), "log_level": 3})
    wanted = [TopicPartition(topic, number) for number in range(partitions)]
    return lambda: Progress(sum(ends(admin, wanted).values()), events)


def offsets(admin: AdminClient, group: str, wanted: Sequence[TopicPartition]) -> dict[tuple[str, int], int]:
    """The offset that `group` has committed for each partition, 0 for none."""
    [answer] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [*wanted])]).values()
    return {(tp.topic, tp.partition): max(0, tp.offset) for tp in answer.result().topic_partitions}


def ends(admin: AdminClient, wanted: Sequence[TopicPartition]) -> dict[tuple[str, int], int]:
    """The offset behind the last record of each partition, committed or not."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = admin.list_offsets(dict.fromkeys(wanted, latest), isolation_level=IsolationLevel.READ_UNCOMMITTED)
    return {(tp.topic, tp.partition): future.result().offset for tp, future in asked.items()}


def watch(process: Process, ask: Callable[[], Progress], events: int, stuck_s: float = STUCK_S) -> Measured:
    """Wait until everything is done, at least `events` offsets.

    Raises:
        ContenderError: the process ended, or nothing moved for `stuck_s`.
    """
    samples = [Sample(time.monotonic(), 0, process.cpu_s())]
    moved_s = samples[0].at_s
    while True:
        process.check()
        # Nobody answers while a topic gets its leader, or a group its coordinator.
        with suppress(KafkaException):
            progress = ask()
            sample = Sample(time.monotonic(), progress.done, process.cpu_s())
            if progress.done != samples[-1].done:
                moved_s = sample.at_s
            samples.append(sample)
            if progress.done >= max(progress.total, events):
                return measured(samples, process.peak_rss_bytes())
        if time.monotonic() - moved_s > stuck_s:
            raise ContenderError(
                f"{process.name}: stuck at {samples[-1].done:,} offsets for {stuck_s:.0f} s. {last_lines(process.log)}"
            )
        time.sleep(ASK_EVERY_S)


def measured(samples: Sequence[Sample], peak_rss_bytes: int | None) -> Measured:
    """What counts of a finished run: from the first sample with a tenth done.

    If there is none short of the end (a run of a few batches), from the last sample with nothing done.
    """
    end = samples[-1]
    fair = [sample for sample in samples if WARM_UP_PART * end.done <= sample.done < end.done]
    start = fair[0] if fair else [sample for sample in samples if sample.done == 0][-1]
    cpu_s = None if start.cpu_s is None or end.cpu_s is None else end.cpu_s - start.cpu_s
    return Measured(end.at_s - start.at_s, 1 - start.done / end.done, cpu_s, peak_rss_bytes)
