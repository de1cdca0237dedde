"""A data folder, jars, Java -> Kafka's data formatted (once) and the command that runs the server on it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from streams.embedded.folder import (
    BrokerError,
    BrokerFolder,
    Ports,
    log_properties,
    server_properties,
    write_whole,
)
from streams.embedded.java import JavaError, find_java, java_environment
from streams.embedded.kafka_jars import JarError, Progress, class_path, kafka_jars
from streams.embedded.log import failure
from streams.embedded.process import is_alive

_MIN_FREE_BYTES = 256 * 1024 * 1024


@contextlib.contextmanager
def folder_lock(folder: BrokerFolder) -> Iterator[int]:
    """Take the folder for a start: the locked file's descriptor, which the broker's process inherits.

    The lock so ends with the last of the two, however they end. Kafka's own lock does not do: a second server on the
    same folder writes to the first one's metadata before it comes to look at it. Raises `BrokerError`.
    """
    with folder.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            record = folder.record()
            if record is not None and is_alive(record):
                raise BrokerError(
                    f"a broker (pid {record.pid}) is already running in {folder.root} at {record.bootstrap}:"
                    " use it, stop it, or use another folder (--data)"
                ) from error
            raise BrokerError(
                f"{folder.root} is in use: another start is under way there, or a broker runs whose broker.pid was"
                " lost; wait for it, end it, or use another folder (--data)"
            ) from error
        yield lock.fileno()


def require_space(root: Path) -> None:
    """Refuse to start on a disk that is nearly full: Kafka would end in the middle of its work."""
    free = shutil.disk_usage(root).free
    if free < _MIN_FREE_BYTES:
        raise BrokerError(
            f"the disk is full: {free // 2**20} MB are free for {root}, a broker needs"
            f" {_MIN_FREE_BYTES // 2**20} MB; free some, or use another folder (--data, or MIDSTREAM_HOME for all)"
        )


def java_command(*, tools: bool = False, progress: Progress | None = None) -> list[str]:
    """`java -cp …` for Kafka's main classes; with `tools` also for Kafka's own tools. Raises `BrokerError`."""
    try:
        jars = kafka_jars(tools=tools, progress=progress)
        java = find_java()
    except (JarError, JavaError) as error:
        raise BrokerError(str(error)) from error
    return [str(java.path), *java.options(), "-cp", class_path(jars)]


def write_configuration(folder: BrokerFolder, ports: Ports, extra: Mapping[str, str]) -> None:
    """Write what the server is told, anew before every start: the folder may have moved. Raises `BrokerError`."""
    if "," in str(folder.kafka):
        raise BrokerError(
            f"{folder.root}: Kafka takes a comma in a path for the start of another: use another folder"
        )
    write_whole(folder.properties, server_properties(folder.kafka, ports, extra))
    write_whole(folder.log_config, log_properties(folder.log))


def format_once(
    folder: BrokerFolder, java: Sequence[str], ports: Ports, extra: Mapping[str, str], cluster_id: str | None
) -> None:
    """Make Kafka's data folder, once; under another name first, so that a half-made one is never used."""
    if folder.kafka.exists():
        return
    new = folder.root / "kafka.formatting"
    shutil.rmtree(new, ignore_errors=True)
    properties = folder.root / "format.properties"
    write_whole(properties, server_properties(new, ports, extra))
    cluster_id = cluster_id or urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # "=" because an id may begin with a dash.
    arguments = ["format", f"--cluster-id={cluster_id}", "--config", str(properties)]
    with folder.console.open("wb") as console:
        formatted = subprocess.run(
            [*java, "kafka.tools.StorageTool", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=java_environment(),
            check=False,
        )
    if formatted.returncode != 0:
        raise failure(folder, f"Kafka could not format {folder.kafka} (exit code {formatted.returncode})")
    properties.unlink()
    new.rename(folder.kafka)


def server_command(folder: BrokerFolder, java: Sequence[str], heap: Sequence[str]) -> list[str]:
    """The command line of the server. `heap` are Java's heap options."""
    program, *class_path_options = java
    return [
        program,
        *heap,
        # Measured: other collectors and a class-data archive gain less than they cost (docs/broker.md).
        "-XX:+UseG1GC",
        "-XX:+ExitOnOutOfMemoryError",
        f"-XX:ErrorFile={folder.log.parent}/java-error-%p.log",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={folder.log_config}",
        *class_path_options,
        "kafka.Kafka",
        str(folder.properties),
    ]
