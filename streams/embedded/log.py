"""A failed broker's log files -> the one line that says why, and the lines before its end."""

from __future__ import annotations

import re
from pathlib import Path

from streams.embedded.folder import BrokerError, BrokerFolder

_TAIL_LINES = 15
_TAIL_BYTES = 64 * 1024
_ERROR = re.compile(r"[\d-]+ [\d:,]+ (?:ERROR|FATAL) (.+?)(?: \([\w.$]+\))?$")
_EXCEPTION = re.compile(r"(?:Caused by: )?(?:[\w$]+\.)+([A-Z][\w$]*(?:Exception|Error)\b.*)$")
_UNCAUGHT = re.compile(r'^Exception in thread "main" (?:\w+\.)*')
_FRAME = re.compile(r"\s+(?:at |\.\.\. \d+ )")
# What Kafka or Java says, and what that means here. The first that is found wins.
_CAUSES = (
    ("No space left on device", "the disk is full"),
    ("Disk quota exceeded", "the disk quota is used up"),
    ("Address already in use", "one of its ports was taken by another process meanwhile: start again"),
    ("OutOfMemoryError", "Java ran out of memory: set KAFKA_HEAP_OPTS, for example to -Xmx2g"),
    (
        "Could not reserve enough space",
        "the machine has less memory than Java is told to use (KAFKA_HEAP_OPTS)",
    ),
    ("Too many open files", "too many open files: raise the limit (ulimit -n)"),
)


def failure(folder: BrokerFolder, what: str) -> BrokerError:
    """`what` happened, as an error with the reason from the log, the log's path, and its last lines."""
    console, server = _tail(folder.console), _tail(folder.log)
    log = folder.log if server else folder.console
    reason = _known([*server, *console]) or _last_error(server) or _first(console)
    message = f"{what}: {reason}; see {log}" if reason else f"{what}; see {log}"
    # Stack frames tell a person nothing here, and the log has them.
    told = [line for line in [*server, *console] if not _FRAME.match(line)]
    return BrokerError(message, tuple(told[-_TAIL_LINES:]))


def _known(lines: list[str]) -> str | None:
    for sign, meaning in _CAUSES:
        if any(sign in line for line in lines):
            return meaning
    return None


def _last_error(server: list[str]) -> str | None:
    """The root exception under the log's last error, else the error itself."""
    said, exceptions = None, list[str]()
    for line in server:
        if match := _ERROR.match(line):
            said, exceptions = match[1], []
        elif said is not None and (match := _EXCEPTION.match(line)):
            exceptions.append(match[1])
    return exceptions[-1] if exceptions else said


def _first(console: list[str]) -> str | None:
    """Java says first what is wrong, then that it gives up."""
    first = next((line.strip() for line in console if not line.startswith("Picked up ")), None)
    return first and _UNCAUGHT.sub("", first)


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]
