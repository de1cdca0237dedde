"""How much memory and disk do rows take, and what does an update cost, as keys, row size and partitions grow?

    python -m benchmarks.memory [--json] [--rows N] [--plot FOLDER]

Back of the envelope: a lane keeps 100,000 rows decoded, some 2 kB each: 200 MB; RocksDB has a cache of 256 MB for all
lanes and 16 MB to write into for each; the rest is on disk. So a million rows of 300 B are 300 MB of memory and 100 MB
of disk, and ten million are hardly more memory. A minute or two for all shapes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.memory_lane import Shape
from benchmarks.plot import bar_chart, line_chart
from benchmarks.program import command_line, positive, say
from benchmarks.program import run as run_program

ROOT = Path(__file__).parents[1]
KEYS = (10_000, 100_000, 1_000_000)
ROW_BYTES = (300, 1000, 4000)
LANES = (1, 4, 12)
TIMEOUT_S = 600.0


def run(shape: Shape) -> dict[str, Any]:
    """One shape in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="midstream-bench-") as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.memory_lane",
                json.dumps(asdict(replace(shape, folder=folder))),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
            timeout=TIMEOUT_S,
        )
    found = json.loads(done.stdout)
    figures = {
        "rows": shape.rows,
        "row_bytes": shape.row_bytes,
        "lanes": shape.lanes,
        "memory_mb": round(found["held_bytes"] / 1e6, 1),
        "rows_mb": round((found["held_bytes"] - found["empty_bytes"]) / 1e6, 1),
        "disk_mb": round(found["disk_bytes"] / 1e6, 1),
        "update_us": round(found["update_us"], 1),
        "live_rows": found["live_rows"],
    }
    say(line(figures))
    return figures


def measure(rows: int) -> dict[str, list[dict[str, Any]]]:
    """Every shape: by keys up to `rows`, by row size, by lanes."""
    plain = Shape(rows, ROW_BYTES[0], 1, "")
    small = replace(plain, rows=min(rows, 100_000))
    by_keys = [
        run(replace(plain, rows=keys)) for keys in sorted({*(key for key in KEYS if key < rows), rows})
    ]
    return {
        "by_keys": by_keys,
        "by_row_bytes": [run(replace(small, row_bytes=size)) for size in ROW_BYTES],
        "by_lanes": [run(replace(small, lanes=lanes)) for lanes in LANES],
    }


def draw(found: dict[str, list[dict[str, Any]]], images: Path) -> None:
    """The curves, as pictures for the documentation."""
    line_chart(
        images / "memory-by-keys.svg",
        "Memory and disk of one lane",
        f"rows of {ROW_BYTES[0]} B",
        "MB",
        {
            "memory of the process": [(run["rows"], run["memory_mb"]) for run in found["by_keys"]],
            "disk": [(run["rows"], run["disk_mb"]) for run in found["by_keys"]],
        },
        log_x=True,
    )
    bars = {
        name: [(f"{run[key]:,} {unit}", run["update_us"]) for run in found[by]]
        for name, by, key, unit in (
            ("rows", "by_keys", "rows", "rows"),
            ("row size", "by_row_bytes", "row_bytes", "B"),
            ("lanes", "by_lanes", "lanes", "lanes"),
        )
    }
    bar_chart(images / "update-cost.svg", "Processor time of one update of a row", "", "µs", bars)


def line(run: dict[str, Any]) -> str:
    """One shape for a person."""
    return (
        f"{run['rows']:>9,} rows of {run['row_bytes']:>5,} B in {run['lanes']:>2} lanes: "
        f"{run['memory_mb']:>6.0f} MB of memory ({run['rows_mb']:.0f} for the rows), "
        f"{run['disk_mb']:>6.0f} MB of disk, {run['update_us']:.1f} µs an update"
    )


def main() -> int:
    """Measure, print, draw; returns the exit code."""
    parser = command_line("memory", __doc__)
    parser.add_argument("--rows", type=positive, default=KEYS[-1], help="rows in the largest shape (1000000)")
    asked = parser.parse_args()
    found = measure(asked.rows)
    if asked.plot is not None:
        draw(found, asked.plot)
    largest = found["by_keys"][-1]
    report = {
        "mb_per_million_rows": round(largest["rows_mb"] / largest["rows"] * 1e6, 1),
        "disk_mb_per_million_rows": round(largest["disk_mb"] / largest["rows"] * 1e6, 1),
        **found,
        "load_1m": round(os.getloadavg()[0], 2),
    }
    if asked.json:
        print(json.dumps(report))
    else:
        print(
            f"a million rows of {largest['row_bytes']} B: {report['mb_per_million_rows']:.0f} MB of memory, "
            f"{report['disk_mb_per_million_rows']:.0f} MB of disk"
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_program("memory", main))
