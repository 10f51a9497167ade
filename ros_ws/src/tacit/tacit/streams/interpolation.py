"""The one rule by which numbers are brought from their own stamps to others, live and offline alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SILENT_PERIODS = 5
"""A gap of more periods is not bridged. Joints of 100 Hz then had 50 ms to turn back: a line is a guess."""


class Interpolated(NamedTuple):
    """Values (T, n) float64, and whether each (T,) lies between two samples close enough to tell."""

    values: NDArray[np.float64]
    fresh: NDArray[np.bool_]


def interpolate(stamps_ns: ArrayLike, values: ArrayLike, at_ns: ArrayLike, period_ns: int) -> Interpolated:
    """Return the values of a stream at other instants.

    Linear between neighbours at most `SILENT_PERIODS` apart. In a wider gap, and after the last sample,
    the earlier value is held and not fresh; before the first there is none (NaN).

    Args:
        stamps_ns: Effective stamps (N,), strictly increasing; the latency is subtracted already.
        values: Samples (N, n).
        at_ns: Instants (T,), in any order.
        period_ns: Nominal period of the stream.
    """
    stamps, at = np.asarray(stamps_ns, dtype=np.int64), np.asarray(at_ns, dtype=np.int64)
    samples = np.asarray(values, dtype=np.float64)
    if not len(stamps):
        return Interpolated(np.full((len(at), *samples.shape[1:]), np.nan), np.zeros(len(at), dtype=bool))
    later = np.searchsorted(stamps, at, side="right")
    before, after = np.maximum(later - 1, 0), np.minimum(later, len(stamps) - 1)
    gap_ns, past_ns = stamps[after] - stamps[before], at - stamps[before]
    bridged = (gap_ns > 0) & (gap_ns <= SILENT_PERIODS * period_ns) & (past_ns > 0)
    weight = np.where(bridged, past_ns / np.maximum(gap_ns, 1), 0.0)[:, None]
    low = samples[before]
    # A held value is taken as it is: 0 times a neighbour that is not a number would spoil it.
    between = np.where(bridged[:, None], low + weight * (samples[after] - low), low)
    between[later == 0] = np.nan
    return Interpolated(between, bridged | (past_ns == 0))
