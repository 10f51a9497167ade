"""SVG plots as text: lines with bands and reference lines, histograms. Colours follow the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

NUM_COLORS = 8
"""The page defines --c0 to --c7, in a light and a dark version."""
MAX_POINTS = 1200
"""More points than pixels only make the file large."""
WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 40
LEGEND_ROW = 18


@dataclass(frozen=True)
class Series:
    """One line: `x`, `y` (N,); NaN breaks it. `color` is an index of the palette or CSS; None: next.
    Without a label it is left out of the legend."""

    label: str
    x: ArrayLike
    y: ArrayLike
    color: int | str | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """A shaded span of x with a label at its top."""

    start: float
    end: float
    label: str = ""
    color: int | str | None = None


@dataclass(frozen=True)
class Line:
    """A horizontal reference line."""

    y: float
    label: str = ""


def line_plot(
    series: Sequence[Series],
    *,
    x_label: str = "",
    y_label: str = "",
    bands: Sequence[Band] = (),
    lines: Sequence[Line] = (),
    y_range: tuple[float, float] | None = None,
    height: int = 240,
    width: int = WIDTH,
) -> str:
    """Return an SVG of several lines over one x axis, with a legend when there is more than one.

    Args:
        series: The lines.
        x_label: Below the axis, with its unit.
        y_label: Beside the axis, with its unit.
        bands: Shaded spans behind the lines (steps of a task).
        lines: Horizontal references (limits, chance level).
        y_range: Fixed range; that of the data and lines when None.
        height: Height of the plot area with axes [px].
        width: Width of the whole plot [px]; the page scales it down.
    """
    frame = _Frame(width, height, _range(_finite([s.x for s in series])), y_range or _y_range(series, lines))
    parts = [_band(frame, band, i) for i, band in enumerate(bands)]
    parts += [_grid(frame, x_label, y_label)]
    parts += [_reference(frame, line) for line in lines]
    parts += [_polyline(frame, item, _color(item.color, i)) for i, item in enumerate(series)]
    legend = _legend(series, width, height) if sum(bool(s.label) for s in series) > 1 else ("", 0)
    return _svg(width, height + legend[1], "".join(parts) + legend[0])


def histogram(
    values: ArrayLike,
    *,
    bins: int = 40,
    x_label: str = "",
    y_label: str = "count",
    lines: Sequence[float] = (),
    height: int = 200,
    width: int = WIDTH,
) -> str:
    """Return an SVG histogram; `lines` are vertical references on x."""
    data = _finite([values])
    data = data if len(data) else np.zeros(1)
    low, high = _range(np.append(data, np.asarray(lines, dtype=np.float64)))
    counts, edges = np.histogram(data, bins=bins, range=(low, high))
    frame = _Frame(width, height, (low, high), (0.0, max(1.0, float(counts.max()) * 1.05)))
    parts = [_grid(frame, x_label, y_label)]
    for count, start, stop in zip(counts, edges, edges[1:], strict=False):
        if count:
            x, y, end = frame.x(start), frame.y(float(count)), frame.x(stop)
            tip = f"<title>{_number(start)} to {_number(stop)}: {count}</title>"
            size = f'width="{max(end - x - 1, 0.6):.1f}" height="{frame.y(0) - y:.1f}"'
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="var(--c0)">{tip}</rect>')
    for value in lines:
        x = frame.x(value)
        parts.append(f'<line class="ref" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{frame.bottom}"/>')
    return _svg(width, height, "".join(parts))


class _Frame:
    """Maps data to pixels inside the axes."""

    def __init__(
        self, width: int, height: int, x_range: tuple[float, float], y_range: tuple[float, float]
    ) -> None:
        self.x_range, self.y_range = x_range, y_range
        self.right, self.bottom = width - RIGHT, height - BOTTOM

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.right - LEFT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - TOP)


def _svg(width: int, height: int, body: str) -> str:
    return f'<svg class="plot" viewBox="0 0 {width} {height}" role="img">{body}</svg>'


def _finite(arrays: Sequence[ArrayLike]) -> np.ndarray:
    joined = np.concatenate([np.asarray(a, dtype=np.float64).reshape(-1) for a in arrays] or [np.zeros(0)])
    return joined[np.isfinite(joined)]


def _range(values: np.ndarray, margin: float = 0.0) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    pad = (high - low) * margin or (0.0 if high > low else max(abs(high), 1.0) * 0.05)
    return low - pad, high + pad


def _y_range(series: Sequence[Series], lines: Sequence[Line]) -> tuple[float, float]:
    return _range(_finite([*(s.y for s in series), [line.y for line in lines]]), 0.06)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that divide a range into about `count` parts."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(frame: _Frame, x_label: str, y_label: str) -> str:
    parts = []
    for value in _ticks(*frame.y_range, max(2, (frame.bottom - TOP) // 45)):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in _ticks(*frame.x_range, max(2, (frame.right - LEFT) // 90)):
        x = frame.x(value)
        parts.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.bottom}" y2="{frame.bottom + 4}"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{frame.bottom + 17}" text-anchor="middle">{_number(value)}</text>'
        )
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{frame.right}" y1="{frame.bottom}" y2="{frame.bottom}"/>'
    )
    middle_x, middle_y = (LEFT + frame.right) / 2, (TOP + frame.bottom) / 2
    parts.append(
        f'<text class="label" x="{middle_x:.0f}" y="{frame.bottom + 34}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
        f'<text class="label" transform="translate(13 {middle_y:.0f}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    return "".join(parts)


def _polyline(frame: _Frame, series: Series, color: str) -> str:
    x, y = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (series.x, series.y))
    step = max(1, len(x) // MAX_POINTS)
    x, y = x[::step], y[::step]
    pieces = np.split(np.arange(len(x)), np.flatnonzero(~np.isfinite(y)))
    dash = ' stroke-dasharray="5 4"' if series.dashed else ""
    parts = []
    for piece in pieces:
        points = [(frame.x(x[i]), frame.y(y[i])) for i in piece if np.isfinite(y[i])]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        if len(points) == 1:
            parts.append(f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2" fill="{color}"/>')
        elif points:
            parts.append(f'<polyline class="line" points="{path}" stroke="{color}"{dash}/>')
    return f"<g><title>{html.escape(series.label)}</title>{''.join(parts)}</g>"


def _band(frame: _Frame, band: Band, index: int) -> str:
    x, end = frame.x(band.start), frame.x(band.end)
    width = max(end - x, 0.5)
    fill = _color(band.color, index)
    label = html.escape(band.label) if 6.2 * len(band.label) < width else ""
    return (
        f'<rect class="band" x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{frame.bottom - TOP}" '
        f'fill="{fill}"><title>{html.escape(band.label)}</title></rect>'
        f'<text class="band-label" x="{x + 4:.1f}" y="{TOP + 12}">{label}</text>'
    )


def _reference(frame: _Frame, line: Line) -> str:
    y = frame.y(line.y)
    return (
        f'<line class="ref" x1="{LEFT}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="band-label" x="{frame.right - 4}" y="{y - 4:.1f}" text-anchor="end">'
        f"{html.escape(line.label)}</text>"
    )


def _legend(series: Sequence[Series], width: int, top: int) -> tuple[str, int]:
    """Lay out the legend below the plot; return its SVG and its height."""
    parts, x, y = [], float(LEFT), top + 10
    for i, item in enumerate(series):
        if not item.label:
            continue
        needed = 34 + 6.6 * len(item.label)
        if x + needed > width - RIGHT and x > LEFT:
            x, y = float(LEFT), y + LEGEND_ROW
        dash = ' stroke-dasharray="5 4"' if item.dashed else ""
        color = _color(item.color, i)
        parts.append(f'<line class="line" x1="{x}" x2="{x + 18}" y1="{y}" y2="{y}" stroke="{color}"{dash}/>')
        parts.append(f'<text x="{x + 23:.0f}" y="{y + 4}">{html.escape(item.label)}</text>')
        x += needed
    return "".join(parts), y - top + 10


def _color(color: int | str | None, index: int) -> str:
    if isinstance(color, str):
        return html.escape(color, quote=True)
    return f"var(--c{(index if color is None else color) % NUM_COLORS})"


def _number(value: float) -> str:
    text = f"{value:.4g}"
    return "0" if text == "-0" else text.replace("-", "\N{MINUS SIGN}")
