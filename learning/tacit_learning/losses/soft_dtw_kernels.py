"""Soft-DTW compiled by numba: one pair at a time, anti-diagonals first.

Along an anti-diagonal no cell waits for another, so the processor overlaps their exponentials: twice
as fast as row by row. Optional: `soft_dtw` falls back to torch where numba is not installed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def forward(
    cost: np.ndarray, rows: int, gamma: float, starts: np.ndarray, stops: np.ndarray, weights: np.ndarray
) -> float:
    """Return R_NM and write the softmin weights of (i-1,j-1), (i-1,j), (i,j-1) into `weights` (.., .., 3).

    Reads the first `rows` rows of `cost` and as many columns as there are anti-diagonals for; `starts`
    and `stops` (N + M - 1,) are the open rows of each. `weights` comes as zeros. Slot i + 1 of a
    diagonal buffer holds row i, slot 0 the border.
    """
    before = np.full(rows + 3, np.inf)
    last = np.full(rows + 3, np.inf)
    current = np.full(rows + 3, np.inf)
    before[0] = 0.0
    inverse = 1.0 / gamma
    for d in range(len(starts)):
        for i in range(starts[d], stops[d]):
            diagonal, up, left = before[i], last[i], last[i + 1]
            least = min(diagonal, min(up, left))
            if least == np.inf:
                current[i + 1] = np.inf
                continue
            a = math.exp((least - diagonal) * inverse)
            b = math.exp((least - up) * inverse)
            c = math.exp((least - left) * inverse)
            total = a + b + c
            current[i + 1] = cost[i, d - i] + least - gamma * math.log(total)
            share = 1.0 / total
            weights[i, d - i, 0], weights[i, d - i, 1], weights[i, d - i, 2] = a * share, b * share, c * share
        # The next two diagonals read one row beyond either end of this one; nothing below its start.
        current[starts[d]] = np.inf
        current[stops[d] + 1] = np.inf
        current[stops[d] + 2] = np.inf
        before, last, current = last, current, before
    return last[rows]


@njit(cache=True, nogil=True)
def backward(weights: np.ndarray, rows: int, columns: int, expected: np.ndarray) -> None:
    """Write dR_NM / dD into `expected`, which comes as zeros: how much the soft path uses each cell."""
    expected[rows - 1, columns - 1] = 1.0
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            use = expected[i, j]
            if j + 1 < columns:
                use += expected[i, j + 1] * weights[i, j + 1, 2]
                if i + 1 < rows:
                    use += expected[i + 1, j + 1] * weights[i + 1, j + 1, 0]
            if i + 1 < rows:
                use += expected[i + 1, j] * weights[i + 1, j, 1]
            expected[i, j] = use
