"""What an estimate of progress must beat: constants, chance, frame counts, and raw features.

Published heads lost to "always 0.5". A baseline may know more than a model would: at action level the
counts and distances are told when an action starts, and `frame count with class` also which one it is.
Features come z-scored: of raw ones the largest unit would decide alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit_learning.alignment.judge.metrics_pairs import nearest_frames
from tacit_learning.alignment.judge.metrics_progress import Frames, as_array
from tacit_learning.alignment.judge.recurrent import fit_gru
from tacit_learning.data.annotations import Annotation, Segment
from tacit_learning.losses.progress import Level, progress_target

CONSTANTS = (0.0, 0.25, 0.5, 0.75, 1.0)
MAX_MEMORY = 5000
"""Training frames that `raw nearest frame` keeps at most."""

Baseline = Callable[[Annotation, Frames], NDArray[np.float64]]
"""Estimates progress (T,) of a video from its annotation (oracle parts only) and features (T, D)."""


@dataclass(frozen=True)
class Labelled:
    """A training video: its annotation and features (T, D)."""

    annotation: Annotation
    features: Frames


@dataclass(frozen=True)
class Aim:
    """What is estimated: the level, and the mean shares of steps where that is `proportional`."""

    level: Level
    shares: Mapping[str, float] | None = None

    def target(self, annotation: Annotation) -> NDArray[np.float64]:
        """Return the true progress (T,)."""
        return progress_target(annotation, self.level, self.shares).double().numpy()

    def mask(self, annotation: Annotation) -> NDArray[np.bool_]:
        """Return the frames that count (T,)."""
        if self.level == "action":
            return annotation.action_mask()
        return np.ones(annotation.num_frames, bool)


def fit_baselines(
    train: Sequence[Labelled], aim: Aim, seed: int = 0, gru_steps: int = 0
) -> dict[str, Baseline]:
    """Fit all baselines to the training videos.

    Args:
        train: Videos, their features z-scored.
        aim: Level "action" restarts with every action; "video" (and "proportional") does not.
        seed: Seed of the random baseline and the GRU.
        gru_steps: Optimiser steps of the plain causal GRU; 0 leaves it out.

    Returns:
        Name to estimator, in the order of a table.
    """
    level = aim.level
    fitted: dict[str, Baseline] = {f"always {value:g}": _constant(value) for value in CONSTANTS}
    fitted["random"] = _random(seed)
    fitted["frame count"] = _share_of_mean(train, level, _frames_since, by_class=False)
    if level == "action":
        fitted["frame count with class"] = _share_of_mean(train, level, _frames_since, by_class=True)
    fitted["raw travelled distance"] = _share_of_mean(train, level, _distance, by_class=True)
    fitted["raw nearest frame"] = _nearest(train, aim, seed)
    if gru_steps:
        fitted["plain causal GRU"] = _recurrent(train, aim, gru_steps, seed)
    if gru_steps and level == "action":
        fitted["plain causal GRU, start told"] = _recurrent_from_starts(train, aim, gru_steps, seed)
    return fitted


def mean_lengths(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of every class, and that of all values together under ""."""
    means = {name: float(np.mean(found)) for name, found in values.items()}
    return {**means, "": float(np.mean(np.concatenate([list(found) for found in values.values()])))}


def spans(annotation: Annotation, level: Level) -> tuple[Segment, ...]:
    """Return what progress is counted over: each action, or the video as a whole (named "")."""
    if level == "action":
        return annotation.action_segments()
    return (Segment("", 0, annotation.num_frames - 1),)


def _constant(value: float) -> Baseline:
    return lambda annotation, features: np.full(annotation.num_frames, value)


def _random(seed: int) -> Baseline:
    rng = np.random.default_rng(seed)
    return lambda annotation, features: rng.random(annotation.num_frames)


def _share_of_mean(
    train: Sequence[Labelled],
    level: Level,
    amount: Callable[[Frames, Segment], NDArray[np.float64]],
    by_class: bool,
) -> Baseline:
    """An amount that grows over a span (L,), over its mean total in training, of the class or of all."""
    totals: dict[str, list[float]] = {}
    for video in train:
        for span in spans(video.annotation, level):
            totals.setdefault(span.name, []).append(float(amount(video.features, span)[-1]))
    means = mean_lengths(totals)

    def estimate(annotation: Annotation, features: Frames) -> NDArray[np.float64]:
        progress = np.zeros(annotation.num_frames)
        for span in spans(annotation, level):
            total = max(means.get(span.name if by_class else "", means[""]), 1e-12)
            progress[span.start : span.end + 1] = amount(features, span) / total
        return np.clip(progress, 0, 1)

    return estimate


def _frames_since(features: Frames, span: Segment) -> NDArray[np.float64]:
    """Return how many frames of a span have gone, this one included (L,)."""
    return np.arange(1, span.length + 1, dtype=np.float64)


def _recurrent(train: Sequence[Labelled], aim: Aim, steps: int, seed: int) -> Baseline:
    """A GRU that sees the stream from its beginning, and nothing else."""
    features = [_rows(video.features) for video in train]
    targets = [aim.target(video.annotation).astype(np.float32) for video in train]
    net = fit_gru(features, targets, [aim.mask(video.annotation) for video in train], steps, seed)
    return lambda annotation, features: net.estimate(_rows(features))


def _recurrent_from_starts(train: Sequence[Labelled], aim: Aim, steps: int, seed: int) -> Baseline:
    """A GRU that starts anew where an action truly starts."""
    pairs = [(video, span) for video in train for span in spans(video.annotation, aim.level)]
    features = [_rows(video.features)[span.start : span.end + 1] for video, span in pairs]
    targets = [np.linspace(0, 1, span.length + 1)[1:].astype(np.float32) for _, span in pairs]
    net = fit_gru(features, targets, [np.ones(len(target), bool) for target in targets], steps, seed)

    def estimate(annotation: Annotation, features: Frames) -> NDArray[np.float64]:
        progress = np.zeros(annotation.num_frames)
        for span in spans(annotation, aim.level):
            inside = slice(span.start, span.end + 1)
            progress[inside] = net.estimate(_rows(features)[inside])
        return progress

    return estimate


def _rows(features: Frames) -> NDArray[np.float32]:
    return as_array(features).astype(np.float32)


def _nearest(train: Sequence[Labelled], aim: Aim, seed: int) -> Baseline:
    """Progress of the most similar training frame; at action level frames of actions only."""
    masks = [aim.mask(video.annotation) for video in train]
    memory = np.concatenate([as_array(v.features)[mask] for v, mask in zip(train, masks, strict=True)])
    known = np.concatenate([aim.target(v.annotation)[mask] for v, mask in zip(train, masks, strict=True)])
    kept = np.random.default_rng(seed).permutation(len(memory))[:MAX_MEMORY]
    memory, known = memory[kept], known[kept]
    return lambda annotation, features: known[nearest_frames(features, memory)]


def _distance(features: Frames, span: Segment) -> NDArray[np.float64]:
    """Return the distance travelled since the first frame of a span (L,)."""
    part = as_array(features)[span.start : span.end + 1]
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(part, axis=0), axis=1))])
