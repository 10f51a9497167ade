"""Judges the readings of one touch sensor without a camera: numbers, of the size of the rig, not repeated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.rig import TaxelSpec
from tacit.streams.findings import Finding

BEYOND = 1.0
"""So many widths of its range beyond it, a reading is of another unit than the rig says."""


class TaxelJudge:
    """Judges the readings (R, C, K) of one array.

    Args:
        spec: Its size, its range, and how many equal readings in a row are a driver that stands still.

    Attributes:
        longest_repeat: Most equal readings in a row, of those that are not all zero.
    """

    def __init__(self, spec: TaxelSpec) -> None:
        self._shape, self._frozen_after = spec.array.shape, spec.frozen_after
        span = spec.array.high - spec.array.low
        self._lowest, self._highest = spec.array.low - BEYOND * span, spec.array.high + BEYOND * span
        self._unit = spec.array.unit or "the unit of the rig"
        self.reset()

    def reset(self) -> None:
        """Forget the readings seen."""
        self._before: NDArray[np.float32] | None = None
        self._repeats = 0
        self.longest_repeat = 1

    def judge(self, reading: NDArray[np.float32]) -> Finding | None:
        """Return what is wrong with a reading; one of another size, or not of numbers, is refused."""
        if reading.shape != self._shape:
            return Finding("size", f"{_times(reading.shape)} values, the rig says {_times(self._shape)}")
        bad = ~np.isfinite(reading)
        if bad.any():
            where = np.argwhere(bad)[0].tolist()
            text = f"{int(bad.sum())} of {bad.size} values are no numbers; the first is {where}"
            return Finding("not_finite", text)
        before, self._before = self._before, reading
        same = before is not None and bool(np.array_equal(before, reading)) and bool(reading.any())
        self._repeats = self._repeats + 1 if same else 0
        self.longest_repeat = max(self.longest_repeat, self._repeats + 1)
        if self._repeats + 1 >= self._frozen_after:
            return Finding(
                "frozen",
                f"{self._repeats + 1} readings in a row are the same to the bit; does its driver still read? "
                "(`frozen_after` in the rig, if it repeats readings)",
                refused=False,
            )
        if ((reading < self._lowest) | (reading > self._highest)).any():
            return Finding(
                "out_of_limits",
                f"from {reading.min():.4g} to {reading.max():.4g}, far beyond the range of the rig; does the "
                f"driver speak {self._unit}?",
                refused=False,
            )
        return None


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
