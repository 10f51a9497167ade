"""How far an estimate of progress is from the truth, and how it behaves.

All take one video (T,); mean over videos, not over frames, so that long videos do not drown short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from tacit_learning.data.annotations import Segment

Values = NDArray[np.float64] | NDArray[np.float32] | Tensor | Sequence[float]
Frames = NDArray[np.float64] | NDArray[np.float32] | Tensor
"""Embeddings or features (T, D)."""
LENGTH_BINS = (1, 8, 16, 32, 64)
"""Lower edges of the bins of segment length [frames]."""
DONE_THRESHOLD = 0.5
TOLERANCE = 1e-6
"""A smaller fall is rounding."""


def as_array(values: object) -> NDArray[np.float64]:
    """Return whatever a metric is given as float64; tensors are detached and moved to the CPU."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)


def overall_progress_error(
    pred: Values, target: Values, mask: NDArray[np.bool_] | None = None, *, clip: bool = False
) -> float:
    """Compute mean |pred - target|: OPE of a whole video, OGPE where each frame saw only its past.

    Args:
        pred: Estimates (T,).
        target: True progress (T,).
        mask: Frames that count (T,); all if left out.
        clip: Put estimates into 0..1 first, as a deployed estimator would.

    Returns:
        The error; nan where no frame counts.

    Raises:
        ValueError: Lengths differ.
    """
    estimate, true = as_array(pred), as_array(target)
    if estimate.shape != true.shape:
        raise ValueError(f"progress of shape {estimate.shape} against a target of shape {true.shape}")
    if clip:
        estimate = np.clip(estimate, 0.0, 1.0)
    error = np.abs(estimate - true)
    error = error[mask] if mask is not None else error
    return float(error.mean()) if error.size else float("nan")


def normalised_error(error: float, error_of_half: float) -> float:
    """Compute 1 - error / error of always saying 0.5: 1 perfect, 0 no better, below 0 worse."""
    return 1.0 - error / error_of_half


def spearman(pred: Values, target: Values) -> float:
    """Compute Spearman's rank correlation; 0 (not nan) where either is constant."""
    a, b = rankdata(as_array(pred)), rankdata(as_array(target))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def r_squared(pred: Values, target: Values) -> float:
    """Compute 1 - residual / variance of the target; nan where the target is constant or empty."""
    estimate, true = as_array(pred), as_array(target)
    if not true.size or np.ptp(true) == 0:
        return float("nan")
    return float(1 - ((estimate - true) ** 2).sum() / ((true - true.mean()) ** 2).sum())


def monotonicity(pred: Values) -> float:
    """Compute the share of frames at which the estimate does not fall; 1 for a single frame."""
    steps = np.diff(as_array(pred))
    return float((steps >= -TOLERANCE).mean()) if len(steps) else 1.0


def first_error(pred: Values, target: Values) -> float:
    """Compute |pred - target| at the first frame."""
    return float(abs(as_array(pred)[0] - as_array(target)[0]))


def last_error(pred: Values, target: Values) -> float:
    """Compute |pred - target| at the last frame."""
    return float(abs(as_array(pred)[-1] - as_array(target)[-1]))


class Course(NamedTuple):
    """One whole video as a stream would judge it, per frame (T,): estimate and probability of done in
    0..1, true progress, and seconds since the first frame."""

    progress: NDArray[np.float32]
    done: NDArray[np.float32]
    target: NDArray[np.float32]
    seconds: NDArray[np.float32]


def course_scores(courses: Sequence[Course], mean_length_s: float, done_at: float) -> dict[str, float]:
    """Compare estimates with the annotation, beside the two baselines that past heads lost to.

    Args:
        courses: Held-out videos.
        mean_length_s: Mean duration of the training videos [s], for the clock.
        done_at: Progress that counts as done.

    Returns:
        mae, mae_half (always .5) and mae_clock (elapsed / mean length) over all frames; first and last
        (mean estimate at the first and the last frame); done_precision and done_recall per frame.
    """
    progress, done, target, seconds = (np.concatenate(column) for column in zip(*courses, strict=True))
    is_done, says_done = target >= done_at, done > DONE_THRESHOLD
    both = (is_done & says_done).sum()
    return {
        "mae": overall_progress_error(progress, target),
        "mae_half": overall_progress_error(np.full_like(target, 0.5), target),
        "mae_clock": overall_progress_error(seconds / mean_length_s, target, clip=True),
        "first": float(np.mean([course.progress[0] for course in courses])),
        "last": float(np.mean([course.progress[-1] for course in courses])),
        "done_precision": float(both / max(says_done.sum(), 1)),
        "done_recall": float(both / max(is_done.sum(), 1)),
    }


def error_by_length(
    pred: Values, target: Values, segments: Sequence[Segment], edges: Sequence[int] = LENGTH_BINS
) -> dict[str, tuple[float, int]]:
    """Compute the mean error of segments by their length.

    Args:
        pred: Estimates (T,).
        target: True progress (T,).
        segments: Steps of the same video.
        edges: Lower edges of the bins [frames]; the last bin is open.

    Returns:
        Bin name such as "8-15" or "64+" to (mean error over its segments, their number); bins without
        segments are left out.
    """
    estimate, true = as_array(pred), as_array(target)
    found: dict[str, list[float]] = {}
    for segment in segments:
        number = int(np.searchsorted(edges, segment.length, side="right")) - 1
        part = slice(segment.start, segment.end + 1)
        error = float(np.abs(estimate[part] - true[part]).mean())
        found.setdefault(_bin_name(edges, max(number, 0)), []).append(error)
    return {name: (float(np.mean(errors)), len(errors)) for name, errors in found.items()}


def _bin_name(edges: Sequence[int], number: int) -> str:
    return f"{edges[number]}+" if number + 1 == len(edges) else f"{edges[number]}-{edges[number + 1] - 1}"
