"""The numbers of one evaluation: of embeddings over all pairs of videos, of progress over all videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from sklearn.metrics import pairwise_distances_argmin_min

from tacit_learning.alignment.judge.baselines import Aim, Labelled, fit_baselines, spans
from tacit_learning.alignment.judge.metrics_pairs import (
    boundary_targets,
    enclosed_area,
    kendall_tau,
    kendall_tau_wild,
    nearest_action_accuracy,
    phase_classification,
    phase_progression,
    true_matches,
)
from tacit_learning.alignment.judge.metrics_progress import (
    Frames,
    as_array,
    error_by_length,
    first_error,
    last_error,
    monotonicity,
    normalised_error,
    overall_progress_error,
    r_squared,
    spearman,
)
from tacit_learning.alignment.judge.metrics_segments import (
    Counts,
    best_threshold,
    drop_counts,
    dropped_frames,
)
from tacit_learning.losses.progress import Level

SHARES = (0.1, 0.5, 1.0)
MAX_PAIRS, MAX_FITTED_PAIRS = 2000, 100
"""More ordered pairs than this are sampled, always the same ones: 45 videos have 1980."""


@dataclass(frozen=True)
class Estimate:
    """Progress (T,) estimated for one video, the truth (T,), and the frames that count (T,)."""

    video: Labelled
    pred: NDArray[np.float64]
    target: NDArray[np.float64]
    mask: NDArray[np.bool_]


def pair_scores(videos: Sequence[Labelled], labels: Sequence[str]) -> dict[str, float]:
    """Compute the alignment metrics, each a mean over all ordered pairs of videos.

    Returns:
        nn_accuracy, kendall_tau, kendall_tau_wild, enclosed_area, enclosed_area_wild; nan with fewer
        than two videos.
    """
    rows = []
    for one, other in _pairs(videos, MAX_PAIRS):
        a, b = one.annotation, other.annotation
        x, y = one.features, other.features
        matches = true_matches(a.action_segments(), b.action_segments(), (a.num_frames, b.num_frames))
        ids = (a.labels_per_frame(labels), b.labels_per_frame(labels))
        rows.append(
            {
                "nn_accuracy": nearest_action_accuracy(x, y, *ids),
                "kendall_tau": kendall_tau(x, y),
                "kendall_tau_wild": kendall_tau_wild(x, y, matches),
                "enclosed_area": enclosed_area(x, y, matches),
                "enclosed_area_wild": enclosed_area(x, y, matches, wild=True),
            }
        )
    return {name: _mean([row[name] for row in rows]) for name in rows[0]} if rows else {}


def phase_scores(
    train: Sequence[Labelled], test: Sequence[Labelled], labels: Sequence[str], seed: int = 0
) -> dict[str, float]:
    """Compute what can be read from frames once something is fitted to the training videos.

    Returns:
        phase_classification_10, _50, _100, phase_progression, and drop_precision, _recall, _f1.
    """
    x, y = [v.features for v in train], [v.annotation.labels_per_frame(labels) for v in train]
    asked, wanted = [v.features for v in test], [v.annotation.labels_per_frame(labels) for v in test]
    scores = {
        f"phase_classification_{round(100 * share)}": phase_classification(
            x, y, asked, wanted, share=share, seed=seed
        )
        for share in SHARES
    }
    targets = [[boundary_targets(v.annotation, labels) for v in part] for part in (train, test)]
    progression = phase_progression(x, targets[0], asked, targets[1])
    return {**scores, "phase_progression": progression, **drop_scores(train, test)}


def drop_scores(train: Sequence[Labelled], test: Sequence[Labelled]) -> dict[str, float]:
    """Compute how well frames without a counterpart in the other video are told by their distance to it.

    The threshold is that of the best F1 on pairs of training videos.

    Returns:
        drop_precision, drop_recall, drop_f1 over all ordered pairs of test videos; {} below two videos.
    """
    known, asked = _pairs(train, MAX_FITTED_PAIRS), _pairs(test, MAX_PAIRS)
    if not known or not asked:
        return {}
    fitted = [_distance_and_truth(pair) for pair in known]
    distances, truths = (np.concatenate(part) for part in zip(*fitted, strict=True))
    threshold = best_threshold(distances, truths)
    counts = [drop_counts(distance > threshold, true) for distance, true in map(_distance_and_truth, asked)]
    total = Counts(*(sum(column) for column in zip(*counts, strict=True))).scores()
    return {f"drop_{name}": value for name, value in total._asdict().items()}


def progress_scores(estimates: Sequence[Estimate], level: Level) -> dict[str, float]:
    """Compute errors and behaviour of progress, each a mean over videos (or actions, at action level).

    Returns:
        ope, ope_clipped, normalised (of the clipped error, against always 0.5), r2, spearman,
        monotonicity, first_error, last_error.
    """
    rows = [_video_scores(estimate, level) for estimate in estimates]
    scores = {name: _mean([row[name] for row in rows]) for name in rows[0]}
    half = scores.pop("half")
    return {**scores, "normalised": normalised_error(scores["ope_clipped"], half)}


def length_scores(estimates: Sequence[Estimate]) -> dict[str, dict[str, float]]:
    """Compute the mean error of actions by their length, pooled over videos: bin -> error, actions."""
    pooled: dict[str, list[tuple[float, int]]] = {}
    for e in estimates:
        found = error_by_length(e.pred, e.target, e.video.annotation.action_segments())
        for name, pair in found.items():
            pooled.setdefault(name, []).append(pair)
    order = sorted(pooled, key=lambda name: int(name.rstrip("+").partition("-")[0]))
    counts = {name: sum(number for _, number in pooled[name]) for name in order}
    sums = {name: sum(error * number for error, number in pooled[name]) for name in order}
    return {name: {"error": sums[name] / counts[name], "actions": counts[name]} for name in order}


def baseline_scores(
    train: Sequence[Labelled], test: Sequence[Labelled], aim: Aim, seed: int = 0, gru_steps: int = 0
) -> dict[str, dict[str, float]]:
    """Compute `progress_scores` of every baseline on the test videos; see `fit_baselines`."""
    rows = {}
    for name, baseline in fit_baselines(train, aim, seed, gru_steps).items():
        estimates = [estimate_of(video, baseline(video.annotation, video.features), aim) for video in test]
        rows[name] = progress_scores(estimates, aim.level)
    return rows


def estimate_of(video: Labelled, pred: Frames, aim: Aim) -> Estimate:
    """Set an estimate beside the target that the annotation gives."""
    return Estimate(video, as_array(pred), aim.target(video.annotation), aim.mask(video.annotation))


def score_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Lay out rows of scores; columns are the names that occur, in order."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:.3f}" if column in row else "" for column in columns))
    return table


def _video_scores(estimate: Estimate, level: Level) -> dict[str, float]:
    pred, target, mask = estimate.pred, estimate.target, estimate.mask
    half = np.full_like(target, 0.5)
    parts = [slice(s.start, s.end + 1) for s in spans(estimate.video.annotation, level)]
    pairs = [(pred[part], target[part]) for part in parts if mask[part].any()]
    return {
        "ope": overall_progress_error(pred, target, mask),
        "ope_clipped": overall_progress_error(pred, target, mask, clip=True),
        "half": overall_progress_error(half, target, mask),
        "r2": r_squared(pred[mask], target[mask]),
        "spearman": _mean([spearman(p, t) for p, t in pairs]),
        "monotonicity": _mean([monotonicity(p) for p, _ in pairs]),
        "first_error": _mean([first_error(p, t) for p, t in pairs]),
        "last_error": _mean([last_error(p, t) for p, t in pairs]),
    }


def _pairs(videos: Sequence[Labelled], most: int) -> list[tuple[Labelled, Labelled]]:
    """Return all ordered pairs of different videos, or `most` of them."""
    pairs = list(permutations(videos, 2))
    if len(pairs) <= most:
        return pairs
    return [pairs[i] for i in np.random.default_rng(0).choice(len(pairs), most, replace=False)]


def _distance_and_truth(pair: tuple[Labelled, Labelled]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the distance of each frame to the nearest of the other video, and whether it lacks there."""
    a, b = pair[0].annotation, pair[1].annotation
    dropped = dropped_frames(a.action_segments(), b.action_segments(), a.num_frames)
    _, distance = pairwise_distances_argmin_min(as_array(pair[0].features), as_array(pair[1].features))
    return distance, dropped


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is defined; nan where nothing is."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
