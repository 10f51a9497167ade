"""SVG plots as text: lines with bands and reference lines, histograms. Colours follow the page."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

NUM_COLORS = 8
"""The page defines --c0 to --c7, in a light and a dark version."""
MAX_POINTS = 1200
"""More points than pixels only make the file large."""
DOTTED = 12
"""A line of at most so many points shows each as a dot: two validations are no trend."""
WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 66, 22, 14, 40
LEGEND_ROW = 18
TEXT_PX, LETTER_PX = 12, 6.6
"""Height of a text, and about the width of a letter of it."""


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
    """A shaded span of x with a label above it; what lies outside the plot is cut off."""

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

    The legend tells the value of a line of a single point, and the bands that are too narrow for a label.

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
    shown = [(band, _color(band.color, i)) for i, band in enumerate(bands) if frame.holds(band)]
    parts = [_band(frame, band, color) for band, color in shown]
    parts += [_grid(frame, x_label, y_label)]
    parts += [_reference(frame, line) for line in lines]
    drawn = "".join(_polyline(frame, item, _color(item.color, i)) for i, item in enumerate(series))
    parts.append(frame.cut(drawn))
    legend = _legend(_keys(frame, series, shown), width, height)
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

    def holds(self, band: Band) -> bool:
        """Whether some of the band is inside the axes."""
        return band.end > self.x_range[0] and band.start < self.x_range[1]

    def span(self, band: Band) -> tuple[float, float]:
        """Left edge and width of the part of a band that is inside the axes [px]."""
        low, high = self.x_range
        x = self.x(min(max(band.start, low), high))
        return x, max(self.x(min(max(band.end, low), high)) - x, 0.5)

    def has_room(self, band: Band) -> bool:
        """Whether the label of a band fits into it."""
        return LETTER_PX * len(band.label) + 6 < self.span(band)[1]

    def cut(self, body: str) -> str:
        """Return SVG of which nothing is drawn outside the axes, but for half a line and a dot."""
        edge = 6
        x, y = LEFT - edge, TOP - edge
        width, height = self.right - LEFT + 2 * edge, self.bottom - TOP + 2 * edge
        box = f'x="{x}" y="{y}" width="{width}" height="{height}" viewBox="{x} {y} {width} {height}"'
        return f"<svg {box}>{body}</svg>"


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
        if len(points) > 1:
            parts.append(f'<polyline class="line" points="{path}" stroke="{color}"{dash}/>')
        if len(points) == 1 or len(x) <= DOTTED:
            size = 4.5 if len(x) == 1 else 3
            parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{size}" fill="{color}"/>' for px, py in points]
    return f"<g><title>{html.escape(series.label)}</title>{''.join(parts)}</g>"


def _band(frame: _Frame, band: Band, fill: str) -> str:
    x, width = frame.span(band)
    label = html.escape(band.label) if frame.has_room(band) else ""
    return (
        f'<rect class="band" x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{frame.bottom - TOP}" '
        f'fill="{fill}"><title>{html.escape(band.label)}</title></rect>'
        f'<text class="band-label" x="{x + 4:.1f}" y="{TOP - 3}">{label}</text>'
    )


def _reference(frame: _Frame, line: Line) -> str:
    """A dashed line; its label is above it, or below where the labels of the bands are."""
    y = frame.y(line.y)
    text = y + TEXT_PX + 2 if y < TOP + TEXT_PX + 4 else y - 4
    return (
        f'<line class="ref" x1="{LEFT}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="band-label" x="{frame.right - 4}" y="{text:.1f}" text-anchor="end">'
        f"{html.escape(line.label)}</text>"
    )


class _Key(NamedTuple):
    """An entry of the legend: its words and its swatch at (x, y)."""

    label: str
    swatch: Callable[[float, float], str]


def _keys(frame: _Frame, series: Sequence[Series], bands: Sequence[tuple[Band, str]]) -> list[_Key]:
    """Return what the legend tells: the lines where there are several, and bands without room for a label."""
    named = [(item, _color(item.color, i)) for i, item in enumerate(series) if item.label]
    lone = len(named) == 1 and len(_finite([named[0][0].y])) != 1
    keys = [] if lone else [_line_key(item, color) for item, color in named]
    narrow = {band.label: color for band, color in bands if band.label and not frame.has_room(band)}
    return keys + [_band_key(label, color) for label, color in narrow.items()]


def _line_key(item: Series, color: str) -> _Key:
    values = _finite([item.y])
    dash = ' stroke-dasharray="5 4"' if item.dashed else ""

    def swatch(x: float, y: float) -> str:
        return f'<line class="line" x1="{x}" x2="{x + 18}" y1="{y}" y2="{y}" stroke="{color}"{dash}/>'

    return _Key(f"{item.label}: {_number(values[0])}" if len(values) == 1 else item.label, swatch)


def _band_key(label: str, color: str) -> _Key:
    def swatch(x: float, y: float) -> str:
        return f'<rect class="band key" x="{x}" y="{y - 6}" width="18" height="12" fill="{color}"/>'

    return _Key(label, swatch)


def _legend(keys: Sequence[_Key], width: int, top: int) -> tuple[str, int]:
    """Lay out the legend below the plot; return its SVG and its height."""
    parts, x, y = [], float(LEFT), top + 10
    for key in keys:
        needed = 40 + LETTER_PX * len(key.label)
        if x + needed > width - RIGHT and x > LEFT:
            x, y = float(LEFT), y + LEGEND_ROW
        parts.append(key.swatch(x, y))
        parts.append(f'<text x="{x + 23:.0f}" y="{y + 4}">{html.escape(key.label)}</text>')
        x += needed
    return "".join(parts), (y - top + 10) if keys else 0


def _color(color: int | str | None, index: int) -> str:
    if isinstance(color, str):
        return html.escape(color, quote=True)
    return f"var(--c{(index if color is None else color) % NUM_COLORS})"


def _number(value: float) -> str:
    text = f"{value:.4g}"
    return "0" if text == "-0" else text.replace("-", "\N{MINUS SIGN}")
