"""A lock file (coordinates and SHA-256) -> Kafka's jars on this machine, each verified.

The jars are kept per user in `cache_home()/kafka/<version>`; what is there is never fetched again, and every
jar is hashed before every use (45 MB take 25 ms).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from streams.settings import cache_home

KAFKA_VERSION = "4.3.1"
SERVER_LOCK = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.lock")
# The server's lock binds slf4j to nothing, and then Kafka dies without a word; this jar binds it to log4j.
LOGGING_LOCK = Path(__file__).with_name(f"kafka-logging-{KAFKA_VERSION}.lock")
SILENT_BINDING = "slf4j-nop"
TOOLS_LOCK = Path(__file__).with_name(f"kafka-tools-{KAFKA_VERSION}.lock")

# Most of a jar's time is waiting for the repository's answer; a few waits at once are polite and enough.
_FETCH_THREADS = 4
_FETCH_ATTEMPTS = 3
_FETCH_TIMEOUT_S = 20
_RETRY_PAUSE_S = 0.5
_LOCK_LINE = re.compile(r"([\w.-]+):([\w.-]+):([\w.-]+) sha256:([0-9a-f]{64})", re.ASCII)
_STAGING = ".fetching"

Progress = Callable[[int, int, str], None]
"""Called after each fetched jar with (how many are done, how many were missing, the jar's file name)."""


class JarError(RuntimeError):
    """A jar is missing, wrong or cannot be fetched; the message names it and says what to do."""


@dataclass(frozen=True)
class Jar:
    """One line of a lock file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """`group:artifact:version`, as Maven writes it."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        """The jar's name in the cache folder."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock(path: Path) -> tuple[Jar, ...]:
    """The jars of a lock file, one `group:artifact:version sha256:HEX` a line; `#` starts a comment.

    Raises `JarError` naming file and line of what is malformed or named twice.
    """
    jars: dict[str, Jar] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = text.partition("#")[0].strip()
        if not line:
            continue
        match = _LOCK_LINE.fullmatch(line)
        if match is None:
            raise JarError(
                f"{path} line {number}: expected 'group:artifact:version sha256:<64 hex digits>', got {line!r}"
            )
        jar = Jar(*match.groups())
        if jar.file_name in jars:
            raise JarError(f"{path} line {number}: {jar.file_name} is named twice")
        jars[jar.file_name] = jar
    return tuple(jars.values())


def kafka_jars(*, tools: bool = False, progress: Progress | None = None) -> list[Path]:
    """The broker's jars in class path order, fetched if missing; with `tools` also those of Kafka's own tools.

    Raises `JarError`.
    """
    jars = tuple(jar for jar in read_lock(SERVER_LOCK) if jar.artifact != SILENT_BINDING)
    jars += read_lock(LOGGING_LOCK)
    if tools:
        jars += read_lock(TOOLS_LOCK)
    return verified(jars, cache_home() / "kafka" / KAFKA_VERSION, progress=progress)


def verified(jars: Sequence[Jar], folder: Path, *, progress: Progress | None = None) -> list[Path]:
    """The given jars as files of `folder`, fetched if missing, each with its SHA-256 checked. Raises `JarError`."""
    if any(not (folder / jar.file_name).exists() for jar in jars):
        with _disk_errors(folder), _sole_fetcher(folder):
            # Whoever held the lock before us may have fetched what was missing.
            missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
            _fetch_all(missing, folder, progress or (lambda done, total, name: None))
    paths = [folder / jar.file_name for jar in jars]
    for jar, path in zip(jars, paths, strict=True):
        with _disk_errors(path):
            actual = _sha256(path)
        if actual != jar.sha256:
            raise JarError(
                f"wrong hash: {path.name} ({jar.coordinate}) has SHA-256 {actual}, expected {jar.sha256};"
                f" delete {path} and start again to fetch it anew"
            )
    return paths


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _sole_fetcher(folder: Path) -> Iterator[None]:
    """Hold the cache's lock, so that processes starting together fetch once. A killed holder frees it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # What is in the staging folder now was left by a fetcher that was killed.
        shutil.rmtree(folder / _STAGING, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(folder / _STAGING, ignore_errors=True)


def _fetch_all(missing: Sequence[Jar], folder: Path, progress: Progress) -> None:
    """Fetch the jars with a few threads; the first failure, or Ctrl-C, stops them all.

    The threads are daemons: a thread pool would make Ctrl-C wait for downloads in flight.
    """
    _require_jgo()
    todo: SimpleQueue[Jar] = SimpleQueue()
    outcomes: SimpleQueue[Jar | BaseException] = SimpleQueue()
    stop = threading.Event()
    for jar in missing:
        todo.put(jar)

    def work() -> None:
        while not stop.is_set():
            try:
                jar = todo.get_nowait()
            except Empty:
                return
            try:
                _fetch(jar, folder, stop)
            except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
                outcomes.put(error)
            else:
                outcomes.put(jar)

    for _ in range(min(_FETCH_THREADS, len(missing))):
        threading.Thread(target=work, name="fetch-jar", daemon=True).start()
    try:
        for done in range(1, len(missing) + 1):
            outcome = outcomes.get()
            if isinstance(outcome, BaseException):
                raise outcome
            progress(done, len(missing), outcome.file_name)
    finally:
        stop.set()


def _require_jgo() -> None:
    try:
        import jgo.maven  # noqa: F401
    except ImportError as error:
        raise JarError(
            "Kafka's jars are not in the cache and jgo, which fetches them, is not installed:"
            " pip install 'midstream[demo]'"
        ) from error
    # What jgo says of a failure is said by our own error, in one line.
    logging.getLogger("jgo").setLevel(logging.CRITICAL)


def _fetch(jar: Jar, folder: Path, stop: threading.Event) -> None:
    """Fetch one jar into the staging folder, check it, and only then rename it to its name in the cache."""
    for attempt in range(1, _FETCH_ATTEMPTS + 1):
        # A folder of its own for each try: jgo takes any file already there for the whole jar.
        staging = folder / _STAGING / f"{jar.file_name}.{os.getpid()}.{attempt}"
        try:
            path = _download(jar, staging)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            if attempt == _FETCH_ATTEMPTS or stop.is_set():
                raise JarError(
                    f"cannot fetch {jar.file_name} ({jar.coordinate}): {_reason(error)}; check the network"
                    f" (HTTPS_PROXY is followed) and start again: jars already fetched are kept in {folder}"
                ) from error
            time.sleep(_RETRY_PAUSE_S * attempt)
            continue
        actual = _sha256(path)
        if actual != jar.sha256:
            raise JarError(
                f"wrong hash: {jar.file_name} ({jar.coordinate}) was fetched with SHA-256 {actual}, expected"
                f" {jar.sha256}; it was not kept: start again, and if it stays so, something between here and the"
                " Maven repository changes files"
            )
        path.replace(folder / jar.file_name)
        return


def _download(jar: Jar, staging: Path) -> Path:
    """One jar by its exact version. jgo's resolver of whole dependency trees picks other versions than Kafka."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=staging, local_repos=[], timeout=_FETCH_TIMEOUT_S)
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()


def _reason(error: BaseException) -> str:
    """A few words for a failed download: the HTTP library's own message is a paragraph."""
    from requests import ConnectionError as NoConnection
    from requests import Timeout

    kind = type(error).__name__
    if isinstance(error, Timeout):
        return f"no answer within {_FETCH_TIMEOUT_S} s ({kind})"
    if isinstance(error, NoConnection):
        return f"no connection to the Maven repository ({kind})"
    return f"{kind}: {str(error)[:160]}"


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into a `JarError` that names the file and the way out."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"the disk is full: {where} cannot be written; free 50 MB there, or set MIDSTREAM_CACHE"
        else:
            message = (
                f"{where}: {error.strerror or error}; set MIDSTREAM_CACHE to a folder that can be written"
            )
        raise JarError(message) from error


def class_path(jars: Sequence[Path]) -> str:
    """The jars as Java's `-cp` argument."""
    return os.pathsep.join(str(jar) for jar in jars)
