"""Thresholds of the detector that suit a model, fitted to validation episodes and a false-alarm rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tacit.progress import DetectorConfig
from tacit_learning.alignment.judge.predict import Prediction
from tacit_learning.alignment.judge.verdicts import Tally, judge, said_of, tally
from tacit_learning.data.annotations import Annotation

LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
PATIENCE_S = (3.0, 4.0, 5.0, 7.0, 10.0)
BELOW = 0.6
"""Part of the upper threshold at which the lower one lies."""


def tune(
    annotations: Sequence[Annotation],
    predictions: Sequence[Prediction],
    kinds: Sequence[str],
    false_alarms: float,
    base: DetectorConfig | None = None,
) -> DetectorConfig:
    """Fit the thresholds, one after the other, each as the middle of those that serve equally well.

    Of success: fewest false and early `done`, then most right ones, then soonest. Of failure, and of the
    patience before a stall: no more false alarms than stated, then most failures found and named.

    Args:
        annotations: Validation videos, successes and failures.
        predictions: What the model says of them.
        kinds: Of failure, in the order of the predictions.
        false_alarms: Largest share of successes with a false alarm.
        base: What is not fitted.
    """
    config = base or DetectorConfig()
    complete = [a.num_frames / a.fps for a in annotations if a.success is not False]
    config = config.model_copy(update={"length_s": float(np.mean(complete)) if complete else None})

    def counts(changes: Mapping[str, float]) -> Tally:
        tried = config.model_copy(update=dict(changes))
        pairs = zip(annotations, predictions, strict=True)
        return tally(judge(a, said_of(p, a.fps, tried, kinds)) for a, p in pairs)

    def done(found: Tally) -> tuple[float, ...]:
        wrong = found.false_done.right + found.early.right
        return (-wrong, found.done_recall.right)

    def alarms(found: Tally) -> tuple[float, ...]:
        allowed = false_alarms * found.false_alarms.total
        excess = max(0.0, found.false_alarms.right - allowed)
        return (-excess, found.named.right + found.found.right)

    if predictions[0].success is not None:
        config = config.model_copy(update=_best(_levels("success"), counts, done))
    if predictions[0].failure is not None and kinds:
        config = config.model_copy(update=_best(_levels("failure"), counts, alarms))
    patience = [{"stall_after_s": seconds} for seconds in PATIENCE_S]
    return config.model_copy(update=_best(patience, counts, alarms))


def _levels(name: str) -> list[dict[str, float]]:
    return [{f"{name}_above": level, f"{name}_below": BELOW * level} for level in LEVELS]


def _best(
    choices: Sequence[dict[str, float]],
    counts: Callable[[Mapping[str, float]], Tally],
    worth: Callable[[Tally], tuple[float, ...]],
) -> dict[str, float]:
    """Return the middle of the longest run of choices that are worth the most."""
    values = [worth(counts(choice)) for choice in choices]
    best = max(values)
    runs: list[list[int]] = [[]]
    for i, value in enumerate(values):
        if value == best:
            runs[-1].append(i)
        elif runs[-1]:
            runs.append([])
    longest = max(runs, key=len)
    return choices[longest[len(longest) // 2]]
