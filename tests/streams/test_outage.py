"""streams/outage.py: a broker that is away is two lines; what else Kafka's client has to say is said."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from streams.outage import QUIET_S, Outage


class Clock:
    """A clock that a test sets."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The logger of one of aiokafka's modules, put back afterwards."""
    whole = logging.getLogger("aiokafka")
    before = whole.handlers, whole.propagate, whole.level
    # A command that was run in this process may have silenced it.
    whole.setLevel(logging.NOTSET)
    yield logging.getLogger("aiokafka.client")
    whole.handlers, whole.propagate = before[:2]
    whole.setLevel(before[2])


def test_a_broker_that_is_away_is_one_line_when_it_goes_and_one_when_it_returns(log: logging.Logger) -> None:
    lines: list[str] = []
    clock = Clock()
    outage = Outage(lines.append, clock)
    outage.install()
    for _ in range(500):
        clock.now_s += 0.1
        log.error("Unable connect to node with id %s: %s", 1, "[Errno 111] Connect call failed")
        log.warning("Heartbeat failed for group %s: coordinator (node %s) is either not started", "g", 1)
        # The last answer is older than the last failure.
        outage.heard(1000.0)
    assert lines == [
        "Kafka does not answer (Unable connect to node with id 1: [Errno 111] Connect call failed); waiting for it"
    ]
    outage.heard(clock.now_s + 0.5)
    outage.heard(clock.now_s + 0.6)
    assert lines[1:] == ["Kafka answers again after 50 s"]


def test_who_reads_nothing_takes_silence_for_its_return(log: logging.Logger) -> None:
    lines: list[str] = []
    clock = Clock()
    outage = Outage(lines.append, clock)
    outage.install()
    log.error("Unable to update metadata from %s", [1])
    clock.now_s += QUIET_S
    outage.heard(0.0)
    assert len(lines) == 1
    clock.now_s += 1
    outage.heard(0.0)
    assert lines[1:] == ["Kafka answers again after 11 s"]


def test_what_is_not_about_an_outage_goes_where_it_went(
    log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []
    Outage(lines.append).install()
    log.error("Topic %s is not authorized for this client", "secret")
    assert lines == []
    assert [record.getMessage() for record in caplog.records] == [
        "Topic secret is not authorized for this client"
    ]


def test_with_kafka_there_nothing_is_said() -> None:
    lines: list[str] = []
    Outage(lines.append).heard(5.0)
    assert lines == []
