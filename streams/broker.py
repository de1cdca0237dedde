"""The embedded broker: a data folder -> a real Apache Kafka, one KRaft node, answering on loopback.

`Broker.start` walks: jars and Java -> ports -> configuration -> format (once) -> process -> ready. What is in the
folder survives everything; its files are listed in `embedded.folder`.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streams.embedded import probe
from streams.embedded.folder import (
    HOST,
    BrokerError,
    BrokerFolder,
    Notice,
    Ports,
    Process,
    ProcessRecord,
    choose_ports,
    disk_errors,
)
from streams.embedded.kafka_jars import Progress
from streams.embedded.launch import (
    folder_lock,
    format_once,
    java_command,
    require_space,
    server_command,
    write_configuration,
)
from streams.embedded.log import failure
from streams.embedded.process import (
    end,
    gone_within,
    is_alive,
    join_owners,
    release,
    resident_bytes,
    spawn,
)
from streams.settings import KafkaSettings, home

__all__ = ["Broker", "BrokerError", "BrokerStatus", "connect"]

_DEFAULT_HEAP = "-Xmx1g"
_PROBE_TIMEOUT_S = 5.0
_POLL_S = 0.02
# It has nothing to do but leave when its process has ended.
_GUARD_TIMEOUT_S = 5.0

State = Literal["running", "unresponsive", "stopped", "crashed"]


@dataclass(frozen=True)
class BrokerStatus:
    """What is known of a broker. `bootstrap`, `pid` and `rss_bytes` are None unless its process runs."""

    state: State
    data: Path
    detail: str
    log: Path
    bootstrap: str | None = None
    pid: int | None = None
    attached: bool = False
    cluster_id: str | None = None
    rss_bytes: int | None = None


def _silent(line: str) -> None:
    """Who asks for no notices gets none."""


class Broker:
    """One broker and its data folder. Making one touches nothing; several objects may stand for one folder.

    - `data`: the folder; default `home()/broker`. Brokers in different folders do not know of each other.
    - `port`: the clients' port; None for the remembered one (the first time a free one), 0 for any free one.
    - `heap`: Java's heap options; default `KAFKA_HEAP_OPTS`, else `-Xmx1g`.
    - `cluster_id`: for the first start; default a new one. Brokers of one cluster need the same.
    - `properties`: further server properties, which win over ours (see `embedded.folder.server_properties`).
    - `notice`: called with one line for people when something happens that was not asked for.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int | None = None,
        heap: str | None = None,
        cluster_id: str | None = None,
        properties: Mapping[str, str] | None = None,
        notice: Notice = _silent,
    ) -> None:
        if port is not None and not 0 <= port < 65536:
            raise ValueError(f"Broker(port=…): expected 0 to 65535 or None, got {port}")
        self.folder = BrokerFolder((data or home() / "broker").absolute())
        self._port = port
        self._heap = shlex.split(heap or os.environ.get("KAFKA_HEAP_OPTS") or _DEFAULT_HEAP)
        self._cluster_id = cluster_id
        self._properties = dict(properties or {})
        self._notice = notice
        # Of the broker that this object started or joined: its guard if we started it, our end of the guard's pipe.
        self._guard: Process | None = None
        self._pipe: int | None = None

    @property
    def bootstrap(self) -> str:
        """The running broker's address, `127.0.0.1:port`. Raises `BrokerError` when it does not run."""
        record = self.folder.record()
        if record is None or not is_alive(record):
            raise BrokerError(f"the broker in {self.folder.root} is not running: `midstream broker start`")
        return record.bootstrap

    def settings(self) -> KafkaSettings:
        """How clients reach the running broker. Raises `BrokerError` when it does not run."""
        return KafkaSettings.plaintext(self.bootstrap)

    def start(
        self, *, attached: bool = False, timeout_s: float = 60.0, progress: Progress | None = None
    ) -> BrokerStatus:
        """Start the broker and return when it is ready: metadata and both coordinators answer.

        Detached, it runs until it is stopped. Attached, it lives for this process: when this ends, even of SIGKILL,
        the broker is ended too (and others can `join`). `progress` hears of jars being fetched. On any failure, and on
        Ctrl-C, no process is left behind. Raises `BrokerError`.
        """
        self.launch(attached=attached, progress=progress)
        return self.wait_ready(timeout_s=timeout_s)

    def launch(self, *, attached: bool = False, progress: Progress | None = None) -> None:
        """The first half of `start`, for nodes that are only ready together: returns while Kafka is starting.

        Until `wait_ready` has returned, even a detached broker ends with this process.
        """
        folder = self.folder
        with disk_errors(folder.root):
            folder.log.parent.mkdir(parents=True, exist_ok=True)
            with folder_lock(folder) as lock:
                self._note_crash()
                require_space(folder.root)
                java = java_command(progress=progress)
                ports = choose_ports(folder, self._port, keep=not attached, notice=self._notice)
                write_configuration(folder, ports, self._properties)
                format_once(folder, java, ports, self._properties, self._cluster_id)
                self._spawn(server_command(folder, java, self._heap), ports, lock, attached=attached)

    def _note_crash(self) -> None:
        record = self.folder.record()
        if record is not None:
            self._notice(
                f"the last run (pid {record.pid}) ended without a clean stop: Kafka checks its data while starting"
            )
            self.folder.pid_file.unlink()

    def _spawn(self, command: list[str], ports: Ports, lock: int, *, attached: bool) -> None:
        self._forget()
        # The log is then of this run only, even when Java does not come as far as opening it.
        if self.folder.log.exists():
            self.folder.log.replace(self.folder.log.with_name("server.log.last-run"))
        spawned = spawn(command, self.folder, lock, attached=attached)
        self._guard, self._pipe = spawned.guard, spawned.pipe
        process = spawned.process
        record = ProcessRecord(process.pid, process.started, f"{HOST}:{ports.broker}", attached)
        try:
            self.folder.write_record(record)
        except BaseException:
            self._abandon(record)
            raise

    def wait_ready(self, *, timeout_s: float = 60.0) -> BrokerStatus:
        """The second half of `start`. On failure the process is ended. Raises `BrokerError`."""
        record = self.folder.record()
        if record is None:
            raise BrokerError(f"no broker was launched in {self.folder.root}")
        try:
            self._poll_until_ready(record, timeout_s)
            if not record.attached and self._pipe is not None:
                release(self._pipe)
                self._guard = self._pipe = None
        except BaseException:
            self._abandon(record)
            raise
        return self.status()

    def _poll_until_ready(self, record: ProcessRecord, timeout_s: float) -> None:
        host, port = record.bootstrap.rsplit(":", 1)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not is_alive(record):
                raise failure(self.folder, f"the broker in {self.folder.root} ended while starting")
            # Only our own process can be listening: ports were free, and a broker that cannot bind ends.
            if probe.is_listening(host, int(port)) and probe.ask(
                record.bootstrap, timeout_s=_PROBE_TIMEOUT_S
            ):
                return
            time.sleep(_POLL_S)
        raise failure(self.folder, f"the broker in {self.folder.root} was not ready after {timeout_s:g} s")

    def _abandon(self, record: ProcessRecord) -> None:
        try:
            end(record, timeout_s=5.0, notice=self._notice)
        finally:
            self.folder.pid_file.unlink(missing_ok=True)
            self._forget()

    def join(self) -> BrokerStatus:
        """Become one more owner of the attached broker running here: it then lives until the last has left."""
        with disk_errors(self.folder.root):
            pipe = join_owners(self.folder)
        self.leave()
        self._pipe = pipe
        return self.status()

    def leave(self) -> None:
        """Stop owning the attached broker; it ends by itself when this was its last owner."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def stop(self, *, timeout_s: float = 30.0) -> bool:
        """End the broker of this folder, whoever started it: SIGTERM, controlled shutdown, at last SIGKILL.

        True if it was running. Raises `BrokerError` when it cannot be ended.
        """
        record = self.folder.record()
        if record is None:
            self._forget()
            return False
        was_alive = is_alive(record)
        if was_alive:
            end(record, timeout_s=timeout_s, notice=self._notice)
        else:
            self._notice(
                f"removed the stale pid file of pid {record.pid}, whose run ended without a clean stop"
            )
        self.folder.pid_file.unlink(missing_ok=True)
        self._forget()
        return was_alive

    def _forget(self) -> None:
        """Let go of an ended process: close our end of its guard's pipe, and see the guard leave."""
        self.leave()
        if self._guard is not None:
            gone_within(self._guard, _GUARD_TIMEOUT_S)
            self._guard = None

    def status(self) -> BrokerStatus:
        """What is known now; asks the broker, and waits for its answer 5 s at most."""
        folder, record = self.folder, self.folder.record()
        cluster_id = folder.cluster_id()
        if record is None:
            return BrokerStatus("stopped", folder.root, "not running", folder.log, cluster_id=cluster_id)
        if not is_alive(record):
            detail = f"crashed: the last run (pid {record.pid}) ended without a clean stop; see {folder.log}"
            return BrokerStatus("crashed", folder.root, detail, folder.log, cluster_id=cluster_id)
        host, port = record.bootstrap.rsplit(":", 1)
        answers = probe.is_listening(host, int(port)) and probe.ask(
            record.bootstrap, timeout_s=_PROBE_TIMEOUT_S
        )
        detail = f"running at {record.bootstrap} (pid {record.pid})"
        if record.attached:
            detail += " for as long as its owner does"
        if not answers:
            detail = f"pid {record.pid} runs but does not answer at {record.bootstrap}; see {folder.log}"
        return BrokerStatus(
            state="running" if answers else "unresponsive",
            data=folder.root,
            detail=detail,
            log=folder.log,
            bootstrap=record.bootstrap,
            pid=record.pid,
            attached=record.attached,
            cluster_id=cluster_id,
            rss_bytes=resident_bytes(record.pid),
        )


def connect(settings: KafkaSettings, data: Path | None = None) -> KafkaSettings:
    """The settings to use: as given when they name a broker, else those of the running embedded one.

    Raises `BrokerError` when there is neither.
    """
    if settings.bootstrap is not None:
        return settings
    try:
        return Broker(data).settings()
    except BrokerError as error:
        raise BrokerError(f"{error}; or set KAFKA_BOOTSTRAP=host:port") from error
