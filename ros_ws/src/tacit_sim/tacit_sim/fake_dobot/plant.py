"""What stands behind a fake controller: an arm of six joints, and a gripper with a register."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tacit.geometry.transforms import FloatArray

GRIPPER_PER_S = 2000.0
"""Units of the position register per second: half a second from open to closed."""


class Plant(Protocol):
    """What moves."""

    def joints(self) -> tuple[FloatArray, FloatArray]:
        """Return angles (6,) [rad] and rates (6,) [rad/s]."""

    def follow(self, q: FloatArray) -> None:
        """Take where to be now, (6,) [rad]."""

    def grip(self, value: float) -> None:
        """Take the gripper's target register."""

    def opening(self) -> float:
        """Return the gripper's position register."""

    def step(self, seconds: float) -> None:
        """Let time pass."""


class FollowingArm:
    """An arm that is where it was told, and a gripper of limited speed.

    Args:
        q: Angles at the start (6,) [rad].
    """

    def __init__(self, q: FloatArray) -> None:
        self._q, self._qd = np.array(q, dtype=np.float64), np.zeros(6)
        self._wanted, self._opening, self._target = self._q.copy(), 1000.0, 1000.0

    def joints(self) -> tuple[FloatArray, FloatArray]:
        """Return where it is."""
        return self._q, self._qd

    def follow(self, q: FloatArray) -> None:
        """Be there after the next step."""
        self._wanted = q

    def grip(self, value: float) -> None:
        """Go there."""
        self._target = value

    def opening(self) -> float:
        """Return where the gripper is."""
        return self._opening

    def step(self, seconds: float) -> None:
        """Move."""
        self._qd, self._q = (self._wanted - self._q) / seconds, self._wanted.copy()
        reach = GRIPPER_PER_S * seconds
        self._opening += min(max(self._target - self._opening, -reach), reach)
