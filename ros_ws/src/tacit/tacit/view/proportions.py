"""Small-sample statistics of success rates: what n trials can say."""

from __future__ import annotations

import math
from typing import NamedTuple

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


class Interval(NamedTuple):
    """A confidence interval of a proportion."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> Interval:
    """Return the Wilson score interval of a proportion (Wilson 1927); 0..1 without trials.

    Raises:
        ValueError: More successes than trials, or a negative count.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if trials == 0:
        return Interval(0.0, 1.0)
    p, ratio = successes / trials, z * z / trials
    centre = (p + ratio / 2) / (1 + ratio)
    half = z / (1 + ratio) * math.sqrt(p * (1 - p) / trials + ratio / (4 * trials))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))
