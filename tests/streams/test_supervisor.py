"""streams/supervisor.py with processes that only play a worker; tests/broker/test_supervisor.py has real ones."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from streams import supervisor
from streams.health import Health, Restore
from streams.supervisor import Charge, Supervisor, WorkerError, ending, health_of, pause, together
from tests.support.topics import wait_until

WELL = Health("running", "", 2, 0, 5)
TELL = f"import sys, time; print({json.dumps(json.dumps(asdict(WELL)))}, flush=True)"


class Play:
    """A charge whose process runs `code`."""

    def __init__(self, code: str, give_up: int | None = None) -> None:
        self.lines: list[str] = []
        self.said: list[str] = []
        command = [sys.executable, "-c", code]
        self.charge = Charge("worker 1", command, self.lines.append, self.said.append, None, give_up)

    def until(self, done: Callable[[], bool], what: str, now_s: float = 0.0) -> None:
        """Look again and again, at an instant of our own, until `done`."""

        def look() -> bool:
            self.charge.look(now_s)
            return done()

        wait_until(look, what, 20)


@pytest.fixture
def plays() -> Iterator[list[Play]]:
    made: list[Play] = []
    yield made
    for play in made:
        play.charge.kill()
        play.charge.stop(0.0)


def play(plays: list[Play], code: str, give_up: int | None = None) -> Play:
    plays.append(Play(code, give_up))
    return plays[-1]


def test_one_that_ends_is_started_again_after_a_pause_that_doubles(plays: list[Play]) -> None:
    made = play(plays, "import sys; print('disk full', file=sys.stderr); sys.exit(70)")
    now_s = 0.0
    for count in range(1, 4):
        made.until(lambda count=count: made.charge.restarts == count, "its end", now_s)  # type: ignore[misc]
        assert made.charge.ended()
        made.charge.look(now_s + pause(count) - 0.01)
        assert made.charge.process is None
        now_s += pause(count)
    assert made.lines == [
        f"worker 1 ended with code 70: disk full; starting it again in {s} s" for s in ("0.5", "1", "2")
    ]
    assert set(made.said) == {"disk full"}


def test_pauses_grow_to_a_limit() -> None:
    assert [pause(n) for n in (0, 1, 2, 3, 6, 7, 1000)] == [0.0, 0.5, 1.0, 2.0, 16.0, 30.0, 30.0]


def test_one_that_was_told_to_stop_by_somebody_else_is_started_at_once(plays: list[Play]) -> None:
    made = play(plays, "pass")
    made.until(lambda: made.charge.restarts == 1, "its end")
    assert made.charge.process is not None
    assert made.lines == ["worker 1 ended with code 0; starting it again"]


def test_one_that_has_been_well_for_a_while_begins_anew(plays: list[Play]) -> None:
    made = play(plays, f"{TELL}; sys.stdin.read()")
    made.charge._failures = 3
    made.until(lambda: made.charge.health == WELL, "its health", 1.0)
    made.charge.look(1.0)
    made.charge.look(1.0 + supervisor.STEADY_S - 0.1)
    assert made.charge._failures == 3
    made.charge.look(1.0 + supervisor.STEADY_S)
    assert made.charge._failures == 0


@pytest.mark.parametrize(
    ("code", "proven", "hopeless"),
    [(78, False, True), (78, True, True), (69, False, True), (69, True, False)],
)
def test_a_mistake_ends_it_and_so_does_a_kafka_that_was_never_there(
    plays: list[Play], code: int, proven: bool, hopeless: bool
) -> None:
    made = play(plays, f"import sys; print('midstream: no', file=sys.stderr); sys.exit({code})")
    made.charge.proven = proven
    if hopeless:
        with pytest.raises(WorkerError, match=f"worker 1 ended with code {code}: midstream: no") as failed:
            made.until(lambda: False, "its end")
        assert failed.value.code == code
    else:
        made.until(lambda: made.charge.restarts == 1, "its end")


def test_it_gives_up_where_that_was_asked_for(plays: list[Play]) -> None:
    made = play(plays, "import sys; sys.exit(70)", give_up=1)
    made.until(lambda: made.charge.restarts == 1, "its end")
    with pytest.raises(WorkerError):
        made.until(lambda: False, "its second end", 1000.0)


def test_one_that_falls_silent_is_killed(plays: list[Play], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SILENT_LOOKS", 3)
    made = play(plays, f"{TELL}; time.sleep(60)")
    made.until(lambda: made.charge.restarts == 1, "its end")
    assert made.lines == [
        "worker 1 has said nothing for 0.6 s; killing it",
        "worker 1 was ended by SIGKILL; starting it again in 0.5 s",
    ]


def test_one_that_loads_is_not_taken_for_silent(plays: list[Play], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SILENT_LOOKS", 3)
    made = play(plays, "import time; time.sleep(60)")
    for _ in range(10):
        made.charge.look(0.0)
    assert (made.charge.ended(), made.lines) == (False, [])


def test_it_ends_with_its_standard_input(plays: list[Play]) -> None:
    made = play(plays, "import sys; sys.stdin.read()")
    made.charge.start()
    assert made.charge.stop() in (0, -signal.SIGTERM)
    assert made.lines == []


def test_what_does_not_stop_is_killed(plays: list[Play]) -> None:
    made = play(
        plays,
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('here', file=sys.stderr, flush=True); time.sleep(60)",
    )
    made.charge.start()
    wait_until(lambda: made.said == ["here"], "it to listen")
    assert made.charge.stop(0.2) == -signal.SIGKILL
    assert made.lines == ["worker 1 did not stop within 0.2 s and was killed"]


def test_an_end_reads_as_what_it_was() -> None:
    assert [ending(code) for code in (70, -9, -15)] == [
        "ended with code 70",
        "was ended by SIGKILL",
        "was ended by SIGTERM",
    ]


def test_health_survives_the_line_that_tells_it() -> None:
    for health in (WELL, Health("restoring", "", 1, 2, 3, Restore(1, 2, 3.0, None))):
        assert health_of(json.dumps(asdict(health)).encode()) == health


def charged(name: str, health: Health | None, **more: Any) -> Charge:
    return Charge(name, [], print, print, health=health, **more)


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        (["running", "running"], "running"),
        (["running", "restoring"], "restoring"),
        (["running", None], "waiting"),
        (["restoring", "stalled"], "stalled"),
    ],
)
def test_all_together_are_as_well_as_the_worst(statuses: list[Any], whole: str) -> None:
    charges = [
        charged(f"worker {k}", None if status is None else Health(status, "", 2, 10, 5))
        for k, status in enumerate(statuses)
    ]
    health = together(charges)
    there = len([status for status in statuses if status is not None])
    assert health == Health(whole, "", 2 * there, 10 * there, 5 * there)  # type: ignore[arg-type]


def test_all_together_say_who_stands_still_and_how_far_a_restore_is() -> None:
    restore = Restore(100, 400, 50.0, 6.0)
    health = together(
        [
            charged("worker 1", Health("stalled", "lane x: no commit", 1, 0, 0)),
            charged("worker 2", Health("restoring", "", 1, 0, 0, restore)),
            charged("worker 3", Health("restoring", "", 1, 0, 0, Restore(0, 10, 0.0, None))),
        ]
    )
    assert health.reason == "worker 1: lane x: no commit"
    assert health.restore == Restore(100, 410, 50.0, 6.0)


def test_one_that_ends_again_and_again_is_no_progress() -> None:
    health = together([charged("worker 1", WELL), charged("worker 2", None, _failures=5, last_words="why")])
    assert (health.status, health.reason) == ("stalled", "worker 2 ends again and again: why")


def test_a_mistake_of_one_stops_the_others(tmp_path: Path) -> None:
    trace = tmp_path / "stopped"
    others = (
        "import signal, sys, pathlib; signal.signal(15, signal.SIG_IGN); sys.stdin.read(); "
        f"pathlib.Path({str(trace)!r}).touch()"
    )
    code = "import time, sys; time.sleep(0.5); print('no', file=sys.stderr); sys.exit(78)"
    charges = [
        Charge(
            "worker 1",
            [sys.executable, "-c", others],
            print,
            print,
        ),
        Charge("worker 2", [sys.executable, "-c", code], print, print),
    ]
    with pytest.raises(WorkerError, match="worker 2 ended with code 78: no"):
        Supervisor(charges, print).run()
    assert trace.exists()
    assert all(charge.ended() for charge in charges)


def test_a_signal_ends_it_in_order_and_leaves_the_handlers_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    lines: list[str] = []
    charge = Charge("worker 1", [sys.executable, "-c", f"{TELL}; sys.stdin.read()"], print, print)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert Supervisor([charge], lines.append).run() == 0
    assert lines == ["stopping after the batches in flight"]
    assert charge.ended()
    assert signal.getsignal(signal.SIGTERM) is before
