"""benchmarks/memory.py: a small shape is really held, and drawn."""

from __future__ import annotations

from pathlib import Path

from benchmarks.memory import draw, run
from benchmarks.memory_lane import Shape


def test_rows_are_on_disk_and_larger_ones_take_more(tmp_path: Path) -> None:
    small, large = (run(Shape(2000, size, 2, "")) for size in (300, 4000))
    assert (small["rows"], small["live_rows"]) == (2000, 2000)
    assert 0 < small["rows_mb"] < small["memory_mb"]
    assert large["memory_mb"] > small["memory_mb"]
    assert small["update_us"] > 0
    draw({"by_keys": [small], "by_row_bytes": [large], "by_lanes": [small]}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory-by-keys.svg", "update-cost.svg"]
