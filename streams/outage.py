"""What Kafka's client logs comes in; while Kafka is away, one line when it went and one when it is back go out.

aiokafka retries many times a second and logs every failure at level ERROR: three minutes without a broker would be some
thousand lines, in which the one that matters is lost.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

# What aiokafka says when a broker does not answer, or has just lost its place in the cluster (3.x and 4.x brokers).
AWAY = re.compile(
    r"Unable (to )?connect|Unable to (update|request) metadata|[Cc]onnection (closed|reset|refused|lost|at )"
    r"|Kafka[A-Za-z]*ConnectionError|NodeNotReady|Failed fetch (messages|offsets)|RequestTimedOut|Request timed out"
    r"|Heartbeat (send request )?failed|Heartbeat session expired|Coordinator Request failed|Error sending .*Request"
    r"|(Could not|Cannot) send|coordinator (dead|is not (available|aware))|CoordinatorNotAvailable|NotCoordinator"
    r"|NotLeaderForPartition|LeaderNotAvailable|No broker metadata|not found in cluster metadata|ConnectionError"
    r"|OffsetCommit failed|FindCoordinator"
)
# Nothing more was logged for so long: who reads no partition hears in no other way that it is back.
QUIET_S = 10.0


class Outage(logging.Handler):
    """Stands before the handlers of the `aiokafka` loggers."""

    def __init__(self, notice: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        """Say by `notice` when Kafka goes and comes back; `clock` is the epoch's."""
        super().__init__(logging.WARNING)
        self.notice, self.clock = notice, clock
        self._since_s: float | None = None
        self._last_s = 0.0

    def install(self) -> None:
        """Take the place of what handles aiokafka's logging now."""
        log = logging.getLogger("aiokafka")
        log.propagate = False
        log.handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Swallow what only says once more that Kafka is away; pass on all else."""
        said = record.getMessage()
        if AWAY.search(said) is None:
            logging.getLogger().handle(record)
            return
        self._last_s = self.clock()
        if self._since_s is None:
            self._since_s = self._last_s
            self.notice(f"Kafka does not answer ({' '.join(said.split())}); waiting for it")

    def heard(self, at_s: float) -> None:
        """Note that Kafka answered at `at_s` (epoch, 0: never); to be called now and then."""
        if self._since_s is None:
            return
        if at_s > self._last_s or self.clock() - self._last_s > QUIET_S:
            self.notice(f"Kafka answers again after {self.clock() - self._since_s:.0f} s")
            self._since_s = None
