"""Batches under Faust: its consumer and stream carry one poll of one partition as one event.

Stock Faust hands over record by record (2,100 events/s here) and drops what was acknowledged before a rebalance's
final commit. Here a poll stays whole, offsets are committed by the lanes alone, and Faust keeps what it is good at:
group membership, agents, the worker's life cycle. Everything below overrides internals of the pinned releases;
`check_pins` fails at import when they are not the ones that were read.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from hashlib import sha256
from importlib.metadata import version
from typing import Any, NamedTuple

import aiokafka
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import ConsumerStoppedError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.producer import sender
from faust.app.base import App
from faust.serializers.schemas import Schema
from faust.tables.recovery import Recovery
from faust.transport.consumer import Fetcher as FaustFetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage, Message
from mode.services import Service

from streams import connections, offsets
from streams.assignor import LaneAssignor
from streams.chunks import Chunk, keep_bytes, take
from streams.exits import EXIT_MISTAKE, die
from streams.topics import MAX_RECORD_BYTES

PINS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

# A lane's poll at most: large under load, whatever is there when it is quiet. A larger record is read all the same.
POLL_BYTES = 4 << 20
# How long a fetch waits at the broker when there is nothing; a seek cannot be acted on meanwhile.
FETCH_MAX_WAIT_MS = 200
# How long a topic that has grown may go unnoticed: keys then belong elsewhere (streams/partitions.py).
METADATA_MAX_AGE_MS = 15_000
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


class Place(NamedTuple):
    """How far a partition has been read (next offset, last stable offset), as Kafka told at `heard_s` (epoch)."""

    position: int
    last: int
    heard_s: float


class Poll(NamedTuple):
    """What one poll brought of one partition, and after which seek it was made."""

    epoch: int
    chunk: Chunk


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with an aiokafka consumer that reads committed records in large polls."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        config = self.app.conf
        # Faust looks at it when it checks for table changelogs; lanes have none in Faust's eyes.
        self._assignor = LaneAssignor
        return aiokafka.AIOKafkaConsumer(
            **self.consumer.clients,  # type: ignore[attr-defined]
            client_id=config.broker_client_id,
            group_id=config.id,
            group_instance_id=config.consumer_group_instance_id,
            partition_assignment_strategy=[LaneAssignor],
            enable_auto_commit=False,
            # What is not where it should be is not skipped: see `BatchConsumer._out_of_range`.
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_interval_ms=int((config.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=POLL_BYTES,
            fetch_max_bytes=MAX_RECORD_BYTES * 2,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            request_timeout_ms=int(config.broker_request_timeout * 1000),
            session_timeout_ms=int(config.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(config.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(config.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )

    async def _fetch_records(  # type: ignore[override] # a chunk in place of a list is the point
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> dict[TP, Chunk]:
        """What has been fetched of the active partitions, each whole; as `Fetcher.fetched_records` does by records."""
        fetcher = consumer._fetcher
        if not self.consumer.flow_active:
            return {}
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            if fetcher._subscriptions.reassignment_in_progress:
                await fetcher._subscriptions.wait_for_assignment()
            return await fetched(consumer, active_partitions, timeout or 0.0)

    async def rewind(self, partitions: Iterable[TP]) -> None:
        """Go to the beginning of `partitions`."""
        places = [aiokafka.TopicPartition(tp.topic, tp.partition) for tp in partitions]
        await self.call_thread(self._ensure_consumer().seek_to_beginning, *places)

    async def span(self, tp: TP) -> tuple[int | None, int, int]:
        """The next offset to read of `tp` (None: it is not known), its first, and the one after its last."""
        found: tuple[int | None, int, int] = await self.call_thread(self._span, tp)
        return found

    async def _span(self, tp: TP) -> tuple[int | None, int, int]:
        consumer = self._ensure_consumer()
        first = (await consumer.beginning_offsets([tp]))[tp]
        last = (await consumer.end_offsets([tp]))[tp]
        state = consumer._fetcher._subscriptions.subscription.assignment.state_value(tp)
        known = state is not None and state.has_valid_position
        return (state.position if known else None), first, last

    async def positions(self) -> dict[TP, Place]:
        """Where each assigned partition stands, for those that have been fetched."""
        found: dict[TP, Place] = await self.call_thread(self._positions)
        return found

    async def _positions(self) -> dict[TP, Place]:
        # In the thread that changes them: they are of one moment.
        found = {}
        consumer = self._ensure_consumer()
        for tp in consumer.assignment():
            state = consumer._fetcher._subscriptions.subscription.assignment.state_value(tp)
            if state is not None and state.has_valid_position and state.lso is not None:
                found[TP(tp.topic, tp.partition)] = Place(state.position, state.lso, state.timestamp / 1000)
        return found


async def fetched(consumer: Any, active: AbstractSet[TP], timeout_s: float) -> dict[TP, Chunk]:
    """What `consumer` has fetched of the `active` partitions; if that is nothing, what comes within `timeout_s`.

    Raises:
        aiokafka.errors.KafkaError: a partition could not be read.
    """
    fetcher = consumer._fetcher
    taken = take_all(fetcher, active)
    if not taken and timeout_s:
        waiter = fetcher._create_fetch_waiter()
        _, pending = await asyncio.wait([waiter], timeout=timeout_s)
        if pending or fetcher._closed:
            waiter.cancel()
            return {}
        # It raises what the consumer may not do.
        waiter.result()
        taken = take_all(fetcher, active)
    return taken


def take_all(fetcher: Any, active: AbstractSet[TP]) -> dict[TP, Chunk]:
    """What `fetcher` holds of the `active` partitions; each then fetches anew.

    Raises:
        aiokafka.errors.KafkaError: a partition could not be read.
    """
    taken: dict[TP, Chunk] = {}
    for tp in list(fetcher._records):
        if tp not in active:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if not isinstance(result, FetchResult) and taken:
            # The next poll tells of the error.
            break
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)
        if not isinstance(result, FetchResult):
            result.check_raise()
            continue
        chunk = take(result)
        if chunk is not None:
            taken[TP(tp.topic, tp.partition)] = chunk
    return taken


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
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._drain_once()
        except asyncio.CancelledError:
            # Faust takes it for a crash when the group is just then rebalancing; of a worker that stops, it is the end.
            if not self.app.should_stop:
                raise

    async def _drain_once(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type] # as Faust itself does
            return
        active = self._get_active_partitions()
        if not active:
            await self.sleep(0.1)
            return
        async with self._moving:
            epoch = self.epoch
            try:
                polled = await self._getmany(active_partitions=active, timeout=POLL_S)
            except NoOffsetForPartitionError:
                # Asked for before `perform_seek` has sent it to its beginning.
                return
            except OffsetOutOfRangeError as error:
                await self._out_of_range(error)
                return
        for tp, chunk in polled.items():
            if self.flow_active:
                poll = Poll(epoch, chunk)  # type: ignore[arg-type] # see `_fetch_records`
                message = as_message(tp, poll, self.app.consumer_generation_id)
                await self.callback(message)

    async def _out_of_range(self, error: OffsetOutOfRangeError) -> None:
        """End the process if the record to read next is gone: going on from another one would skip what lies between.

        It still is where it is unless the partition was sought meanwhile or its leader had just changed.
        """
        for tp, offset in error.args[0].items():
            position, first, last = await self._thread.span(tp)
            if position == offset and offsets.missing(offset, first, last):
                die(offsets.out_of_range(tp.topic, tp.partition, offset, first, last), code=EXIT_MISTAKE)

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
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        poll.chunk.next_offset - 1,
        0.0,
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
    "faust Fetcher": (FaustFetcher, "c922e4ab78d9"),
    "faust Consumer.on_partitions_revoked": (driver.Consumer.on_partitions_revoked, "d04b7ae72c6f"),
    "faust Consumer.perform_seek": (driver.Consumer.perform_seek, "0e8c130ff4b0"),
    "faust App._on_partitions_assigned": (App._on_partitions_assigned, "de932b7927db"),
    "faust App._on_partitions_revoked": (App._on_partitions_revoked, "d5c895bbe57d"),
    "faust AIOKafkaConsumerThread._fetch_records": (
        driver.AIOKafkaConsumerThread._fetch_records,
        "39a2c6c79fc1",
    ),
    "aiokafka Fetcher.fetched_records": (Fetcher.fetched_records, "be4348896b9b"),
    "aiokafka Fetcher._proc_fetch_request": (Fetcher._proc_fetch_request, "59bf948fff47"),
    "aiokafka FetchResult": (FetchResult, "d7db13f06de8"),
    "aiokafka PartitionRecords": (PartitionRecords, "94aa0da0dbec"),
    "mode Service._crash": (Service._crash, "7bc0c709a151"),
    "faust Recovery._resume_streams": (Recovery._resume_streams, "d986a6710c1a"),
    "aiokafka AddPartitionsToTxnHandler.handle_response": (
        sender.AddPartitionsToTxnHandler.handle_response,
        "67266db24da2",
    ),
    "aiokafka Sender._maybe_do_transactional_request": (
        sender.Sender._maybe_do_transactional_request,
        "71227a8a4d9c",
    ),
    "aiokafka AddOffsetsToTxnHandler": (sender.AddOffsetsToTxnHandler, "320ed303271e"),
    "aiokafka AIOKafkaConnection.send": (connections.REPLACED["send"], "5909ea32f4ef"),
    "aiokafka AIOKafkaClient.coordinator_lookup": (
        connections.REPLACED["coordinator_lookup"],
        "19cc69fb75f8",
    ),
}

check_pins(INTERNALS)
keep_bytes()
