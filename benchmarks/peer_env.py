"""The peers' toolchains: a contender comes in, the command that runs it goes out, in an environment of its own.

Each environment is made once from a lock file (or pom.xml) beside the peers and kept in `cache_home()/bench`, under
the hash of what it was made from: a changed file makes a new one. What is kept needs no network.

Back of the envelope: a Python environment is 20 to 150 MB and half a minute the first time, the Java program 60 MB
and as long; afterwards nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.roster import Contender
from streams.settings import cache_home

PEERS = Path(__file__).with_name("peers")
JAVA = PEERS / "kafka_streams"
OUR_MODULE = "benchmarks.lane_worker"
# A heap that is bounded, as a worker's memory is (its own choice would be a quarter of the machine), and the collector
# that takes the least processor time of the three.
JVM = ("-Xms1g", "-Xmx1g", "-XX:+UseParallelGC")
MAIN_CLASS = "bench.KafkaStreamsEos"
BUILD_TIMEOUT_S = 900
MADE = "made"

Say = Callable[[str], None]


class UnavailableError(Exception):
    """A contender's toolchain is not to be had here; the message says why, and what would help."""


def command(contender: Contender, say: Say) -> list[str]:
    """What starts `contender`, less its task; its environment is made now if it is not there.

    Raises:
        UnavailableError: a tool is missing, or a package cannot be fetched.
    """
    if contender.toolchain == "ours":
        return [sys.executable, "-m", OUR_MODULE]
    if contender.toolchain == "kafka_streams":
        return java_command(java_program(say))
    python = python_environment(contender.toolchain, say)
    return [str(python), "-m", f"benchmarks.peers.{contender.name}"]


def versions(contender: Contender) -> dict[str, str]:
    """The packages that a peer was given by name, with their pinned versions."""
    if contender.toolchain == "ours":
        return {}
    if contender.toolchain == "kafka_streams":
        return dict(re.findall(r"<([\w-]+)\.version>([\d.]+)<", (JAVA / "pom.xml").read_text()))
    wanted = (PEERS / f"{contender.toolchain}.in").read_text()
    named = re.findall(r"^([\w-]+)(?:\[.*?\])?==", wanted, re.MULTILINE)
    locked = dict(
        re.findall(r"^([\w-]+)==(\S+)", (PEERS / f"{contender.toolchain}.lock").read_text(), re.MULTILINE)
    )
    return {name: locked[name] for name in named}


def python_environment(toolchain: str, say: Say) -> Path:
    """The interpreter of a virtual environment with exactly what `<toolchain>.lock` says.

    Raises:
        UnavailableError: the packages cannot be fetched, or one has no wheel for this Python and machine.
    """
    lock = PEERS / f"{toolchain}.lock"
    with kept(toolchain, [lock]) as folder:
        python = folder / "bin" / "python"
        if not (folder / MADE).exists():
            say(f"{toolchain}: making its environment in {folder} (half a minute the first time)")
            call(toolchain, [sys.executable, "-m", "venv", str(folder)])
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            # A source package would need a compiler, and build in ways that no lock file holds.
            call(toolchain, [*install, "--require-hashes", "--only-binary=:all:", "-r", str(lock)])
            (folder / MADE).touch()
    return python


def java_program(say: Say) -> Path:
    """The folder of the built Java program: `classes`, and its jars in `lib`.

    Raises:
        UnavailableError: there is no Maven or no JDK, or a jar cannot be fetched.
    """
    maven = shutil.which("mvn")
    sources = sorted(path for path in JAVA.rglob("*") if path.is_file())
    with kept("kafka_streams", sources) as folder:
        if not (folder / MADE).exists():
            if maven is None:
                raise UnavailableError(
                    "kafka_streams: mvn is not on PATH. Install Maven and a JDK of at least 17 (on Debian: "
                    "apt-get install maven default-jdk-headless)."
                )
            say(f"kafka_streams: building it with Maven in {folder} (half a minute the first time)")
            shutil.copytree(JAVA, folder, dirs_exist_ok=True)
            call("kafka_streams", [maven, "-q", "-B", "-f", str(folder / "pom.xml"), "process-classes"])
            (folder / MADE).touch()
    return folder / "target"


def java_command(built: Path) -> list[str]:
    """How the built program is run: by the Java of JAVA_HOME, else the one on PATH.

    Raises:
        UnavailableError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        raise UnavailableError("kafka_streams: java is not on PATH, and JAVA_HOME is not set.")
    return [java, *JVM, "-cp", f"{built / 'classes'}:{built / 'lib'}/*", MAIN_CLASS]


@contextmanager
def kept(name: str, made_from: Iterable[Path]) -> Iterator[Path]:
    """The folder of what is made from these files for this Python, locked against another benchmark.

    A folder without the mark `made` is a rest of an interrupted try and comes back empty.
    """
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for path in made_from:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = cache_home() / "bench" / f"{name}-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / MADE).exists():
            shutil.rmtree(folder)
            folder.mkdir()
        yield folder


def call(name: str, arguments: Sequence[str]) -> None:
    """Run a tool to its end.

    Raises:
        UnavailableError: it failed; the message ends with its last lines.
    """
    # The environment of the person's other projects must not reach into this one.
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    try:
        done = subprocess.run(
            arguments,
            env=environment | {"PIP_USER": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{name}: {error}") from error
    if done.returncode != 0:
        said = " / ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise UnavailableError(f"{name}: {Path(arguments[0]).name} ended with {done.returncode}: {said}")
