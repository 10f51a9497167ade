"""Plots of alignment and progress as SVG for a self-contained page."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from tacit.view.plot import Band, Line, Series, line_plot
from tacit_learning.alignment.judge.metrics_pairs import nearest_frames
from tacit_learning.alignment.judge.metrics_progress import Frames
from tacit_learning.data.annotations import Annotation

TRUTH = "var(--fg)"


def progress_plot(annotation: Annotation, truth: ArrayLike | None, estimates: Mapping[str, ArrayLike]) -> str:
    """Plot progress over time: the truth dashed, estimates as lines, steps as bands.

    Args:
        annotation: Annotation of the video; its events get a band of their own.
        truth: True progress (T,).
        estimates: Name to progress (T,).
    """
    seconds = np.arange(annotation.num_frames) / annotation.fps
    series = [Series(name, seconds, values) for name, values in estimates.items()]
    if truth is not None:
        series.append(Series("truth", seconds, truth, TRUTH, dashed=True))
    return line_plot(
        series, x_label="time [s]", y_label="progress", bands=step_bands(annotation), y_range=(-0.05, 1.05)
    )


def step_bands(annotation: Annotation) -> list[Band]:
    """Return a band per step, one colour per name, and one per event."""
    fps = annotation.fps
    colors = {name: number for number, name in enumerate(dict.fromkeys(annotation.steps))}
    bands = [
        Band(s.start / fps, (s.end + 1) / fps, s.name, colors[s.name]) for s in annotation.action_segments()
    ]
    return bands + [
        Band(event.start / fps, (event.end + 1) / fps, event.kind, "var(--bad)")
        for event in annotation.events
    ]


def alignment_plot(a: Annotation, b: Annotation, x: Frames, y: Frames) -> str:
    """Plot, for every frame of one video, its nearest frame of another one and where it should be.

    Args:
        a: Annotation of the first video.
        b: Annotation of the second.
        x: Embeddings (N, D) of the first.
        y: Embeddings (M, D) of the second.
    """
    seconds = np.arange(a.num_frames) / a.fps
    series = [Series("nearest frame", seconds, nearest_frames(x, y) / b.fps, 0)]
    for one in a.action_segments():
        for other in (segment for segment in b.action_segments() if segment.name == one.name):
            true = np.linspace(other.start, other.end, one.length) / b.fps
            label = "true match" if len(series) == 1 else ""
            series.append(Series(label, seconds[one.start : one.end + 1], true, 1))
    return line_plot(
        series,
        x_label=f"time in {a.name} [s]",
        y_label=f"time in {b.name} [s]",
        bands=step_bands(a),
        lines=[Line(segment.start / b.fps, segment.name) for segment in b.action_segments()],
        height=360,
    )
