"""Batches under Faust: its consumer and stream carry one poll of one partition as one event.

Stock Faust hands over record by record (2,100 events/s here) and drops what was acknowledged before a rebalance's
final commit. Here a poll stays whole, offsets are committed by the lanes alone, and Faust keeps what it is good at:
group membership, agents, the worker's life cycle. Everything below overrides internals of the pinned releases;
`check_pins` fails at import when they are not the ones that were read.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from typing import Any, NamedTuple

import aiokafka
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.producer import sender
from faust.app.base import App
from faust.serializers.schemas import Schema
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage, Message
from mode.services import Service

from streams.topics import MAX_RECORD_BYTES

PINS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

# A lane's poll: large under load, whatever is there when it is quiet.
POLL_RECORDS = 4000
# How long a fetch waits at the broker when there is nothing; a seek cannot be acted on meanwhile.
FETCH_MAX_WAIT_MS = 200
# How long a poll waits for a fetch; lanes that have been opened wait for the last poll of their predecessors.
POLL_S = 0.2


class PinError(ImportError):
    """The installed Faust or aiokafka is not the one that this module overrides."""


def check_pins(internals: Mapping[str, tuple[Callable[..., Any] | type, str]]) -> None:
    """Compare versions and the source of every overridden or relied-on function with what was read.

    Raises:
        PinError: something differs; names it and says how to get the right one.
    """
    cure = "Install from the lock: make setup."
    for package, expected in PINS.items():
        if version(package) != expected:
            raise PinError(f"midstream needs {package} {expected}, found {version(package)}. {cure}")
    for name, (function, expected) in internals.items():
        found = fingerprint(function)
        if found != expected:
            raise PinError(
                f"{name} is not the one that midstream was written for ({found}, not {expected}). {cure}"
            )


def fingerprint(function: Callable[..., Any] | type) -> str:
    """Twelve hex digits of a function's source."""
    return sha256(inspect.getsource(function).encode()).hexdigest()[:12]


class Poll(NamedTuple):
    """What one poll brought of one partition, and after which seek it was made."""

    epoch: int
    records: Sequence[Any]


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with an aiokafka consumer that reads committed records in large polls."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        config = self.app.conf
        # Faust looks at it when it checks for table changelogs; lanes have none in Faust's eyes.
        self._assignor = StickyPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            **self.consumer.clients,  # type: ignore[attr-defined]
            client_id=config.broker_client_id,
            group_id=config.id,
            group_instance_id=config.consumer_group_instance_id,
            partition_assignment_strategy=[StickyPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=POLL_RECORDS,
            max_poll_interval_ms=int((config.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=4 << 20,
            fetch_max_bytes=MAX_RECORD_BYTES * 2,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            request_timeout_ms=int(config.broker_request_timeout * 1000),
            session_timeout_ms=int(config.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(config.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(config.broker_heartbeat_interval * 1000),
        )

    async def rewind(self, partitions: Iterable[TP]) -> None:
        """Go to the beginning of `partitions`."""
        places = [aiokafka.TopicPartition(tp.topic, tp.partition) for tp in partitions]
        await self.call_thread(self._ensure_consumer().seek_to_beginning, *places)

    async def positions(self) -> dict[TP, tuple[int, int]]:
        """Assigned partition → (next offset to read, last stable offset), for those that have been fetched."""
        found: dict[TP, tuple[int, int]] = await self.call_thread(self._positions)
        return found

    async def _positions(self) -> dict[TP, tuple[int, int]]:
        # In the thread that changes them: they are of one moment.
        found = {}
        consumer = self._ensure_consumer()
        for tp in consumer.assignment():
            state = consumer._fetcher._subscriptions.subscription.assignment.state_value(tp)
            if state is not None and state.has_valid_position and state.lso is not None:
                found[TP(tp.topic, tp.partition)] = (state.position, state.lso)
        return found


class BatchConsumer(driver.Consumer):
    """Faust's consumer, one message per poll and partition, whose commits are the lanes' business."""

    # Set by `BatchTransport`.
    clients: Mapping[str, Any]
    revoke: Callable[[], Any]
    sought: Callable[[int], None]
    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Hold nothing yet."""
        super().__init__(*args, **kwargs)
        # False between a revocation and the next assignment: what Faust calls the assignment is then the old one.
        self.holding = False
        self.epoch = 0
        # Polls and seeks both move positions; they never overlap.
        self._moving = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand on polls while the flow is on; replaces Faust's loop over single records."""
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await self.wait(self.can_resume_flow)  # type: ignore[arg-type] # as Faust itself does
                continue
            active = self._get_active_partitions()
            if not active:
                await self.sleep(0.1)
                continue
            async with self._moving:
                epoch = self.epoch
                polled = await self._getmany(active_partitions=active, timeout=POLL_S)
            for tp, batch in polled.items():
                if self.flow_active:
                    poll = Poll(epoch, batch)
                    await self.callback(as_message(tp, poll, self.app.consumer_generation_id))

    async def perform_seek(self) -> None:
        """Go to the committed offsets, and begin a new epoch of polls.

        A poll that was under way when the flow stopped moves the positions, perhaps in the new assignment already,
        and what it brings is dropped: what is not sought after it would never be read. Faust does not seek partitions
        without a committed offset; they begin at their beginning.
        """
        async with self._moving:
            await super().perform_seek()
            fresh = [tp for tp in self.assignment() if not self._read_offset.get(tp)]
            if fresh:
                await self._thread.rewind(fresh)
            self.epoch += 1
            self.sought(self.epoch)

    async def commit(self, *args: Any, **kwargs: Any) -> bool:
        """Nothing: offsets are committed in the lanes' transactions."""
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish every batch in flight before Faust gives the partitions away."""
        self.holding = False
        self.stop_flow()
        await self.revoke()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let the lanes be opened."""
        self.holding = True
        await super().on_partitions_assigned(assigned, generation_id)


def as_message(tp: TP, poll: Poll, generation: int) -> ConsumerMessage:
    """One poll of one partition as one Faust message. Without the generation the stream drops it in silence."""
    last = poll.records[-1]
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.offset,
        last.timestamp / 1000,
        0,
        [],
        None,
        poll,  # type: ignore[arg-type] # the point of this module
        None,
        None,
        None,
        TP(tp.topic, tp.partition),
        generation_id=generation,
    )


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the batch consumer."""

    Consumer = BatchConsumer

    def __init__(
        self, app: AppT, clients: Mapping[str, Any], revoke: Callable[[], Any], sought: Callable[[int], None]
    ) -> None:
        """Read with `clients` (aiokafka options); `revoke` closes the lanes before partitions are given away, `sought`
        hears the epoch of the polls that begin at the committed offsets.
        """
        super().__init__(app.conf.broker, app)
        self.clients, self.revoke, self.sought = clients, revoke, sought

    def create_consumer(self, callback: Any, **kwargs: Any) -> BatchConsumer:
        """A batch consumer that knows how to reach Kafka and how to close the lanes."""
        consumer = super().create_consumer(callback, **kwargs)
        assert isinstance(consumer, BatchConsumer)
        consumer.clients, consumer.revoke, consumer.sought = self.clients, self.revoke, self.sought
        return consumer


class BatchSchema(Schema[Any, Any]):
    """Pass a poll through Faust's decoding untouched: lanes decode."""

    def loads_key(self, app: AppT, message: Message, **kwargs: Any) -> None:
        """A poll has no key."""
        return

    def loads_value(self, app: AppT, message: Message, **kwargs: Any) -> Any:
        """The poll."""
        return message.value


INTERNALS: dict[str, tuple[Callable[..., Any] | type, str]] = {
    "faust AIOKafkaConsumerThread._create_worker_consumer": (
        driver.AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc3e6f",
    ),
    "faust Consumer._drain_messages": (driver.Consumer._drain_messages, "44a2500309e8"),
    "faust Consumer.on_partitions_revoked": (driver.Consumer.on_partitions_revoked, "d04b7ae72c6f"),
    "faust Consumer.perform_seek": (driver.Consumer.perform_seek, "0e8c130ff4b0"),
    "faust App._on_partitions_assigned": (App._on_partitions_assigned, "de932b7927db"),
    "faust App._on_partitions_revoked": (App._on_partitions_revoked, "d5c895bbe57d"),
    "mode Service._crash": (Service._crash, "7bc0c709a151"),
    "faust Recovery._resume_streams": (Recovery._resume_streams, "d986a6710c1a"),
    "aiokafka AddPartitionsToTxnHandler.handle_response": (
        sender.AddPartitionsToTxnHandler.handle_response,
        "67266db24da2",
    ),
}

check_pins(INTERNALS)
