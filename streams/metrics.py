"""The door to Prometheus: what lanes committed comes in; counters, gauges and histograms go out."""

from __future__ import annotations

import time
import urllib.request
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from schemas.record import Out, Record
from streams import topics

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


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
        self.lag = Gauge("midstream_lag_records", "Records not yet read", ["lane"], registry=self.registry)
        self.state = Gauge(
            "midstream_lane_state", "1 for the state a lane is in", ["lane", "state"], registry=self.registry
        )
        self.clock = Gauge(
            "midstream_clock_timestamp_seconds",
            "Event time that a lane has reached (rank 0: the wall clock's ticks)",
            ["lane", "rank"],
            registry=self.registry,
        )
        self.progress = Gauge(
            "midstream_lane_progress_timestamp_seconds",
            "When a lane last committed",
            ["lane"],
            registry=self.registry,
        )

    def serve(self, port: int) -> None:
        """Answer scrapes on loopback port `port`, in a thread of its own.

        Raises:
            OSError: the port is taken.
        """
        start_http_server(port, addr="127.0.0.1", registry=self.registry)

    def time_passed(self, lane: str, now_ms: Mapping[int, int]) -> None:
        """Note how far a lane's event time has come, per rank."""
        for rank, at_ms in now_ms.items():
            self.clock.labels(lane, str(rank)).set(at_ms / 1e3)

    def batch(
        self, role: str, batch: Sequence[Record], outs: Sequence[Out], tally: Tally[tuple[str, ...]]
    ) -> None:
        """Count one committed batch and empty the stage's `tally`."""
        self.records.labels(role).inc(len(batch))
        self.batch_records.labels(role).observe(len(batch))
        by_kind = {
            "event": self.events,
            "duplicate": self.duplicates,
            "quarantined": self.quarantined,
            "decision": self.decisions,
            "timer": self.timers,
        }
        for (kind, *labels), count in tally.items():
            if kind in by_kind:
                by_kind[kind].labels(*labels).inc(count)
        tally.clear()
        now_ms = time.time_ns() / 1e6
        for out in outs:
            if out.topic in (topics.ACTIONS, topics.DECISIONS):
                ingested_ms = int(dict(out.headers)["ms_ingested"])
                self.latency_seconds.labels(out.topic).observe((now_ms - ingested_ms) / 1e3)

    def committed(self, lane: str, seconds: float) -> None:
        """Note how long a batch took and that the lane moves."""
        self.commit_seconds.labels(lane).observe(seconds)
        self.progress.labels(lane).set_to_current_time()

    def restored(self, count: int, seconds: float) -> None:
        """Note a finished restore."""
        self.restored_rows.inc(count)

    def lane_state(self, lane: str, state: str) -> None:
        """Note that `lane` is now in `state`."""
        for name in ("restoring", "running", "closed"):
            self.state.labels(lane, name).set(1 if name == state else 0)
        if state == "closed":
            # What it said last is no longer so; another worker tells from now on.
            for gauge in (self.lag, self.clock, self.progress):
                gauge.remove_by_labels({"lane": lane})


Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Samples:
    """The samples of the metrics served on loopback `port`: (name, labels) → value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2.0) as answer:
        text = answer.read().decode()
    return dict(flat(text))


def flat(text: str) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    """The samples of a Prometheus text."""
    for family in text_string_to_metric_families(text):
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
