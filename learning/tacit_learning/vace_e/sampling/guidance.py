"""Classifier-free guidance with a scale of its own for each kind of condition.

Brooks et al. 2023, arXiv:2211.09800, Eq. 3, for any number of conditions: they are added one after
the other, and the scale of each weighs what it changes. Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from tacit.config import Config

Cue = Literal["text", "motion", "objects", "embodiment"]
ORDER: tuple[Cue, ...] = ("text", "motion", "objects", "embodiment")


class GuidanceScales(Config):
    """Weight of each cue; 1 = as trained, 0 = left out, above 1 = more of it.

    `text` is both the prompt of the base model and the text stream.
    """

    text: float = 5.0
    motion: float = 1.0
    objects: float = 1.0
    embodiment: float = 1.0


def guided_velocity(velocity: Callable[[frozenset[Cue]], Tensor], scales: GuidanceScales) -> Tensor:
    """Compute v(none) + sum_k s_k (v(cues 1..k) - v(cues 1..k-1)), cues in the order of ORDER.

    Neighbours with equal scales need no evaluation between them; all at 1 need one in total.

    Args:
        velocity: Predicts with these cues present and the others absent.
        scales: s.
    """
    weights = [0.0] * (len(ORDER) + 1)  # of v with the first k cues
    for index, cue in enumerate(ORDER):
        scale = getattr(scales, cue)
        weights[index + 1] += scale
        weights[index] -= scale
    weights[0] += 1.0
    needed = [(weight, frozenset(ORDER[:index])) for index, weight in enumerate(weights) if weight != 0.0]
    (weight, cues), *rest = needed
    total = weight * velocity(cues)
    for weight, cues in rest:
        total = total + weight * velocity(cues)
    return total
