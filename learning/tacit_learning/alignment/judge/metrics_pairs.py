"""How well embeddings of two videos agree, and what can be read from them.

Pairwise metrics take embeddings a (N, D), b (M, D) of two videos and look up, for every frame of a,
its nearest frame of b; average them over all ordered pairs. Kendall's tau and the video-level progress
error reward clocks: read them beside `nearest_action_accuracy` and the enclosed area in the wild.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau
from sklearn.linear_model import LinearRegression
from sklearn.metrics import pairwise_distances_argmin, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from tacit_learning.alignment.judge.metrics_progress import Frames, Values, as_array
from tacit_learning.data.annotations import NO_STEP, Annotation, Segment


def nearest_frames(a: Frames, b: Frames) -> NDArray[np.int64]:
    """Return the index of the nearest frame (L2) of b for every frame of a (N,)."""
    return pairwise_distances_argmin(as_array(a), as_array(b)).astype(np.int64)


def kendall_tau(a: Frames | Values, b: Frames | Values) -> float:
    """Compute Kendall's tau-b between the frames of a and their nearest frames of b.

    1: the order of time is kept everywhere; -1: reversed. 0 where either side is constant.

    Args:
        a: Embeddings (N, D); or numbers (N,), whose order is then compared with that of b directly.
        b: Embeddings (M, D); or numbers (N,).
    """
    a, b = as_array(a), as_array(b)
    if a.ndim == 1 and b.ndim == 1:
        return _tau(a, b)
    return _tau(np.arange(len(a)), nearest_frames(a, b))


def true_matches(a: Sequence[Segment], b: Sequence[Segment], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which frames of two videos show the same instant of the same action (N, M).

    Each segment of a is laid evenly over every segment of b of the same name, first frame on first and
    last on last, so a repeated action has several right answers.

    Args:
        a: Action segments of the first video.
        b: Action segments of the second.
        size: (N, M).
    """
    matches = np.zeros(size, bool)
    for one in a:
        for other in b:
            if one.name == other.name:
                frames = np.arange(one.start, one.end + 1)
                matches[frames, np.rint(np.linspace(other.start, other.end, one.length)).astype(int)] = True
    return matches


def kendall_tau_wild(a: Frames, b: Frames, matches: NDArray[np.bool_]) -> float:
    """Compute Kendall's tau-b between nearest frames and the true matches closest to them.

    Frames without a match (background, actions that b lacks) are left out, and re-ordered or repeated
    actions are no mistake. 0 where no two frames are left.
    """
    frames, found, true = _found_and_true(a, b, matches)
    return _tau(true, found) if len(frames) > 1 else 0.0


def enclosed_area(a: Frames, b: Frames, matches: NDArray[np.bool_], *, wild: bool = False) -> float:
    """Compute the area between found and true alignment as a share of the whole area.

    Plain: mean |nearest - true match| / M over the frames of a that have a match. Wild: only frames of
    b that have a match themselves count, in the distance and in the total (Donahue and Elhamifar 2024).

    Args:
        a: Embeddings (N, D).
        b: Embeddings (M, D).
        matches: From `true_matches` (N, M).
        wild: Leave out what cannot be aligned.

    Returns:
        0 (perfect) .. 1; nan without any match.
    """
    frames, found, true = _found_and_true(a, b, matches)
    if not len(frames):
        return float("nan")
    if not wild:
        return float(np.abs(found - true).mean() / matches.shape[1])
    alignable = matches.any(axis=0)
    before = np.concatenate([[0], np.cumsum(alignable)])
    distance = np.abs(before[found] - before[true])
    return float(distance.mean() / alignable.sum())


def nearest_action_accuracy(
    a: Frames, b: Frames, labels_a: NDArray[np.int64], labels_b: NDArray[np.int64]
) -> float:
    """Compute how often the nearest frame of b shows the same action.

    Counted over frames of a whose action occurs in b; a nearest frame in background is a miss.

    Args:
        a: Embeddings (N, D).
        b: Embeddings (M, D).
        labels_a: Action per frame (N,), -1 in background.
        labels_b: Likewise (M,).

    Returns:
        0 .. 1; nan where no frame counts.
    """
    counted = (labels_a != NO_STEP) & np.isin(labels_a, labels_b)
    if not counted.any():
        return float("nan")
    return float((labels_b[nearest_frames(a, b)[counted]] == labels_a[counted]).mean())


def phase_classification(
    train: Sequence[Frames] | Frames,
    train_labels: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    test: Sequence[Frames] | Frames,
    test_labels: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    *,
    share: float = 1.0,
    seed: int = 0,
) -> float:
    """Compute the accuracy of an SVM (RBF, one against one) fitted on train and scored on test videos.

    Frames with label -1 count as a class of their own (background).

    Args:
        train: Embeddings of videos, each (T, D); or of one video.
        train_labels: Action per frame of each, (T,).
        test: Videos that the classifier does not see.
        test_labels: Likewise.
        share: Part of the training videos to fit on, drawn by `seed`; at least one.
        seed: Another seed draws other training videos.
    """
    videos, labels = _videos(train), _videos(train_labels, axes=1)
    count = max(1, round(share * len(videos)))
    chosen = np.random.default_rng(seed).permutation(len(videos))[:count]
    x, y = np.concatenate([videos[i] for i in chosen]), np.concatenate([labels[i] for i in chosen])
    wanted = np.concatenate(_videos(test_labels, axes=1))
    if len(np.unique(y)) == 1:
        return float((wanted == y[0]).mean())
    classifier = make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")).fit(x, y)
    return float(classifier.score(np.concatenate(_videos(test)), wanted))


def phase_progression(
    train: Sequence[Frames] | Frames,
    train_targets: Sequence[Values] | Values,
    test: Sequence[Frames] | Frames,
    test_targets: Sequence[Values] | Values,
) -> float:
    """Compute R2 of a linear regression from embeddings to time relative to the key instants.

    Args:
        train: Embeddings of videos, each (T, D); or of one video.
        train_targets: From `boundary_targets`, (T, K) each, or one number per frame (T,).
        test: Videos that the regression does not see.
        test_targets: Likewise.

    Returns:
        Mean R2 over the K targets, at most 1; nan (an instant that a video lacks) is left out.
    """
    x, y = np.concatenate(_videos(train)), np.concatenate(_columns(train_targets))
    x_test, y_test = np.concatenate(_videos(test)), np.concatenate(_columns(test_targets))
    scores = []
    for k in range(y.shape[1]):
        known, asked = np.isfinite(y[:, k]), np.isfinite(y_test[:, k])
        if known.any() and asked.sum() > 1:
            fitted = LinearRegression().fit(x[known], y[known, k])
            scores.append(r2_score(y_test[asked, k], fitted.predict(x_test[asked])))
    return float(np.mean(scores)) if scores else float("nan")


def boundary_targets(annotation: Annotation, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return (t - t_k) / T of every frame t (T, K), t_k the first frame of the k-th label.

    A label that does not occur is nan.
    """
    first = {segment.name: segment.start for segment in reversed(annotation.action_segments())}
    instants = np.array([first.get(label, np.nan) for label in labels], np.float64)
    return (np.arange(annotation.num_frames)[:, None] - instants) / annotation.num_frames


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    value = kendalltau(a, b).statistic if len(a) > 1 else np.nan
    return float(value) if np.isfinite(value) else 0.0


def _found_and_true(
    a: Frames, b: Frames, matches: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the frames of a with a match, their nearest frames, and the matches closest to those."""
    frames = np.flatnonzero(matches.any(axis=1))
    found = nearest_frames(a, b)[frames]
    options = (np.flatnonzero(matches[frame]) for frame in frames)
    true = [right[np.abs(right - nearest).argmin()] for right, nearest in zip(options, found, strict=True)]
    return frames, found, np.array(true, np.int64)


def _videos(values: Sequence[ArrayLike] | np.ndarray | Tensor, axes: int = 2) -> list[np.ndarray]:
    """Return a list of arrays with `axes` axes; a single video (its frames) becomes a list of one."""
    is_single = len(values) > 0 and as_array(values[0]).ndim == axes - 1
    return [as_array(part) for part in ([values] if is_single else values)]


def _columns(targets: object) -> list[np.ndarray]:
    """Return targets as a list of (T, K)."""
    single = hasattr(targets, "ndim")
    return [array.reshape(len(array), -1) for array in map(as_array, [targets] if single else targets)]  # type: ignore[call-overload]
