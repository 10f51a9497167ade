"""From step annotations to the progress of every frame: the target of progress models."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tacit.episode.finish import Step

BACKGROUND = frozenset({"background", "SIL", "0"})


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
