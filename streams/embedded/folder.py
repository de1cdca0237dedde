"""A broker's data folder -> what its files say, and what Kafka is told through them.

- `server.properties`, `log4j2.properties`: written before every start
- `ports.json`: the ports chosen at the first start
- `kafka/`: Kafka's own data: topics, metadata, cluster id
- `logs/server.log`, `logs/console.log`: Kafka's log of this run; what Java itself said
- `broker.pid`: the running process, with its start time
- `broker.lock`: held by the running process, whatever `broker.pid` says
- `owners`: who an attached broker lives for
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

HOST = "127.0.0.1"
# Below the ranges from which Linux (32768 up) and macOS (49152 up) take ports for outgoing connections: a
# remembered port must not be lent to somebody's connection between two runs.
_PORTS = range(20_000, 32_768)

Notice = Callable[[str], None]
"""Called with one line for people: what happened that they did not ask for."""


class BrokerError(RuntimeError):
    """The broker cannot do what was asked: one line that says why and what to do.

    `log_tail` holds the last lines of Kafka's log where the broker itself failed.
    """

    def __init__(self, message: str, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log_tail = log_tail


@dataclass(frozen=True)
class Process:
    """A process and when it started: a recycled pid differs there."""

    pid: int
    started: str


@dataclass(frozen=True)
class ProcessRecord(Process):
    """What `broker.pid` says: the process, its address, whether it lives for its owners."""

    bootstrap: str
    attached: bool


@dataclass(frozen=True)
class Ports:
    """Where Kafka listens on loopback: for clients, and for its own controller."""

    broker: int
    controller: int


_Fields = TypeVar("_Fields", ProcessRecord, Ports)


@dataclass(frozen=True)
class BrokerFolder:
    """The paths in a data folder, and reading and writing the small files among them."""

    root: Path

    @property
    def kafka(self) -> Path:
        """Kafka's `log.dirs`."""
        return self.root / "kafka"

    @property
    def properties(self) -> Path:
        """The server's configuration."""
        return self.root / "server.properties"

    @property
    def log_config(self) -> Path:
        """The logging library's configuration."""
        return self.root / "log4j2.properties"

    @property
    def log(self) -> Path:
        """Kafka's log of this run; beside it its older parts (`.1` to `.3`) and `.last-run`."""
        return self.root / "logs" / "server.log"

    @property
    def console(self) -> Path:
        """Standard output and error of the last run: empty unless Java itself has something to say."""
        return self.root / "logs" / "console.log"

    @property
    def pid_file(self) -> Path:
        """The running process."""
        return self.root / "broker.pid"

    @property
    def owners(self) -> Path:
        """The named pipe that each owner of an attached broker holds open."""
        return self.root / "owners"

    @property
    def lock(self) -> Path:
        """Held by whoever is starting a broker here, and then by the broker's process as long as it lives."""
        return self.root / "broker.lock"

    @property
    def ports_file(self) -> Path:
        """The remembered ports."""
        return self.root / "ports.json"

    def cluster_id(self) -> str | None:
        """The id given at the first start; None before it."""
        try:
            text = (self.kafka / "meta.properties").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        match = re.search(r"^cluster\.id=(.+)$", text, re.MULTILINE)
        return match[1].strip() if match else None

    def record(self) -> ProcessRecord | None:
        """The process that was last started here and not orderly ended; None if there is none."""
        return self._read(self.pid_file, ProcessRecord)

    def write_record(self, record: ProcessRecord) -> None:
        """Remember the running process."""
        write_whole(self.pid_file, json.dumps(asdict(record)) + "\n")

    def ports(self) -> Ports | None:
        """The ports of the last start; None before the first."""
        return self._read(self.ports_file, Ports)

    def write_ports(self, ports: Ports) -> None:
        """Remember the ports."""
        write_whole(self.ports_file, json.dumps(asdict(ports)) + "\n")

    @staticmethod
    def _read(path: Path, kind: type[_Fields]) -> _Fields | None:
        try:
            return kind(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise BrokerError(f"{path} is damaged ({error}): delete it and start again") from error


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that no reader ever sees half of it."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failure of the file system under the data folder into one line of `BrokerError`."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BrokerError(f"the disk is full: {where} cannot be written; free space there") from error
        raise BrokerError(f"{where}: {error.strerror or error}") from error


def choose_ports(folder: BrokerFolder, asked: int | None, *, keep: bool, notice: Notice) -> Ports:
    """The ports of this start: `asked`, else the remembered ones, else free ones; remembered from then on.

    `asked` None means the remembered port, 0 means any free one. A port that is asked for, or remembered where
    clients may depend on it (`keep`), raises `BrokerError` when it is taken; otherwise another is chosen and said.
    The controller's port is only ever used by the broker itself, so it may always change.
    """
    remembered = folder.ports()
    port = remembered.broker if remembered is not None and asked is None else asked
    if port and not is_free(port):
        if asked:
            raise BrokerError(
                f"port {port} is taken by another process: stop that process, or ask for another (0: any free one)"
            )
        if keep:
            raise BrokerError(
                f"port {port}, this broker's address since its first start, is taken by another process: stop that"
                f" process, or move the broker with `midstream broker start --data {folder.root} --port 0`"
            )
        notice(f"port {port} of the last run is taken by another process: choosing another")
        port = 0
    broker = port or free_port()
    controller = remembered.controller if remembered is not None else 0
    if controller in (0, broker) or not is_free(controller):
        controller = free_port(besides=broker)
    chosen = Ports(broker, controller)
    folder.write_ports(chosen)
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Java does: connections of an earlier run in TIME_WAIT do not matter, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def free_port(besides: int = 0) -> int:
    """A free port, by trial in random order so that brokers starting together do not meet."""
    for port in random.sample(_PORTS, 500):
        if port != besides and is_free(port):
            return port
    raise BrokerError(f"no free port found between {_PORTS.start} and {_PORTS.stop - 1} on {HOST}")


def server_properties(data_dir: Path, ports: Ports, extra: Mapping[str, str]) -> str:
    """The configuration of one small KRaft node on loopback; `extra` wins over what is set here."""
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        # The static quorum: its one address may change between runs, which the dynamic one keeps in its log.
        "controller.quorum.voters": f"1@{HOST}:{ports.controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{ports.broker},CONTROLLER://{HOST}:{ports.controller}",
        "log.dirs": str(data_dir),
        # After a crash the controller waits this long for the broker it still knows, and takes the new one only then.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # One node: every internal topic has one copy.
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The default of 50 each is for many groups and many producers.
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.num.partitions": "8",
        # Waiting for further members helps large groups; here it would be 3 s before the first record.
        "group.initial.rebalance.delay.ms": "0",
        # A misspelt topic is an error, not a new topic.
        "auto.create.topics.enable": "false",
        # 32 MiB, so that oversized events reach us and are refused by us; requests may be 100 MiB by default.
        "message.max.bytes": "33554432",
        "replica.fetch.max.bytes": "33554432",
        "replica.fetch.response.max.bytes": "33554432",
        "socket.request.max.bytes": "104857600",
    }
    return "".join(f"{name}={_escaped(value)}\n" for name, value in {**properties, **extra}.items())


def _escaped(value: str) -> str:
    """For Java's properties files: Latin-1, where a backslash starts an escape and UTF-16 units have one."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def log_properties(log: Path) -> str:
    """Kafka's logging: one file a run, at 10 MB a new one, three older parts kept."""
    path = _escaped(str(log))
    return f"""\
rootLogger.level=INFO
rootLogger.appenderRef.file.ref=file
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={path}
appender.file.filePattern={path}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c)%n%throwable
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
logger.config.name=org.apache.kafka.common.config
logger.config.level=WARN
"""
