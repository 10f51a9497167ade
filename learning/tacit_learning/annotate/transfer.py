"""Bring the cuts of labelled clips to others: dynamic time warping of embeddings, then a look at the spot.

Every labelled clip is laid over the other one; where several say much the same, a cut is certain. Pure
numpy. Legend: N frames of the labelled clip, M of the other, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit_learning.annotate.labels import Cut, Labelling

Floats = NDArray[np.float32]
DETOUR = 0.15
"""What a step costs in which only one of the two clips goes on, in medians of the distances: a hand that
rests must not be explained by a hand that rests elsewhere."""
SEARCH_S, WINDOW_S = 0.6, 0.25
"""How far from the warped cut its surroundings are looked for, and how much of them is compared [s]."""
UNSURE_S = 0.4
"""Disagreement of the labelled clips, or resting at a cut, that takes confidence down to 1/e [s]."""


class Known(NamedTuple):
    """A clip that was labelled by hand: its embeddings (N, D) and what was said."""

    embeddings: Floats
    labelling: Labelling


class Path(NamedTuple):
    """An alignment: frames of both clips (P,), side by side, and the mean distance along it."""

    known: NDArray[np.int64]
    other: NDArray[np.int64]
    cost: float


def transfer(known: Sequence[Known], other: Floats, fps: float) -> Labelling:
    """Say where the steps of labelled clips begin in another clip.

    Args:
        known: At least one labelled clip. Where their steps differ, the most similar clip is followed.
        other: Embeddings (M, D).
        fps: Frames per second of all.

    Returns:
        The cuts, each with a confidence; not by hand.
    """
    paths = [align(one.embeddings, other) for one in known]
    best = int(np.argmin([path.cost for path in paths]))
    names = _names(known[best])
    alike = [i for i, one in enumerate(known) if _names(one) == names]
    found = np.array([[_placed(known[i], k, paths[i], other, fps) for k in range(len(names))] for i in alike])
    weights = np.exp(-np.array([paths[i].cost for i in alike]) / max(paths[best].cost, 1e-9))
    frames = _rising(np.average(found[..., 0], axis=0, weights=weights), len(other))
    # With one labelled clip nothing can disagree; its cuts are believed a little less.
    spread = np.ptp(found[..., 0], axis=0) / fps if len(alike) > 1 else np.full(len(names), UNSURE_S / 4)
    resting = found[..., 1].min(axis=0) / fps
    sure = np.exp(-(spread + np.maximum(resting - UNSURE_S, 0)) / UNSURE_S) * found[..., 2].max(axis=0)
    cuts = [Cut(int(f), n, round(float(s), 3)) for f, n, s in zip(frames, names, sure, strict=True)]
    if cuts and known[best].labelling.cuts[0].frame == 0:
        cuts[0] = Cut(0, names[0], 1.0)  # what begins with the clip begins with every clip
    return Labelling(tuple(cut for cut in cuts if cut.frame < len(other)), by_hand=False)


def align(known: Floats, other: Floats) -> Path:
    """Align two clips from first to last frame by dynamic time warping.

    D_ij = d_ij + min(D_(i-1)(j-1), D_(i-1)j + e, D_i(j-1) + e), e = `DETOUR` medians of d. A row is one
    running minimum, since a way along it costs the difference of two cumulative sums.
    """
    distance = _distances(known, other)
    extra = DETOUR * float(np.median(distance)) + 1e-9
    total = np.empty_like(distance)
    entered = np.full(distance.shape[1], np.inf)
    entered[0] = 0.0
    for i, row in enumerate(distance):
        along = np.cumsum(row + extra)
        before = np.concatenate([[0.0], along[:-1]])
        total[i] = along - extra + np.minimum.accumulate(entered - before)
        entered = total[i] + extra
        entered[1:] = np.minimum(entered[1:], total[i][:-1])
    rows, columns = _walk_back(total, extra)
    return Path(rows, columns, float(distance[rows, columns].mean()))


def _walk_back(total: NDArray[np.float64], extra: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    i, j = total.shape[0] - 1, total.shape[1] - 1
    steps = [(i, j)]
    while i or j:
        ways = []
        if i and j:
            ways.append((total[i - 1, j - 1], i - 1, j - 1))
        if i:
            ways.append((total[i - 1, j] + extra, i - 1, j))
        if j:
            ways.append((total[i, j - 1] + extra, i, j - 1))
        _, i, j = min(ways)
        steps.append((i, j))
    path = np.array(steps[::-1], np.int64)
    return path[:, 0], path[:, 1]


def _placed(known: Known, number: int, path: Path, other: Floats, fps: float) -> tuple[float, float, float]:
    """Return the frame of one cut in the other clip, how many frames it could be moved, and how well its
    surroundings fit there (0..1, against the whole path)."""
    frame = known.labelling.cuts[number].frame
    if frame >= len(known.embeddings):
        return float(len(other)), 0.0, 1.0
    at = int(np.argmax(path.known >= frame))
    warped = int(path.other[at])
    resting = int((path.known == path.known[at]).sum()) + int((path.known == frame - 1).sum()) - 2
    shifts, fits = _surroundings(known.embeddings, frame, other, warped, fps)
    placed = warped + int(shifts[int(np.argmin(fits))])
    share = float(min(1.0, path.cost / max(float(fits.min()), 1e-9)))
    return float(placed), float(max(resting, 0)), share


def _surroundings(
    known: Floats, frame: int, other: Floats, warped: int, fps: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Compare what surrounds a cut with what surrounds each frame near its warped place.

    Returns:
        Shifts from that place (S,), and the mean distance of the surroundings at each (S,).
    """
    reach, half = max(1, round(SEARCH_S * fps)), max(1, round(WINDOW_S * fps))
    inside = np.arange(-half, half + 1)
    mine = known[np.clip(frame + inside, 0, len(known) - 1)]
    shifts = np.arange(-reach, reach + 1)
    rows = np.clip(warped + shifts[:, None] + inside, 0, len(other) - 1)
    fits = np.linalg.norm(other[rows] - mine, axis=-1).mean(axis=1)
    # A little is asked for leaving the warped place, so that flat surroundings decide nothing.
    return shifts, fits + DETOUR * fits.min() * np.abs(shifts) / reach


def _distances(a: Floats, b: Floats) -> NDArray[np.float64]:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0)).astype(np.float64)


def _names(known: Known) -> tuple[str, ...]:
    return tuple(cut.name for cut in known.labelling.cuts)


def _rising(frames: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    """Round to frames of the clip, each at least one after the other."""
    rounded = np.rint(frames).astype(np.int64)
    for k in range(1, len(rounded)):
        rounded[k] = max(rounded[k], rounded[k - 1] + 1)
    return np.minimum(rounded, length)
