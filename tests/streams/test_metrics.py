"""streams/metrics.py: what is counted, when, and how it reads on the wire. A running worker's is in test_worker.py."""

from __future__ import annotations

import socket
import time
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.record import Out
from streams import topics
from streams.metrics import Metrics, by_label, flat, scrape, serve, total
from tests.support.workers import free_port


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"midstream_{name}", labels)


def action(ago_s: float) -> Out:
    return Out(topics.ACTIONS, b"k", b"{}", [("ms_ingested", b"%d" % ((time.time() - ago_s) * 1000))])


def test_a_batch_is_counted_with_what_its_stage_tallied() -> None:
    metrics = Metrics()
    tally = Counter(
        {
            ("event", "order.paid"): 3,
            ("duplicate", "order.paid"): 1,
            ("quarantined", "not_json"): 2,
            ("decision", "refund", "rule", "proceed"): 4,
            ("timer", "settle"): 5,
            ("accepted", "order.paid"): 9,
        }
    )
    metrics.batch("events", 6, [], tally)
    assert value(metrics, "records_total", topic="events") == 6
    assert value(metrics, "events_total", type="order.paid") == 3
    assert value(metrics, "duplicates_total", type="order.paid") == 1
    assert value(metrics, "quarantined_total", reason="not_json") == 2
    assert value(metrics, "decisions_total", decision="refund", route="rule", gate="proceed") == 4
    assert value(metrics, "timers_total", kind="settle") == 5
    assert value(metrics, "batch_records_bucket", topic="events", le="5.0") == 0
    assert value(metrics, "batch_records_bucket", topic="events", le="10.0") == 1
    assert tally == Counter()


def test_a_tally_counts_once() -> None:
    metrics = Metrics()
    tally: Counter[tuple[str, ...]] = Counter({("event", "a"): 1})
    metrics.batch("events", 1, [], tally)
    metrics.batch("events", 1, [], tally)
    assert value(metrics, "events_total", type="a") == 1


def test_latency_is_from_the_raw_record_to_now() -> None:
    metrics = Metrics()
    metrics.batch("events", 1, [action(3)], Counter())
    assert value(metrics, "latency_seconds_count", topic="actions") == 1
    assert value(metrics, "latency_seconds_sum", topic="actions") == pytest.approx(3, abs=0.5)
    assert value(metrics, "latency_seconds_bucket", topic="actions", le="2.0") == 0


def test_a_lane_is_in_one_state() -> None:
    metrics = Metrics()
    for state in ("restoring", "running"):
        metrics.lane_state("x.events.0", state)
    states = {
        s: value(metrics, "lane_state", lane="x.events.0", state=s)
        for s in ("restoring", "running", "closed")
    }
    assert states == {"restoring": 0, "running": 1, "closed": 0}


def test_a_closed_lane_has_no_lag_no_clock_and_no_progress_any_more() -> None:
    metrics = Metrics()
    for lane in ("x.events.0", "x.events.1"):
        metrics.lag.labels(lane).set(7)
        metrics.time_passed(lane, {0: 1000, 1: 2000})
        metrics.committed(lane, 0.01)
    metrics.lane_state("x.events.0", "closed")
    for name in ("lag_records", "lane_progress_timestamp_seconds"):
        assert value(metrics, name, lane="x.events.0") is None
        assert value(metrics, name, lane="x.events.1") is not None
    assert value(metrics, "clock_timestamp_seconds", lane="x.events.0", rank="1") is None
    assert value(metrics, "clock_timestamp_seconds", lane="x.events.1", rank="1") == 2


def test_two_workers_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.batch("raw", 3, [], Counter())
    assert value(two, "records_total", topic="raw") is None


def test_what_is_scraped_is_what_was_counted() -> None:
    metrics, port = Metrics(), free_port()
    serve(port, metrics.registry, {})
    metrics.batch("raw", 3, [], Counter({("quarantined", "not_json"): 1, ("quarantined", "null_key"): 2}))
    metrics.batch("events", 4, [], Counter())
    samples = scrape(port)
    assert total(samples, "midstream_records_total") == 7
    assert total(samples, "midstream_records_total", topic="raw") == 3
    assert by_label(samples, "midstream_quarantined_total", "reason") == {"not_json": 1, "null_key": 2}
    assert total(samples, "midstream_nothing") == 0


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(taken.getsockname()[1], Metrics().registry, {})


def test_a_prometheus_text_is_read_with_its_labels() -> None:
    text = '# TYPE a counter\na_total{x="1",y="2"} 5\n# TYPE b gauge\nb 1.5\n'
    assert dict(flat(text_string_to_metric_families(text))) == {
        ("a_total", frozenset({("x", "1"), ("y", "2")})): 5.0,
        ("b", frozenset()): 1.5,
    }
