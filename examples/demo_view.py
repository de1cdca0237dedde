"""What the demo shows: the worker's metrics and the snapshot come in, tables and sentences go out."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from schemas.times import rfc3339
from streams.metrics import Samples, by_label, total
from streams.playback import Progress

# Rates are taken over at least this long.
RATE_S = 0.1

QUERIES = {
    "How did the flights of each airport end?": """
SELECT origin, count(*) AS flights, count(*) FILTER (status = 'cancelled') AS cancelled,
       round(avg(departure_delay_min), 1) AS mean_delay_min
FROM flight GROUP BY origin ORDER BY origin""",
    "Who decided what, and how sure was it?": """
SELECT decision, route, gate, action, count(*) AS decisions, min(confidence) AS least_confidence
FROM decisions GROUP BY ALL ORDER BY decisions DESC""",
    "Which hours asked for fewer arrivals?": """
SELECT key AS airport, count(*) AS hours, min(as_of) AS first, max(as_of) AS last, any_value(reason) AS for_example
FROM decisions WHERE decision = 'ground_delay' GROUP BY key ORDER BY airport""",
}


@dataclass(frozen=True)
class Summary:
    """What the play came to; `demo-summary.json` holds it."""

    events_published: int
    events_processed: int
    duplicates: int
    quarantined: int
    flights_by_status: dict[str, int]
    decisions_by_name: dict[str, int]
    actions_by_name: dict[str, int]
    reviews_open: int
    snapshot: str
    seconds_processing: float
    latency_ms: dict[str, float]
    worker_restarts: int


class Meter:
    """Rates from successive samples."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._then, self._before = time.monotonic(), 0.0
        self._rate = 0.0

    def rate(self, records: float) -> float:
        """Records per second since the last call, smoothed."""
        now = time.monotonic()
        if now - self._then > RATE_S:
            new = max(0.0, records - self._before) / (now - self._then)
            self._rate = 0.7 * self._rate + 0.3 * new
            self._then, self._before = now, records
        return self._rate

    def line(self, progress: Progress, samples: Samples) -> str:
        """One line for where there is no terminal."""
        decisions = sum(by_label(samples, "midstream_decisions_total", "decision").values())
        return (
            f"{rfc3339(progress.at_ms)}  published {progress.published}, lag "
            f"{total(samples, 'midstream_lag_records'):.0f}, decisions {decisions:.0f}"
        )

    def table(self, days: tuple[date, date], progress: Progress, samples: Samples) -> Table:
        """What a person wants to see while it plays."""
        records = total(samples, "midstream_records_total")
        held = total(samples, "midstream_decisions_total", gate="review")
        closed = sum(
            total(samples, "midstream_decisions_total", route=route) for route in ("person", "timeout")
        )
        table = Table(title=f"Flights from New York, {days[0]} to {days[1]}", box=None, min_width=72)
        table.add_column("", style="bold")
        table.add_column("", justify="right")
        table.add_column("")
        table.add_row("event time", rfc3339(progress.at_ms)[:16].replace("T", " "), "UTC")
        table.add_row("published", f"{progress.published:,}", "events on flights.raw")
        table.add_row("read", f"{records:,.0f}", f"records, {self.rate(records):,.0f}/s")
        table.add_row("lag", f"{total(samples, 'midstream_lag_records'):,.0f}", "records not yet read")
        for name, count in sorted(by_label(samples, "midstream_decisions_total", "decision").items()):
            routes = ", ".join(
                f"{route} {total(samples, 'midstream_decisions_total', decision=name, route=route):,.0f}"
                for route in sorted(by_label(samples, "midstream_decisions_total", "route"))
                if total(samples, "midstream_decisions_total", decision=name, route=route)
            )
            table.add_row(name, f"{count:,.0f}", f"decisions ({routes})")
        table.add_row("reviews", f"{held - closed:,.0f}", "open")
        table.add_row(
            "quarantine", f"{total(samples, 'midstream_quarantined_total'):,.0f}", "records refused"
        )
        return table


def show(summary: Summary, console: Console) -> None:
    """The end: figures, the file, three queries with their results, and how to read the actions."""
    console.rule("What happened")
    for name, value in asdict(summary).items():
        console.print(
            f"{name:>20}  {json.dumps(value) if isinstance(value, dict) else value}", highlight=False
        )
    console.rule("What you can ask")
    with duckdb.connect(summary.snapshot, read_only=True) as db:
        for question, query in QUERIES.items():
            console.print(f"\n{question}", style="bold")
            console.print(query.strip(), style="dim", highlight=False)
            console.print(result(db, query))
    console.print(f"\nThe file: {summary.snapshot} (any DuckDB from 1.0 on opens it)", soft_wrap=True)


def result(db: duckdb.DuckDBPyConnection, query: str) -> Table:
    """A query's result as a table."""
    cursor = db.execute(query)
    table = Table(box=None)
    for name, *_ in cursor.description or ():
        table.add_column(name)
    for row in cursor.fetchall():
        table.add_row(*(str(value) for value in row))
    return table


def how_to_read(folder: Path) -> str:
    """How to read the actions with two other clients, once the demo is over."""
    return f"""
Read the actions with another client. The demo's broker has stopped; its data is kept until the next demo:
  BOOTSTRAP=$(.venv/bin/midstream broker start --data {folder / "broker"})
  kcat -b $BOOTSTRAP -t flights.actions -C -e -f '%k %s\\n'
  .venv/bin/midstream broker console-consumer --data {folder / "broker"} -- \\
      --topic flights.actions --from-beginning --isolation-level read_committed --timeout-ms 5000
  .venv/bin/midstream broker stop --data {folder / "broker"}
"""
