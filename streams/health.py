"""Health that means progress: what the lanes said of themselves (their metrics) comes in; a verdict goes out.

A process that is up may do nothing. A lane stands still when it has something to do and has committed nothing for
`STALLED_S`; with nothing to do, it must at least have heard that from Kafka. This is the one place that says so: the
health endpoint, the supervisor and the worker's own notices all ask here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from streams.metrics import Metrics, Page, Samples

# A batch takes well under a second, a rebalance some seconds, a broker's restart ten.
STALLED_S = 30.0
# How often a worker's health is told, and a restore that takes its time.
TELL_S = 1.0
RESTORE_NOTICE_S = 2.0

Status = Literal["waiting", "restoring", "running", "stalled"]


@dataclass(frozen=True)
class Restore:
    """Restores under way: records done and in all, and how fast it goes."""

    records: int
    total_records: int
    records_per_s: float
    # None until it can be told.
    eta_s: float | None


@dataclass(frozen=True)
class Health:
    """How a worker, or all workers of a supervisor, are doing."""

    # waiting: for lanes (it starts, or partitions are moving); restoring: lanes are opened; running: all lanes run.
    status: Status
    # Why it is stalled.
    reason: str
    lanes: int
    # Records that wait or are in hand.
    lag: int
    # Batches committed since the process began.
    commits: int
    restore: Restore | None = None

    @property
    def alive(self) -> bool:
        """Lanes move, or have nothing to do, or are on their way."""
        return self.status != "stalled"

    @property
    def ready(self) -> bool:
        """All assigned lanes run."""
        return self.status == "running"


def judge(samples: Samples, now_s: float) -> Health:
    """The health of the worker with these metrics at `now_s` (epoch)."""
    lanes = of_lanes(samples)
    commits = sum(value for (name, _), value in samples.items() if name == "midstream_batch_seconds_count")
    opened = [name for name, said in lanes.items() if said["running"] or said["restoring"]]
    lag = sum(int(said["lag"] + said["in_hand"]) for said in lanes.values())
    reasons = [why for name in opened if (why := standstill(name, lanes[name], now_s))]
    restoring = [lanes[name] for name in opened if lanes[name]["restoring"]]
    status: Status = "running"
    if reasons:
        status = "stalled"
    elif restoring:
        status = "restoring"
    elif samples.get(("midstream_assigned_lanes", frozenset()), -1) < 0:
        status = "waiting"
    return Health(
        status,
        "; ".join(reasons),
        len(opened),
        lag,
        int(commits),
        progress_of(restoring) if restoring else None,
    )


def of_lanes(samples: Samples) -> dict[str, dict[str, float]]:
    """Lane → what its gauges say; zero for those that say nothing."""
    gauges = {
        "midstream_lag_records": "lag",
        "midstream_in_hand_records": "in_hand",
        "midstream_lane_progress_timestamp_seconds": "moved_s",
        "midstream_restore_records": "done",
        "midstream_restore_total_records": "total",
        "midstream_restore_seconds": "seconds",
    }
    fields = (*gauges.values(), "running", "restoring", "closed")
    lanes: dict[str, dict[str, float]] = {}
    for (name, given), value in samples.items():
        labels = dict(given)
        field = labels.get("state") if name == "midstream_lane_state" else gauges.get(name)
        if field is not None:
            lanes.setdefault(labels["lane"], dict.fromkeys(fields, 0.0))[field] = value
    return lanes


def standstill(lane: str, said: Mapping[str, float], now_s: float) -> str:
    """Why a lane is taken to stand still; empty while it does not."""
    still_s = now_s - said["moved_s"]
    if still_s < STALLED_S:
        return ""
    waiting = int(said["lag"] + said["in_hand"])
    if said["restoring"]:
        done, whole = int(said["done"]), int(said["total"])
        return f"lane {lane}: nothing restored for {still_s:.0f} s, at {done:,} of {whole:,} records"
    if waiting:
        return f"lane {lane}: no commit for {still_s:.0f} s although {waiting:,} records wait"
    return f"lane {lane}: no word from Kafka for {still_s:.0f} s"


def progress_of(restoring: Iterable[Mapping[str, float]]) -> Restore:
    """The restores of several lanes, which go on side by side, as one."""
    lanes = list(restoring)
    done, whole = sum(lane["done"] for lane in lanes), sum(lane["total"] for lane in lanes)
    seconds = max(lane["seconds"] for lane in lanes)
    per_s = done / seconds if seconds else 0.0
    eta_s = round(max(0.0, whole - done) / per_s, 1) if per_s else None
    return Restore(int(done), int(whole), round(per_s), eta_s)


def in_words(restore: Restore, lanes: int) -> str:
    """A restore for a person."""
    eta = "" if restore.eta_s is None else f", {restore.eta_s:.0f} s to go"
    return (
        f"restoring {lanes} lane{'s' if lanes != 1 else ''}: {restore.records:,} of {restore.total_records:,} records, "
        f"{restore.records_per_s:,.0f}/s{eta}"
    )


def pages(ask: Callable[[], Health]) -> dict[str, Page]:
    """What is served: `/healthz`, whether it moves; `/readyz`, whether all its lanes run."""

    def healthz() -> tuple[bool, Mapping[str, Any]]:
        health = ask()
        return health.alive, asdict(health)

    def readyz() -> tuple[bool, Mapping[str, Any]]:
        health = ask()
        return health.ready, asdict(health)

    return {"/healthz": healthz, "/readyz": readyz}


class Teller:
    """Tells how a worker is doing while it runs, from a thread of its own: the loop may be what stands still."""

    def __init__(
        self,
        name: str,
        metrics: Metrics,
        notice: Callable[[str], None],
        report: Callable[[Health], None] | None,
    ) -> None:
        """Tell people of slow restores by `notice`, and a program of all by `report`."""
        self.name, self.metrics, self.notice, self.report = name, metrics, notice, report
        self._noticed_s = 0.0

    def ask(self) -> Health:
        """How it is doing now."""
        return judge(self.metrics.samples(), time.time())

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, daemon=True, name="teller").start()

    def _run(self) -> None:
        while True:
            health = self.ask()
            self.tell(health, time.monotonic())
            if self.report is not None:
                self.report(health)
            time.sleep(TELL_S)

    def tell(self, health: Health, now_s: float) -> None:
        """A line for people if a restore takes longer than a moment, and then not too often."""
        if health.restore is None:
            self._noticed_s = now_s
        elif now_s - self._noticed_s >= RESTORE_NOTICE_S:
            self._noticed_s = now_s
            self.notice(f"{self.name}: {in_words(health.restore, health.lanes)}")
