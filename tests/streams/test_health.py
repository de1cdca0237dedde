"""streams/health.py: when a worker is taken to move, to wait, to restore, to stand still."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.health import RESTORE_NOTICE_S, STALLED_S, Health, Teller, judge, pages
from streams.metrics import Metrics, serve
from tests.support.workers import free_port

LANE = "x.events.0"


def opened(*lanes: str) -> Metrics:
    """A worker that runs `lanes`."""
    metrics = Metrics()
    for lane in lanes:
        metrics.lane_state(lane, "running")
    metrics.assigned.set(len(lanes))
    return metrics


def after(metrics: Metrics, seconds: float) -> Health:
    """The judgement so many seconds from now, with nothing heard in between."""
    return judge(metrics.samples(), time.time() + seconds)


def test_a_worker_without_an_assignment_waits_and_is_alive() -> None:
    health = after(Metrics(), 10 * STALLED_S)
    assert (health.status, health.alive, health.ready) == ("waiting", True, False)


def test_a_worker_that_got_no_partition_is_ready() -> None:
    assert after(opened(), 10 * STALLED_S) == Health("running", "", 0, 0, 0)


def test_a_lane_with_nothing_to_do_is_well_as_long_as_kafka_says_so() -> None:
    metrics = opened(LANE)
    metrics.looked(LANE, 0, time.time() + 3600)
    assert after(metrics, 3600 + STALLED_S - 1).ready
    health = after(metrics, 3600 + STALLED_S + 1)
    assert (health.status, health.reason) == ("stalled", f"lane {LANE}: no word from Kafka for 31 s")


def test_a_lane_with_records_and_no_commit_stands_still() -> None:
    metrics = opened(LANE)
    metrics.committed(LANE, 0.1)
    # Kafka is heard all the time: that is no progress.
    metrics.looked(LANE, 1200, time.time() + 3600)
    assert after(metrics, STALLED_S - 1).ready
    health = after(metrics, STALLED_S + 1)
    assert (health.alive, health.ready, health.lag) == (False, False, 1200)
    assert health.reason == f"lane {LANE}: no commit for 31 s although 1,200 records wait"


def test_a_batch_that_does_not_end_is_work_left_to_do() -> None:
    metrics = opened(LANE)
    metrics.took(LANE, 7)
    metrics.looked(LANE, 0, time.time() + 3600)
    assert after(metrics, STALLED_S + 1).reason == f"lane {LANE}: no commit for 31 s although 7 records wait"


def test_lag_that_has_just_come_after_a_quiet_hour_is_no_standstill() -> None:
    metrics = opened(LANE)
    metrics.looked(LANE, 0, time.time() + 3600)
    metrics.looked(LANE, 5, time.time() + 3601)
    assert after(metrics, 3605).ready


def test_a_commit_is_progress_however_large_the_lag() -> None:
    metrics = opened(LANE)
    metrics.looked(LANE, 10**6, time.time())
    metrics.committed(LANE, 0.1)
    health = after(metrics, 1)
    assert (health.status, health.lag, health.commits) == ("running", 10**6, 1)


def test_every_lane_that_stands_still_is_named() -> None:
    metrics = opened("x.events.0", "x.events.1", "x.raw.0")
    for lane in ("x.events.0", "x.raw.0"):
        metrics.looked(lane, 1, time.time())
    metrics.looked("x.events.1", 0, time.time() + STALLED_S)
    reason = after(metrics, STALLED_S + 1).reason
    assert [part.split(":")[0] for part in reason.split("; ")] == ["lane x.events.0", "lane x.raw.0"]


def test_a_closed_lane_is_nobodys_standstill() -> None:
    metrics = opened(LANE)
    metrics.looked(LANE, 9, time.time())
    metrics.lane_state(LANE, "closed")
    assert after(metrics, 10 * STALLED_S) == Health("running", "", 0, 0, 0)


def test_a_restore_shows_rows_rate_and_what_is_left() -> None:
    metrics = Metrics()
    for lane, done in (("x.events.0", 300_000), ("x.events.1", 100_000)):
        metrics.lane_state(lane, "restoring")
        metrics.restoring(lane, done, 500_000, 2.0)
    health = after(metrics, 1)
    assert (health.status, health.alive, health.ready) == ("restoring", True, False)
    assert health.restore is not None
    assert (health.restore.records, health.restore.total_records) == (400_000, 1_000_000)
    assert (health.restore.records_per_s, health.restore.eta_s) == (200_000, 3.0)
    stuck = after(metrics, STALLED_S + 1)
    assert stuck.reason.startswith(
        "lane x.events.0: nothing restored for 31 s, at 300,000 of 500,000 records"
    )


def test_a_restore_that_repeats_itself_is_no_progress() -> None:
    metrics = Metrics()
    metrics.lane_state(LANE, "restoring")
    metrics.restoring(LANE, 10, 20, 1.0)
    moved_s = metrics.samples()["midstream_lane_progress_timestamp_seconds", frozenset({("lane", LANE)})]
    time.sleep(0.01)
    metrics.restoring(LANE, 10, 20, 2.0)
    assert (
        metrics.samples()["midstream_lane_progress_timestamp_seconds", frozenset({("lane", LANE)})] == moved_s
    )
    metrics.restoring(LANE, 11, 20, 2.0)
    assert (
        metrics.samples()["midstream_lane_progress_timestamp_seconds", frozenset({("lane", LANE)})] > moved_s
    )


def test_a_finished_restore_is_not_shown_any_more() -> None:
    metrics = opened()
    metrics.lane_state(LANE, "restoring")
    metrics.restoring(LANE, 20, 20, 1.0)
    metrics.lane_state(LANE, "running")
    assert after(metrics, 1).restore is None
    assert not [name for name, _ in metrics.samples() if name.startswith("midstream_restore_")]


@given(
    lag=st.integers(0, 10**6),
    in_hand=st.integers(0, 4000),
    still_s=st.floats(0, 3 * STALLED_S, allow_nan=False),
)
def test_only_time_without_progress_makes_a_standstill(lag: int, in_hand: int, still_s: float) -> None:
    samples = {
        ("midstream_assigned_lanes", frozenset[tuple[str, str]]()): 1.0,
        ("midstream_lane_state", frozenset({("lane", LANE), ("state", "running")})): 1.0,
        ("midstream_lag_records", frozenset({("lane", LANE)})): float(lag),
        ("midstream_in_hand_records", frozenset({("lane", LANE)})): float(in_hand),
        ("midstream_lane_progress_timestamp_seconds", frozenset({("lane", LANE)})): 1000.0,
    }
    health = judge(samples, 1000.0 + still_s)
    assert health.alive == (1000.0 + still_s - 1000.0 < STALLED_S)
    assert health.lag == lag + in_hand


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("status", "alive", "ready"),
    [("running", 200, 200), ("restoring", 200, 503), ("waiting", 200, 503), ("stalled", 503, 503)],
)
def test_the_pages_answer_in_json_with_a_status_that_a_probe_understands(
    status: Any, alive: int, ready: int
) -> None:
    port = free_port()
    health = Health(status, "why" if status == "stalled" else "", 4, 5, 6)
    serve(port, Metrics().registry, pages(lambda: health))
    code, said = get(port, "/healthz")
    assert (code, said["status"], said["reason"], said["lag"]) == (alive, status, health.reason, 5)
    assert get(port, "/readyz")[0] == ready


def test_a_slow_restore_is_told_now_and_then() -> None:
    metrics, lines = Metrics(), list[str]()
    teller = Teller("desk", metrics, lines.append, None)
    metrics.lane_state(LANE, "restoring")
    metrics.restoring(LANE, 240_000, 1_000_000, 1.0)
    health = teller.ask()
    # It begins: nothing is told of one that is over at once.
    teller.tell(Health("waiting", "", 0, 0, 0), 100.0)
    for now_s in (100.5, 101.0, 101.9):
        teller.tell(health, now_s)
    assert lines == []
    for now_s in (102.0, 102.5, 103.9, 104.0):
        teller.tell(health, now_s)
    line = "desk: restoring 1 lane: 240,000 of 1,000,000 records, 240,000/s, 3 s to go"
    assert lines == [line, line]
    assert RESTORE_NOTICE_S == 2.0
