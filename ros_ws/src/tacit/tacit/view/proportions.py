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


def paired_p(only_first: int, only_second: int) -> float:
    """Return how likely chance alone parts two equal policies at least so far on the same starts.

    The exact two-sided form of McNemar's test (1947): among starts where just one of them succeeded, either
    is as likely.

    Args:
        only_first: Starts on which only the first succeeded.
        only_second: Starts on which only the second did.
    """
    trials, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(trials, k) for k in range(fewer + 1)) / 2**trials
    return min(1.0, 2.0 * tail)


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
