"""A table of robot poses as a file has them, before anybody knows what its numbers mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tacit.geometry.transforms import FloatArray

Angle = Literal["deg", "rad", ""]
Unit = Literal["m", "cm", "mm", ""]
Order = Literal["xyzw", "wxyz", ""]
Turn = Literal["rpy", "rotation vector", ""]
Numbers = tuple[float, ...]
LOOSE_LENGTH = 1e-2
"""How far a quaternion's length may be from 1, as printed with few digits."""
LENGTHS = (6, 7, 12, 16)
"""Place with three angles, with a quaternion, a 3x4 and a 4x4 matrix."""
EXPECTED = (
    "a place with a quaternion (7 numbers), with three angles or a rotation vector (6), or a 4x4 matrix (16)"
)
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
"""A number by itself, not the 10 of `p10` or the 1 of `Waypoint_1_p`."""


@dataclass(frozen=True)
class PoseRow:
    """One robot pose: its numbers, the picture that was taken there, and the board's pose if it is given.

    Attributes:
        robot: 6, 7, 12 or 16 numbers.
        picture: Name of the picture, or of the file that held the pose; empty where nothing is said.
        board: Pose of the board in the camera, in the same form.
        joints: Values of the joints there, where they are given too [rad or m].
    """

    robot: Numbers
    picture: str = ""
    board: Numbers | None = None
    joints: Numbers | None = None


@dataclass(frozen=True)
class PoseTable:
    """Robot poses as a file has them.

    Attributes:
        rows: The poses, all with as many numbers.
        unit: Of places: m, cm, mm, or empty where the file does not say.
        angle: Of angles, likewise.
        quaternion: xyzw or wxyz where names say so.
        turn: rpy or rotation vector where names say so.
        named: Names of the columns, where there are any.
    """

    rows: tuple[PoseRow, ...]
    unit: Unit = ""
    angle: Angle = ""
    quaternion: Order = ""
    turn: Turn = ""
    named: tuple[str, ...] = ()

    @property
    def robot(self) -> FloatArray:
        """Numbers (n, k) of the robot poses."""
        return np.array([row.robot for row in self.rows], dtype=np.float64)

    @property
    def boards(self) -> FloatArray | None:
        """Numbers (n, k) of the board's poses, None where pictures must tell."""
        if any(row.board is None for row in self.rows):
            return None
        return np.array([row.board for row in self.rows], dtype=np.float64)

    @property
    def joints(self) -> FloatArray | None:
        """Joints (n, j), None where some row has none, or another number of them."""
        counts = {len(row.joints or ()) for row in self.rows}
        if len(counts) != 1 or 0 in counts:
            return None
        return np.array([row.joints for row in self.rows], dtype=np.float64)

    @property
    def in_order(self) -> PoseTable:
        """The table with its place first, where seven bare numbers are something else than place, quaternion.

        Some write the quaternion before the place, some a counter or a time before six numbers.
        """
        values = self.robot
        if self.named or values.shape[1] != 7 or _are_quaternions(values[:, 3:]):
            return self
        if _are_quaternions(values[:, :4]):
            order = [4, 5, 6, 0, 1, 2, 3]
        elif len(values) > 1 and (np.diff(values[:, 0]) > 0).all():
            order = [1, 2, 3, 4, 5, 6]
        else:
            return self
        rows = (replace(row, robot=tuple(row.robot[i] for i in order)) for row in self.rows)
        return replace(self, rows=tuple(rows))


def _are_quaternions(values: FloatArray) -> bool:
    return bool((np.abs(np.linalg.norm(values, axis=1) - 1) < LOOSE_LENGTH).all())
