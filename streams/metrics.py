"""The door to Prometheus: what lanes committed comes in; counters, gauges and histograms go out."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from socketserver import ThreadingMixIn
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from schemas.record import Out

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

Samples: TypeAlias = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
Page: TypeAlias = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Whether what is asked for is so, and what there is to say about it as JSON."""


class Metrics:
    """A worker's metrics. Everything is counted after the commit: what was rolled back never happened."""

    def __init__(self) -> None:
        """Register the metrics in a registry of their own."""
        self.registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(name, about, labels, registry=self.registry)

        self.records = counter("midstream_records_total", "Records read and committed", "topic")
        self.events = counter("midstream_events_total", "Events folded into a row", "type")
        self.duplicates = counter("midstream_duplicates_total", "Events a row had seen before", "type")
        self.quarantined = counter("midstream_quarantined_total", "Records refused", "reason")
        self.decisions = counter("midstream_decisions_total", "Decisions", "decision", "route", "gate")
        self.timers = counter("midstream_timers_total", "Timers fired", "kind")
        self.restored_rows = counter("midstream_restored_records_total", "Changelog records restored")

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(name, about, labels, registry=self.registry)

        self.restore_done = gauge("midstream_restore_records", "Of a restore under way: records done", "lane")
        self.restore_total = gauge("midstream_restore_total_records", "Of it: records in all", "lane")
        self.restore_seconds = gauge("midstream_restore_seconds", "Of it: time since it began", "lane")
        self.batch_records = Histogram(
            "midstream_batch_records",
            "Records in a batch",
            ["topic"],
            buckets=RECORDS,
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "midstream_batch_seconds",
            "From taking a batch to its rows in the database",
            ["lane"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.latency_seconds = Histogram(
            "midstream_latency_seconds",
            "From the raw record in Kafka to the committed output",
            ["topic"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.lag = gauge("midstream_lag_records", "Records not yet read", "lane")
        self.in_hand = gauge("midstream_in_hand_records", "Records of the batch in flight", "lane")
        self.state = gauge("midstream_lane_state", "1 for the state a lane is in", "lane", "state")
        clock = "Event time that a lane has reached (rank 0: the wall clock's ticks)"
        self.clock = gauge("midstream_clock_timestamp_seconds", clock, "lane", "rank")
        self.progress = gauge(
            "midstream_lane_progress_timestamp_seconds",
            "When a lane last committed, restored, or was known to have nothing to do",
            "lane",
        )
        self.assigned = gauge("midstream_assigned_lanes", "Lanes of this worker; -1: it waits for its lanes")
        self.assigned.set(-1)
        # Lane → when it last moved, and what it had restored then; lanes that have a batch in hand.
        self._moved_s: dict[str, float] = {}
        self._restored: dict[str, int] = {}
        self._busy: set[str] = set()

    def samples(self) -> Samples:
        """All of them as they are now: (name, labels) → value."""
        return dict(flat(self.registry.collect()))

    def _moved(self, lane: str, at_s: float) -> None:
        """Note that `lane` was not standing still at `at_s`."""
        self._moved_s[lane] = max(at_s, self._moved_s.get(lane, 0.0))
        self.progress.labels(lane).set(self._moved_s[lane])

    def time_passed(self, lane: str, now_ms: Mapping[int, int]) -> None:
        """Note how far a lane's event time has come, per rank."""
        for rank, at_ms in now_ms.items():
            self.clock.labels(lane, str(rank)).set(at_ms / 1e3)

    def batch(self, role: str, count: int, told: Sequence[Out], tally: Tally[tuple[str, ...]]) -> None:
        """Count one committed batch of `count` records that told the world `told`, and empty the stage's `tally`."""
        self.records.labels(role).inc(count)
        self.batch_records.labels(role).observe(count)
        by_kind = {
            "event": self.events,
            "duplicate": self.duplicates,
            "quarantined": self.quarantined,
            "decision": self.decisions,
            "timer": self.timers,
        }
        for (kind, *labels), times in tally.items():
            if kind in by_kind:
                by_kind[kind].labels(*labels).inc(times)
        tally.clear()
        now_ms = time.time_ns() / 1e6
        for out in told:
            ingested_ms = int(dict(out.headers)["ms_ingested"])
            self.latency_seconds.labels(out.topic).observe((now_ms - ingested_ms) / 1e3)

    def took(self, lane: str, count: int) -> None:
        """Note that `lane` has begun a batch of `count` records."""
        self._busy.add(lane)
        self.in_hand.labels(lane).set(count)

    def committed(self, lane: str, seconds: float) -> None:
        """Note how long a batch took and that the lane moves."""
        self.commit_seconds.labels(lane).observe(seconds)
        self.in_hand.labels(lane).set(0)
        self._busy.discard(lane)
        self._moved(lane, time.time())

    def looked(self, lane: str, lag: int, heard_s: float) -> None:
        """Note how many records `lane` had yet to read when Kafka last told, at `heard_s` (epoch)."""
        self.lag.labels(lane).set(lag)
        if not lag and lane not in self._busy:
            self._moved(lane, heard_s)

    def restoring(self, lane: str, done: int, total: int, seconds: float) -> None:
        """Note how far a restore has come, `seconds` after it began: `done` of `total` changelog records."""
        if done != self._restored.get(lane):
            self._moved(lane, time.time())
        self._restored[lane] = done
        self.restore_done.labels(lane).set(done)
        self.restore_total.labels(lane).set(total)
        self.restore_seconds.labels(lane).set(seconds)

    def restored(self, count: int, seconds: float) -> None:
        """Note a finished restore."""
        self.restored_rows.inc(count)

    def lane_state(self, lane: str, state: str) -> None:
        """Note that `lane` is now in `state`."""
        for name in ("restoring", "running", "closed"):
            self.state.labels(lane, name).set(1 if name == state else 0)
        if state == "closed":
            # What it said last is no longer so; another worker tells from now on.
            for gauge in (self.lag, self.clock, self.progress, self.in_hand):
                gauge.remove_by_labels({"lane": lane})
            self._moved_s.pop(lane, None)
            self._busy.discard(lane)
        else:
            self._moved(lane, time.time())
        if state != "restoring":
            for gauge in (self.restore_done, self.restore_total, self.restore_seconds):
                gauge.remove_by_labels({"lane": lane})
            self._restored.pop(lane, None)


class _Server(ThreadingMixIn, WSGIServer):
    """A request that hangs holds up no other, and none holds up the end of the process."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Does not write a line for every scrape."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        """Nothing."""


def serve(port: int, registry: CollectorRegistry, pages: Mapping[str, Page]) -> None:
    """Answer on loopback port `port`, in a thread of its own: `pages` by their path (200 or 503), scrapes elsewhere.

    Raises:
        OSError: the port is taken.
    """
    metrics = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        page = pages.get(environ["PATH_INFO"])
        if page is None:
            return metrics(environ, start)  # type: ignore[no-any-return]
        good, said = page()
        status = "200 OK" if good else "503 Service Unavailable"
        start(status, [("Content-Type", "application/json")])
        return [json.dumps(said).encode() + b"\n"]

    server = make_server("127.0.0.1", port, answer, server_class=_Server, handler_class=_Handler)
    threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()


def restarts(read: Callable[[], Mapping[str, int]]) -> CollectorRegistry:
    """What a supervisor shows: worker → how often it was started again, as `read` says at every scrape."""

    class Restarts(Collector):
        def collect(self) -> Iterator[Metric]:
            family = CounterMetricFamily(
                "midstream_worker_restarts", "Starts after the first", labels=["worker"]
            )
            for worker, count in read().items():
                family.add_metric([worker], count)
            yield family

    registry = CollectorRegistry()
    registry.register(Restarts())
    return registry


def scrape(port: int) -> Samples:
    """The samples of the metrics served on loopback `port`: (name, labels) → value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2.0) as answer:
        text = answer.read().decode()
    return dict(flat(text_string_to_metric_families(text)))


def flat(families: Iterable[Any]) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    """The samples of Prometheus metric families."""
    for family in families:
        for sample in family.samples:
            yield (sample.name, frozenset(sample.labels.items())), sample.value


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of metric `name` over every sample that has `labels`."""
    wanted = set(labels.items())
    return sum(value for (found, given), value in samples.items() if found == name and wanted <= given)


def by_label(samples: Samples, name: str, label: str) -> dict[str, float]:
    """Metric `name` summed per value of `label`."""
    sums: dict[str, float] = {}
    for (found, given), value in samples.items():
        if found == name:
            key = dict(given).get(label, "")
            sums[key] = sums.get(key, 0.0) + value
    return sums
