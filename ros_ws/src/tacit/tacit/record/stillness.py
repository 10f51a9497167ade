"""Does the arm stand still, and has it stood here before? The same answer live and in a recording.

A picture taken in motion pairs the board of one instant with the joints of another: 30 ms at 1 rad/s
and .6 m are 18 mm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tacit.geometry.transforms import FloatArray

STILL_S = 0.5
STILL_RAD, STILL_M = 1.5e-3, 5e-4
"""Range of a joint over the window: encoder noise and a servo's last creep, under .1 degree."""
NEW_RAD, NEW_M = float(np.deg2rad(2.0)), 1e-3
"""A pose is a new one when a joint has turned, or the gripper opened, by more than this."""
MAX_GAP_S = 0.2
"""Without a value for so long nobody knows whether the arm moved."""


@dataclass(frozen=True)
class Tolerances:
    """Per element (n,): what counts as still, and what as another pose."""

    still: FloatArray
    new: FloatArray

    @classmethod
    def of(cls, num_joints: int, has_gripper: bool) -> Tolerances:
        """Return the defaults for `num_joints` joints [rad] and perhaps a gripper opening [m]."""
        gripper = [1.0] if has_gripper else []
        joints = np.ones(num_joints)
        return cls(
            np.concatenate([STILL_RAD * joints, STILL_M * np.array(gripper)]),
            np.concatenate([NEW_RAD * joints, NEW_M * np.array(gripper)]),
        )


class StillDetector:
    """Remembers the last values of a vector and says whether they stand still.

    Args:
        tolerance: Largest range (n,) of each element within the window.
        window_ns: How long it must stand.
    """

    def __init__(self, tolerance: FloatArray, window_ns: int = round(STILL_S * 1e9)) -> None:
        self._tolerance, self._window_ns = np.asarray(tolerance, dtype=np.float64), window_ns
        self._values: deque[tuple[int, FloatArray]] = deque()

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the last value; None before the first."""
        return self._values[-1][0] if self._values else None

    def add(self, stamp_ns: int, values: ArrayLike) -> None:
        """Take a value (n,); one that is not newer than the last starts a new history."""
        if self._values and stamp_ns <= self._values[-1][0]:
            self._values.clear()
        self._values.append((stamp_ns, np.asarray(values, dtype=np.float64)))
        while self._values[0][0] < stamp_ns - 4 * self._window_ns:
            self._values.popleft()

    def still_at(self, stamp_ns: int) -> FloatArray | None:
        """Return the mean (n,) over the window that ends at `stamp_ns` if it stood still, else None.

        None also while the window is not covered by values without a gap.
        """
        start_ns = stamp_ns - self._window_ns
        inside = [(stamp, values) for stamp, values in self._values if start_ns <= stamp <= stamp_ns]
        if len(inside) < 2:
            return None
        stamps = np.array([start_ns, *(stamp for stamp, _ in inside), stamp_ns])
        stood = np.stack([values for _, values in inside])
        if np.diff(stamps).max() > MAX_GAP_S * 1e9 or not np.isfinite(stood).all():
            return None
        return None if (np.ptp(stood, axis=0) > self._tolerance).any() else np.asarray(stood.mean(axis=0))


def is_new(pose: FloatArray, before: Iterable[FloatArray], tolerance: FloatArray) -> bool:
    """Tell whether a pose (n,) differs from every one of `before` by more than `tolerance` somewhere."""
    return all((np.abs(pose - other) > tolerance).any() for other in before)
