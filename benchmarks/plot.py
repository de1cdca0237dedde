"""Charts of what was measured: numbers come in, one SVG file goes out. Lines or bars, axes, a legend; no library.

Back of the envelope: a chart is a few kB of text and takes less than a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 88, 24, 48, 64
# Told apart by the colour-blind, too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STEPS = (1, 2, 2.5, 5, 10)

Point = tuple[float, float]


def line_chart(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[Point]],
    *,
    log_x: bool = False,
) -> None:
    """Draw each of `series` (name → points) as a line; the y axis begins at 0.

    Raises:
        ValueError: there is no point, or one at or below 0 on a logarithmic axis.
    """
    points = [point for line in series.values() for point in line]
    if not points or (log_x and min(x for x, _ in points) <= 0):
        raise ValueError(
            f"line_chart {title!r}: expected points{', with x above 0' if log_x else ''}, got {points}"
        )
    xs = sorted({x for x, _ in points})
    span = (place(xs[0], log_x), place(xs[-1], log_x))
    top, ticks = scale(max(y for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        share = (place(x, log_x) - span[0]) / ((span[1] - span[0]) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT), height_of(y, top)

    # Where points stand is what is to be read, as long as there is room to write it.
    marks = xs if log_x or len(xs) <= 8 else [x for x in scale(xs[-1])[1] if x >= xs[0]]
    parts = [*frame(title, x_label, y_label, top, ticks), *(label_x(at(x, 0)[0], short(x)) for x in marks)]
    for (name, line), colour in zip(series.items(), coloured(len(series)), strict=True):
        places = [at(x, y) for x, y in sorted(line)]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{escape(name)}</title></circle>'
            for x, y in places
        ]
    write(path, [*parts, *legend(list(series))])


def bar_chart(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[tuple[str, float]]],
) -> None:
    """Draw each of `series` (name → (label, value) pairs) as bars, those with the same label side by side.

    A label may have two lines.

    Raises:
        ValueError: there is no bar.
    """
    labels = list(dict.fromkeys(label for bars in series.values() for label, _ in bars))
    if not labels:
        raise ValueError(f"bar_chart {title!r}: expected bars, got none")
    top, ticks = scale(max(value for bars in series.values() for _, value in bars))
    room = (WIDTH - LEFT - RIGHT) / len(labels)
    width = room * 0.8 / len(series)
    parts = frame(title, x_label, y_label, top, ticks)
    for number, ((name, bars), colour) in enumerate(zip(series.items(), coloured(len(series)), strict=True)):
        for label, value in bars:
            x = LEFT + room * (labels.index(label) + 0.1) + number * width
            y = height_of(value, top)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.94:.1f}" height="{HEIGHT - BOTTOM - y:.1f}" '
                f'fill="{colour}"><title>{escape(name)} {escape(label)}: {value:g}</title></rect>'
            )
            parts.append(text(x + width * 0.47, y - 5, short(value), size=11))
    parts += [label_x(LEFT + room * (number + 0.5), label) for number, label in enumerate(labels)]
    write(path, [*parts, *(legend(list(series)) if len(series) > 1 else [])])


def scale(highest: float) -> tuple[float, list[float]]:
    """The top of an axis that begins at 0, and its ticks, all round numbers."""
    if highest <= 0:
        return 1.0, [0.0, 1.0]
    rough = highest / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in STEPS if factor * size >= rough * 0.999)
    count = math.ceil(highest / step - 1e-9)
    return step * count, [step * number for number in range(count + 1)]


def place(x: float, log: bool) -> float:
    """Where `x` stands on its axis."""
    return math.log10(x) if log else x


def height_of(y: float, top: float) -> float:
    """The y coordinate of a value."""
    return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)


def coloured(count: int) -> list[str]:
    """So many colours."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def short(value: float) -> str:
    """A number as a person writes it on an axis: 2,500, 50k, 1M, 0.25."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "middle", turned: bool = False
) -> str:
    """Some words."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{turn}>{escape(words)}</text>'


def label_x(x: float, words: str) -> str:
    """What stands under the x axis, each line of it."""
    return "".join(
        text(x, HEIGHT - BOTTOM + 17 + 14 * number, line) for number, line in enumerate(words.split("\n"))
    )


def frame(title: str, x_label: str, y_label: str, top: float, ticks: Sequence[float]) -> list[str]:
    """Title, axes, lines across."""
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts = [text(middle, 22, title, size=15), text(middle, HEIGHT - 14, x_label)]
    parts.append(text(20, TOP + (HEIGHT - TOP - BOTTOM) / 2, y_label, turned=True))
    for tick in ticks:
        y = height_of(tick, top)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y + 4, short(tick), anchor="end"))
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#444"/>')
    return parts


def legend(names: Sequence[str]) -> list[str]:
    """Which colour is whose."""
    parts, x = [], float(LEFT)
    for name, colour in zip(names, coloured(len(names)), strict=True):
        parts.append(f'<rect x="{x:.1f}" y="31" width="10" height="10" fill="{colour}"/>')
        parts.append(text(x + 15, 40, name, anchor="start"))
        x += 34 + 7 * len(name)
    return parts


def write(path: Path, parts: Sequence[str]) -> None:
    """The file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" fill="#222">'
    )
    path.write_text(
        "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>\n"])
    )
