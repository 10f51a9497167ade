"""Do predicted steps follow each other as the true ones do, and are dropped frames found?

Edit score and F1@k as in Lea et al. 2017 and Farha and Gall 2019; background (-1) is no segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.episode.steps import runs
from tacit_learning.data.annotations import NO_STEP, Segment


class Scores(NamedTuple):
    """Precision, recall and their harmonic mean, each 0 where it is undefined."""

    precision: float
    recall: float
    f1: float


class Counts(NamedTuple):
    """True positives, false positives and false negatives; they add up over videos."""

    hits: int
    extra: int
    missed: int

    def scores(self) -> Scores:
        """Return precision, recall and F1."""
        precision = self.hits / max(self.hits + self.extra, 1)
        recall = self.hits / max(self.hits + self.missed, 1)
        both = precision + recall
        return Scores(precision, recall, 2 * precision * recall / both if both else 0.0)


def segment_counts(predicted: NDArray[np.int64], true: NDArray[np.int64], overlap: float) -> Counts:
    """Match predicted to true segments of the same action by intersection over union.

    A predicted segment hits the true one that it overlaps most, if that is at least `overlap` and the
    true one is not hit yet; every other predicted segment is extra.

    Args:
        predicted: Action per frame (T,), -1 in background.
        true: Likewise.
        overlap: Least intersection over union, such as .1, .25, .5.
    """
    targets = _segments(true)
    taken = [False] * len(targets)
    hits = 0
    candidates = _segments(predicted)
    for label, first, last in candidates:
        ious = [_iou((first, last), (s, e)) if label == other else 0.0 for other, s, e in targets]
        best = int(np.argmax(ious)) if ious else 0
        if ious and ious[best] >= overlap and ious[best] > 0 and not taken[best]:
            taken[best] = True
            hits += 1
    return Counts(hits, len(candidates) - hits, len(targets) - hits)


def segmental_f1(
    predicted: Sequence[NDArray[np.int64]], true: Sequence[NDArray[np.int64]], overlap: float
) -> float:
    """Compute F1@overlap over videos: counts are added first (0..1)."""
    counts = [segment_counts(p, t, overlap) for p, t in zip(predicted, true, strict=True)]
    return Counts(*(sum(column) for column in zip(*counts, strict=True))).scores().f1


def segmental_edit(predicted: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Compute 1 - edit distance / length of the longer sequence, over the sequences of steps (0..1).

    Two empty sequences agree: 1.
    """
    a, b = [s[0] for s in _segments(predicted)], [s[0] for s in _segments(true)]
    return 1.0 - _edit_distance(a, b) / max(len(a), len(b), 1)


def drop_counts(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> Counts:
    """Count frames that are said to have no counterpart in the other video against the truth."""
    said, is_so = np.asarray(predicted, bool), np.asarray(true, bool)
    return Counts(int((said & is_so).sum()), int((said & ~is_so).sum()), int((~said & is_so).sum()))


def dropped_frames(
    segments: Sequence[Segment], other: Sequence[Segment], num_frames: int
) -> NDArray[np.bool_]:
    """Return which frames (T,) belong to no action, or to one that the other video lacks."""
    names = {segment.name for segment in other}
    dropped = np.ones(num_frames, bool)
    for segment in segments:
        if segment.name in names:
            dropped[segment.start : segment.end + 1] = False
    return dropped


def best_threshold(distance: NDArray[np.float64], true: NDArray[np.bool_]) -> float:
    """Return the distance above which calling a frame dropped has the highest F1.

    Args:
        distance: Distance to the nearest frame of the other video (N,).
        true: Whether the frame has no counterpart there (N,).
    """
    order = np.argsort(-np.asarray(distance, np.float64), kind="stable")
    ranked, is_so = np.asarray(distance, np.float64)[order], np.asarray(true, bool)[order]
    hits = np.cumsum(is_so)
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + max(int(is_so.sum()), 1))
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.argmax(np.where(last_of_ties, f1, -1)))
    below = ranked[best + 1] if best + 1 < len(ranked) else -np.inf
    return float((ranked[best] + below) / 2) if np.isfinite(below) else -np.inf


def _segments(labels: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    return [run for run in runs(np.asarray(labels, np.int64)) if run[0] != NO_STEP]


def _iou(a: tuple[int, int], b: tuple[int, int]) -> float:
    shared = min(a[1], b[1]) - max(a[0], b[0]) + 1
    return max(shared, 0) / (max(a[1], b[1]) - min(a[0], b[0]) + 1)


def _edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the Levenshtein distance, one row of the table at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
