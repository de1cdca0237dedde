"""A Kafka record on its way in or out of a lane, free of any client library's types."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from schemas.event import Headers

NO_HEADERS: list[tuple[str, bytes]] = []


class Record(Protocol):
    """What a lane reads of a consumed record: what aiokafka's decoder makes is one, and so is a `Given`.

    Topic and partition are not in it: they are the lane's, the same for every record that it reads.
    """

    @property
    def offset(self) -> int:
        """Where it stands on its partition."""

    @property
    def timestamp(self) -> int:
        """When it reached Kafka, epoch milliseconds."""

    @property
    def key(self) -> bytes | None:
        """The Kafka key."""

    @property
    def value(self) -> bytes | None:
        """The bytes of the record; None in a tombstone."""

    @property
    def headers(self) -> Headers:
        """The Kafka headers, in order."""


class Placed(Record, Protocol):
    """A record outside of a lane: it says where it stands. An aiokafka `ConsumerRecord` is one."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def partition(self) -> int:
        """Its partition."""


class Given(NamedTuple):
    """A record made by hand: for tests, in-memory runs and replay."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Out(NamedTuple):
    """A record to be written in the transaction of the batch that caused it."""

    # The topic's role ("events", "decisions", …); streams.topics gives it its name.
    topic: str
    key: bytes | None
    value: bytes | None
    # A list, because that is what the client's encoder takes; nobody changes it.
    headers: list[tuple[str, bytes]] = NO_HEADERS
    # None: by the key's hash.
    partition: int | None = None
