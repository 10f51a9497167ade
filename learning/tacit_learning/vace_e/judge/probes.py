"""Probes: what a linear and a nearest-neighbour classifier read from features of held-out episodes.

A loss that falls says nothing about what a feature still tells; these do. Fitted on one set of
episodes, scored on another; rows of unknown label (-1) are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from tacit_learning.vace_e.judge.metrics import Score, Unavailable

NEIGHBOURS = 15  # fewer where a label has fewer rows
MAX_ITERATIONS = 1000
UNKNOWN = -1


class Rows(NamedTuple):
    """Features (N, D) and their labels (N,)."""

    features: np.ndarray
    labels: np.ndarray

    @property
    def known(self) -> Rows:
        """The rows with a label."""
        keep = self.labels != UNKNOWN
        return Rows(self.features[keep], self.labels[keep])


def probe(name: str, fitted: Rows, held_out: Rows) -> dict[str, Score]:
    """Return the accuracy on `held_out` of three classifiers fitted on `fitted`, beside chance.

    Args:
        name: Start of the keys.
        fitted: Rows to fit on.
        held_out: Rows of other episodes.

    Returns:
        `<name>_linear`, `<name>_knn`, `<name>_prototype`, and `<name>_chance`: the accuracy of always
        saying the most frequent label of `fitted`.
    """
    fitted, held_out = fitted.known, held_out.known
    keys = [f"{name}_{kind}" for kind in ("linear", "knn", "prototype", "chance")]
    if len(np.unique(fitted.labels)) < 2:
        return dict.fromkeys(keys, Unavailable("needs two labels to fit"))
    if not len(held_out.labels):
        return dict.fromkeys(keys, Unavailable("no held-out row with a known label"))
    scaler = StandardScaler().fit(fitted.features)
    fitted, held_out = (Rows(scaler.transform(each.features), each.labels) for each in (fitted, held_out))
    values, counts = np.unique(fitted.labels, return_counts=True)
    neighbours = min(NEIGHBOURS, int(counts.min()))
    scores: list[Score] = [
        _accuracy(LogisticRegression(max_iter=MAX_ITERATIONS), fitted, held_out),
        _accuracy(KNeighborsClassifier(neighbours), fitted, held_out),
        _accuracy(NearestCentroid(), fitted, held_out),
    ]
    scores.append(float(np.mean(held_out.labels == values[counts.argmax()])))
    return dict(zip(keys, scores, strict=True))


def _accuracy(classifier: ClassifierMixin, fitted: Rows, held_out: Rows) -> float:
    classifier.fit(fitted.features, fitted.labels)
    return float(classifier.score(held_out.features, held_out.labels))
