"""Brokers that may be killed: one node, or three that are one cluster. Each ends with this process."""

import os
import signal
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Protocol

from confluent_kafka.admin import AdminClient

from streams.broker import Broker
from streams.settings import KafkaSettings
from tests.support.topics import wait_until
from tests.support.workers import free_port

HEAP = "-Xmx512m"


class Brokers(Protocol):
    """What an episode needs of its brokers."""

    @property
    def settings(self) -> KafkaSettings:
        """How clients reach them."""

    @property
    def replication(self) -> int:
        """How many copies a topic has."""


class Shared:
    """Somebody else's broker: it may not be killed."""

    replication = 1

    def __init__(self, settings: KafkaSettings) -> None:
        """Use it."""
        self.settings = settings


class Node:
    """One broker at one address for life."""

    def __init__(
        self, data: Path, port: int, cluster_id: str | None = None, properties: dict[str, str] | None = None
    ) -> None:
        """Describe it."""
        self.data, self.port, self.cluster_id, self.properties = data, port, cluster_id, properties
        self.broker = self._new()

    def _new(self) -> Broker:
        return Broker(
            self.data, port=self.port, heap=HEAP, cluster_id=self.cluster_id, properties=self.properties
        )

    @property
    def pid(self) -> int:
        """Its process, which runs."""
        record = self.broker.folder.record()
        assert record is not None, "a broker that is killed runs"
        return record.pid

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.gone()

    def gone(self) -> None:
        """Wait for the end of one that was killed."""
        wait_until(lambda: self.broker.status().state == "crashed", "the broker's end")

    def start(self) -> None:
        """Start it, for the first time or again."""
        self.broker = self._new()
        self.broker.start(attached=True)

    def stop(self) -> None:
        """End it."""
        self.broker.stop()

    def end(self) -> None:
        """End it at once."""
        if self.broker.status().pid is not None:
            self.kill()
        self.broker.stop()


class Single:
    """A cluster of one node."""

    replication = 1

    def __init__(self, data: Path) -> None:
        """Start it."""
        self.node = Node(data, free_port())
        self.node.start()
        self.settings = self.node.broker.settings()

    def stop(self) -> None:
        """End it."""
        self.node.stop()


class Three:
    """Three nodes, three copies of everything, of which two must have a record before it counts."""

    replication = 3

    def __init__(self, data: Path) -> None:
        """Start them."""
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        ports = {number: (free_port(), free_port()) for number in (1, 2, 3)}
        voters = ",".join(f"{number}@127.0.0.1:{ports[number][1]}" for number in ports)
        self.nodes = {
            number: Node(
                data / str(number), port, cluster_id, node_properties(number, port, controller, voters)
            )
            for number, (port, controller) in ports.items()
        }
        try:
            for node in self.nodes.values():
                node.broker.launch(attached=True)
            for node in self.nodes.values():
                node.broker.wait_ready()
        except BaseException:
            self.stop()
            raise
        self.settings = KafkaSettings.plaintext(",".join(f"127.0.0.1:{port}" for port, _ in ports.values()))

    def leader(self, topic: str, partition: int) -> int:
        """Who leads a partition."""
        found = self._admin().list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        return int(found)

    def group_coordinator(self, group: str) -> int:
        """Who coordinates a group: the leader of its partition of `__consumer_offsets`."""
        return self.leader("__consumer_offsets", java_hash(group) % self._partitions("__consumer_offsets"))

    def transaction_coordinator(self, transactional_id: str) -> int:
        """Who coordinates a transactional id: the leader of its partition of `__transaction_state`."""
        return self.leader(
            "__transaction_state", java_hash(transactional_id) % self._partitions("__transaction_state")
        )

    def _partitions(self, topic: str) -> int:
        return len(self._admin().list_topics(topic, timeout=10).topics[topic].partitions)

    def _admin(self) -> AdminClient:
        return AdminClient({**self.settings.librdkafka_options(), "log_level": 2})

    def wait_whole(self, within_s: float = 60.0) -> None:
        """Wait until every copy of every partition is in sync."""

        def whole() -> bool:
            topics = self._admin().list_topics(timeout=10).topics.values()
            return all(len(p.isrs) == len(p.replicas) for t in topics for p in t.partitions.values())

        wait_until(whole, "all replicas to be in sync", within_s)

    def stop(self) -> None:
        """End them all; the last ones would wait in vain for a majority of controllers to let them go in good order."""
        for node in self.nodes.values():
            node.end()


def node_properties(number: int, port: int, controller: int, voters: str) -> dict[str, str]:
    """What makes a node one of three."""
    return {
        "node.id": str(number),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "share.coordinator.state.topic.replication.factor": "3",
        "share.coordinator.state.topic.min.isr": "2",
        "default.replication.factor": "3",
        "min.insync.replicas": "2",
        # How soon a node that is gone is noticed, and left out of what must acknowledge.
        "replica.lag.time.max.ms": "3000",
        "controller.quorum.election.timeout.ms": "500",
        "controller.quorum.fetch.timeout.ms": "1000",
    }


def java_hash(text: str) -> int:
    """`Utils.abs(String.hashCode())` as Kafka has it: how it spreads groups and transactional ids."""
    value = 0
    for unit in text.encode("utf-16-be")[1::2]:
        value = (31 * value + unit) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
