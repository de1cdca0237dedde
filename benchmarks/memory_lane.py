"""Lanes' rows in a process of their own: so many rows of such a size in so many lanes; memory, disk and speed as JSON.

No broker: it is `tables` alone that grows with the rows. Each row is made once, then updates follow in no order.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from schemas.keys import entity_key
from schemas.row import State
from tables.entity import Rows
from tables.store import Store

BATCH = 4000
UPDATES = 200_000


@dataclass(frozen=True)
class Shape:
    """What is held."""

    rows: int
    row_bytes: int
    lanes: int
    # Where the databases lie.
    folder: str


class Held(State):
    """A state of about `row_bytes`."""

    number: int = 0
    text: str = ""


class Lane:
    """Rows and database of one lane, as `streams.lane` uses them."""

    def __init__(self, folder: Path, text: str) -> None:
        """Empty."""
        self.store, self.text = Store(folder), text
        self.rows = Rows({"held": Held}, self.store.get)
        self.offset = 0

    def batch(self, numbers: list[int]) -> None:
        """One update of each row."""
        for number in numbers:
            key = entity_key("held", f"h{number}").encode()
            row = self.rows.at("held", key)
            state = row.state.evolve(number=row.state.number + 1, text=self.text)  # type: ignore[attr-defined]
            self.rows.put_at("held", key, row.model_copy(update={"state": state, "version": row.version + 1}))
        changed = self.rows.changed()
        self.rows.settle()
        self.offset += len(changed)
        self.store.write(changed, {"held.changelog": self.offset})


def resident_bytes() -> int:
    """How much memory this process has, from /proc (proc(5): pages)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measured(shape: Shape) -> dict[str, Any]:
    """Fill, update, look."""
    gc.disable()
    folder = Path(shape.folder)
    lanes = [
        Lane(folder / f"events-{number}", "x" * max(0, shape.row_bytes - 200))
        for number in range(shape.lanes)
    ]
    empty_bytes = resident_bytes()
    for start in range(0, shape.rows, BATCH):
        for at, lane in enumerate(lanes):
            whole = range(start, min(start + BATCH, shape.rows))
            lane.batch([number for number in whole if number % shape.lanes == at])
    random, updates_s = Random(1), 0.0
    for turn in range(UPDATES // BATCH):
        lane = lanes[turn % shape.lanes]
        numbers = [random.randrange(shape.rows) for _ in range(BATCH)]
        started_s = time.process_time()
        lane.batch([number - number % shape.lanes + turn % shape.lanes for number in numbers])
        updates_s += time.process_time() - started_s
    gc.collect()
    held = resident_bytes()
    for lane in lanes:
        lane.store.close()
    return {
        "empty_bytes": empty_bytes,
        "held_bytes": held,
        "update_us": updates_s / (UPDATES // BATCH * BATCH) * 1e6,
        "disk_bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "live_rows": sum(len(lane.rows._live) for lane in lanes),
    }


def main() -> None:
    """Hold what the command line says."""
    shape = Shape(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(shape) | measured(shape)))


if __name__ == "__main__":
    main()
