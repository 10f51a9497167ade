"""Steps of a task: from the index at every tick to segments, and from segments to progress."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BACKGROUND = frozenset({"background", "SIL", "0"})


class Step(NamedTuple):
    """One step of the task; both frames belong to it."""

    name: str
    start_frame: int
    end_frame: int


def segments(indices: Sequence[int] | np.ndarray, names: Sequence[str]) -> list[Step]:
    """Return the runs of equal step index as inclusive segments.

    Args:
        indices: Index into `names` per tick (T,); anything outside is background, no segment.
        names: Step names.
    """
    values = np.asarray(indices, dtype=np.int64)
    return [Step(names[v], s, e) for v, s, e in runs(values) if 0 <= v < len(names)]


def runs(values: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return (value, first, last) of each run of equal values (T,)."""
    if not len(values):
        return []
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    ends = np.append(starts[1:], len(values)) - 1
    return list(zip(values[starts].tolist(), starts.tolist(), ends.tolist(), strict=True))


def video_progress(
    steps: Sequence[Step], num_ticks: int, background: Collection[str] = BACKGROUND
) -> NDArray[np.float32]:
    """Return how far the task is at every tick, rising linearly inside each step.

    p_t = (n - 1) / A + (t - s + 1) / (A L) in the n-th of A steps, which spans s..e, L = e - s + 1.
    Between steps the last value holds; it is 0 before the first one.

    Args:
        steps: With inclusive frames, in any order.
        num_ticks: Length T of the episode.
        background: Names that are no step of the task.

    Returns:
        Progress (T,) float32 in [0, 1]; zeros where there is no step.
    """
    foreground = sorted((s for s in steps if s.name not in background), key=lambda s: s.start_frame)
    progress = np.zeros(num_ticks)
    for number, step in enumerate(foreground):
        inside = np.arange(1, step.end_frame - step.start_frame + 2) / (step.end_frame - step.start_frame + 1)
        seen = progress[step.start_frame : step.end_frame + 1]
        seen[:] = (number + inside[: len(seen)]) / len(foreground)
        progress[step.end_frame + 1 :] = (number + 1) / len(foreground)
    return progress.astype(np.float32)
