"""Stock Faust recovers a RocksDB table: a changelog comes in, how long it took goes to a file.

Back of the envelope: 140 µs a record (a Python object, an event, a put of its own each), 7,000/s; and up to 20 s before
the first one, in which it waits for the group.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import faust
import mode.loop
from faust.types import EventT


class Row(faust.Record, serializer="json"):
    """What the rows hold."""

    body: str = ""


def changelog(name: str) -> str:
    """What Faust calls the changelog of the table `rows` of the app `name`."""
    return f"{name}-rows-changelog"


class Watch:
    """When Faust applied the first and the last record, seen from inside its own loop."""

    def __init__(self, rows: int, figures: Path) -> None:
        """Wait for `rows` records; write `figures` then."""
        self.left, self.figures, self.born_s = rows, figures, time.monotonic()
        # What is measured: everything after the first batch, and from when.
        self.records = 0
        self.first_s: float | None = None

    def applied(self, batch: list[EventT[Any]]) -> None:
        """Note a batch that is in the table; end the process with the last one."""
        now_s = time.monotonic()
        self.left -= len(batch)
        if self.first_s is None:
            self.first_s, self.records = now_s, self.left
        if self.left <= 0:
            taken = {"records": self.records, "seconds": now_s - self.first_s, "whole_s": now_s - self.born_s}
            self.figures.write_text(json.dumps(taken))
            os._exit(0)


def build(name: str, bootstrap: str, folder: str, watch: Watch) -> faust.App:
    """The app, as a user writes it."""
    app = faust.App(
        name,
        broker=f"kafka://{bootstrap}",
        store="rocksdb://",
        processing_guarantee="exactly_once",
        topic_partitions=1,
        datadir=f"{folder}/faust",
        web_enabled=False,
        topic_disable_leader=True,
    )
    rows = app.Table("rows", default=Row, key_type=str, value_type=Row, partitions=1)
    source = app.topic(f"{name}.events", key_type=str, value_type=Row, partitions=1)

    @app.agent(source)
    async def reading(stream: faust.StreamT[Row]) -> None:
        async for key, row in stream.items():
            rows[key] = row

    apply = rows.apply_changelog_batch

    def applying(batch: list[EventT[Any]]) -> None:
        apply(batch)
        watch.applied(batch)

    rows.apply_changelog_batch = applying  # type: ignore[method-assign,assignment] # a stopwatch
    return app


def main() -> None:
    """Recover the table of the app NAME at BOOTSTRAP with so many ROWS into FOLDER; the figures go to FIGURES."""
    name, bootstrap, rows, folder, figures = sys.argv[1:]
    sys.argv = sys.argv[:1]
    mode.loop.use("uvloop")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build(name, bootstrap, folder, Watch(int(rows), Path(figures)))
    faust.Worker(
        app, loop=loop, loglevel=logging.WARNING, quiet=True, redirect_stdouts=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main()
