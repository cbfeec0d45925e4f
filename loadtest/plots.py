"""Charts as SVG text, drawn here so that the report is one file without any address in it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from loadtest.result import Chart

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 34, 40
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5")
LABELS_AT_MOST = 12


def svg(chart: Chart) -> str:
    """The chart; values that are no numbers are left out."""
    top = _ceiling([value for values in chart.series.values() for value in values if math.isfinite(value)])
    body = _bars(chart, top) if chart.kind == "bars" else _lines(chart, top)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f'<text x="0" y="14" class="title">{escape(chart.title)} ({escape(chart.unit or "share")})</text>'
        f"{_legend(chart)}{_axis(top)}{_labels(chart)}{body}</svg>"
    )


def _bars(chart: Chart, top: float) -> str:
    group = (WIDTH - LEFT - RIGHT) / max(len(chart.labels), 1)
    width = min(group * 0.8 / max(len(chart.series), 1), 60)
    found = []
    for number, (name, values) in enumerate(chart.series.items()):
        for place, value in enumerate(values):
            if not math.isfinite(value):
                continue
            x = LEFT + group * (place + 0.5) + width * (number - len(chart.series) / 2)
            y = _y(value, top)
            hover = f"<title>{escape(name)}, {escape(chart.labels[place])}: {short(value)}</title>"
            shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_y(0, top) - y:.1f}"'
            found.append(f'<rect {shape} fill="{_colour(number)}">{hover}</rect>')
            if width >= 26:
                found.append(f'<text x="{x + width / 2:.1f}" y="{y - 3:.1f}" class="value">{short(value)}</text>')
    return "".join(found)


def _lines(chart: Chart, top: float) -> str:
    found = []
    for number, (name, values) in enumerate(chart.series.items()):
        points = [(_x(place, len(chart.labels)), _y(v, top)) for place, v in enumerate(values) if math.isfinite(v)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        found.append(f'<polyline points="{path}" fill="none" stroke="{_colour(number)}" stroke-width="2"/>')
        for (x, y), value in zip(points, values, strict=False):
            hover = f"<title>{escape(name)}: {short(value)}</title>"
            found.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(number)}">{hover}</circle>')
    return "".join(found)


def _axis(top: float) -> str:
    lines = []
    for quarter in range(5):
        value = top * quarter / 4
        y = _y(value, top)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="tick">{short(value)}</text>')
    return "".join(lines)


def _labels(chart: Chart) -> str:
    count = len(chart.labels)
    every = max(1, math.ceil(count / LABELS_AT_MOST))
    group = (WIDTH - LEFT - RIGHT) / max(count, 1)
    found = []
    for place in range(0, count, every):
        x = LEFT + group * (place + 0.5) if chart.kind == "bars" else _x(place, count)
        found.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" class="label">{escape(chart.labels[place])}</text>')
    return "".join(found)


def _legend(chart: Chart) -> str:
    found, x = [], LEFT
    for number, name in enumerate(chart.series):
        found.append(f'<rect x="{x}" y="{HEIGHT - 14}" width="10" height="10" fill="{_colour(number)}"/>')
        found.append(f'<text x="{x + 14}" y="{HEIGHT - 5}">{escape(name)}</text>')
        x += 30 + 7 * len(name)
    return "".join(found)


def _ceiling(values: Sequence[float]) -> float:
    highest = max(values, default=1.0)
    if highest <= 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(highest))
    return next(step * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * factor >= highest)


def _x(place: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (place / (count - 1) if count > 1 else 0.5)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * max(value, 0.0) / top


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def short(value: float) -> str:
    """A number for people: three digits that matter, thousands grouped."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
