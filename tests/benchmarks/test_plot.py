"""benchmarks/plot.py: a chart is well-formed SVG in which every value stands at its height."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plot import BOTTOM, HEIGHT, TOP, bar_chart, line_chart, scale, short

SVG = "{http://www.w3.org/2000/svg}"


def words(path: Path) -> list[str]:
    return [found.text or "" for found in ET.parse(path).iter(f"{SVG}text")]


def test_a_line_goes_through_its_points(tmp_path: Path) -> None:
    path = tmp_path / "images" / "memory.svg"
    line_chart(path, "Memory & rows", "rows", "MB", {"ours": [(1, 50), (3, 100), (2, 0)]})
    (line,) = ET.parse(path).iter(f"{SVG}polyline")
    heights = [float(pair.split(",")[1]) for pair in line.attrib["points"].split()]
    # In the order of x; the axis goes from 0 to 100.
    assert heights == [(TOP + HEIGHT - BOTTOM) / 2, HEIGHT - BOTTOM, TOP]
    assert {"Memory & rows", "rows", "MB", "ours", "100"} <= set(words(path))


def test_powers_of_ten_stand_at_equal_distances_on_a_logarithmic_axis(tmp_path: Path) -> None:
    line_chart(tmp_path / "a.svg", "t", "x", "y", {"a": [(10, 1), (100, 1), (1000, 1)]}, log_x=True)
    (line,) = ET.parse(tmp_path / "a.svg").iter(f"{SVG}polyline")
    first, second, third = (float(pair.split(",")[0]) for pair in line.attrib["points"].split())
    assert second - first == pytest.approx(third - second)


def test_bars_are_as_high_as_their_values(tmp_path: Path) -> None:
    bar_chart(tmp_path / "b.svg", "t", "x", "y", {"a": [("one", 10), ("two", 5)], "b": [("one", 0)]})
    bars = [
        float(found.attrib["height"])
        for found in ET.parse(tmp_path / "b.svg").iter(f"{SVG}rect")
        if found.find(f"{SVG}title") is not None
    ]
    assert bars == [HEIGHT - TOP - BOTTOM, (HEIGHT - TOP - BOTTOM) / 2, 0]


def test_a_label_may_have_two_lines(tmp_path: Path) -> None:
    bar_chart(tmp_path / "d.svg", "t", "x", "y", {"a": [("one\nhalf", 10)]})
    assert {"one", "half"} <= set(words(tmp_path / "d.svg"))


def test_nothing_to_draw_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected bars, got none"):
        bar_chart(tmp_path / "c.svg", "t", "x", "y", {"a": []})
    with pytest.raises(ValueError, match="with x above 0"):
        line_chart(tmp_path / "c.svg", "t", "x", "y", {"a": [(0, 1)]}, log_x=True)


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_an_axis_has_room_for_its_highest_value_and_few_ticks(highest: float) -> None:
    top, ticks = scale(highest)
    assert highest <= top * 1.000001
    assert top <= 2 * highest
    assert ticks[0] == 0
    assert ticks[-1] == pytest.approx(top)
    assert 2 <= len(ticks) <= 7


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0, 0.25, 99.5, 2500, 50_000, 1_000_000)] == [
        "0", "0.25", "99.5", "2,500", "50k", "1M",
    ]  # fmt: skip
