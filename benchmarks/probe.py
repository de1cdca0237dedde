"""A worker's latency from outside: events go in at a steady pace, their actions are heard of; one clock for both.

Back of the envelope: to make and send an event takes 15 µs, to hear of its action 10: at 5,000/s an eighth of a core.
The consumer asks again when it has an answer; the broker answers as soon as something is committed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from pydantic_core import from_json, to_json

from benchmarks.load import KEYS
from schemas.keys import entity_key, partition_of
from schemas.times import rfc3339
from streams.settings import KafkaSettings

# Not more often than this: whatever is due by then is sent together.
TICK_S = 0.001
# How long the broker may hold a fetch when there is nothing; it answers at once when there is something.
FETCH_WAIT_MS = 20
POLL_S = 0.1


class ProbeError(Exception):
    """What was measured does not count; the message says why."""


class Heard(NamedTuple):
    """An action: of which event, when that was sent, when the action was received (`time.monotonic_ns`)."""

    number: int
    sent_ns: int
    received_ns: int


class Sender:
    """Sends events, numbered from 0 on, at a pace that does not depend on what becomes of them."""

    def __init__(self, settings: KafkaSettings, topic: str, partitions: int) -> None:
        """Nothing sent yet."""
        self._topic, self._partitions, self.sent = topic, partitions, 0
        self._producer = Producer(
            settings.librdkafka_options()
            | {"acks": "all", "enable.idempotence": True, "linger.ms": 1, "log_level": 3}
        )

    def send(self) -> None:
        """One event, with the time of this call in it."""
        account = f"cust-{self.sent % KEYS}"
        key = entity_key("account", account).encode()
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"w-%d" % self.sent),
            ("ce_type", b"money.withdrawn"),
            ("ce_source", b"/bench"),
            ("ce_time", rfc3339(time.time_ns() // 1_000_000).encode()),
            ("content-type", b"application/json"),
        ]
        body = {"account_id": account, "number": self.sent, "sent_ns": time.monotonic_ns(), "amount": 20}
        place = partition_of(key, self._partitions)
        self._producer.produce(self._topic, to_json(body), key, partition=place, headers=headers)
        self.sent += 1

    def at_pace(self, rate: int, seconds: float, check: Callable[[], None]) -> None:
        """`rate` events a second for so long; `check` is called ten times a second, to raise what has gone wrong."""
        start_s, begun, checked_s = time.monotonic(), self.sent, 0.0
        while (passed_s := time.monotonic() - start_s) < seconds:
            while self.sent - begun <= min(passed_s, seconds) * rate:
                self.send()
            self._producer.poll(0)
            if passed_s - checked_s > POLL_S:
                check()
                checked_s = passed_s
            due_s = start_s + (self.sent - begun) / rate
            time.sleep(max(TICK_S, due_s - time.monotonic()))

    def flush(self) -> None:
        """Wait until the broker has everything.

        Raises:
            ProbeError: it did not take it.
        """
        if left := self._producer.flush(30):
            raise ProbeError(f"{left} of {self.sent} events were not taken by the broker within 30 s")


class Listener:
    """Hears of committed actions in a thread of its own, for a `with` block."""

    def __init__(self, settings: KafkaSettings, topic: str, partitions: int) -> None:
        """From the beginning of `topic` on."""
        self.heard: list[Heard] = []
        self._failure: str | None = None
        self._over = threading.Event()
        self._consumer = Consumer(
            settings.librdkafka_options()
            | {
                "group.id": f"{topic}.latency",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "log_level": 3,
            }
        )
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)]
        )
        self._thread = threading.Thread(target=self._listen, daemon=True, name="listener")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._consumer.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            message = self._consumer.poll(POLL_S)
            if message is None:
                continue
            received_ns = time.monotonic_ns()
            value = message.value()
            if message.error() is not None or value is None:
                self._failure = f"{message.topic()}: {message.error() or 'a record without a value'}"
                return
            given: dict[str, Any] = from_json(value)["input"]
            self.heard.append(Heard(given["number"], given["sent_ns"], received_ns))

    def check(self) -> None:
        """Nothing while it listens.

        Raises:
            ProbeError: it had to stop.
        """
        if self._failure is not None or not self._thread.is_alive():
            raise ProbeError(self._failure or "the consumer of actions has ended")

    def wait(self, count: int, within_s: float, check: Callable[[], None]) -> None:
        """Until `count` actions have been heard of; `check` raises what has gone wrong meanwhile.

        Raises:
            ProbeError: they did not come.
        """
        deadline_s = time.monotonic() + within_s
        while len(self.heard) < count:
            self.check()
            check()
            if time.monotonic() > deadline_s:
                raise ProbeError(f"{len(self.heard)} of {count} actions came within {within_s:g} s")
            time.sleep(0.02)


def check_once_each(heard: Iterable[Heard], events: int) -> None:
    """Nothing if each of `events` events had exactly one action.

    Raises:
        ProbeError: some had none, or several.
    """
    times = Counter(each.number for each in heard)
    missing = events - sum(1 for number in times if 0 <= number < events)
    doubled = sum(count - 1 for count in times.values())
    if missing or doubled or len(times) != events:
        raise ProbeError(
            f"expected one action for each of {events} events; {missing} had none, {doubled} actions were one too many"
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of `ordered` (ascending) that at least this share of it does not exceed: the nearest rank.

    Raises:
        ValueError: there is nothing, or `share` is not within 0 to 1.
    """
    if not ordered or not 0 <= share <= 1:
        raise ValueError(f"percentile: expected values and a share from 0 to 1, got {len(ordered)}, {share}")
    # In whole millionths: 0.999 × 1000 is a little more than 999 in binary.
    rank = -(-round(share * 1_000_000) * len(ordered) // 1_000_000)
    return ordered[max(rank, 1) - 1]
