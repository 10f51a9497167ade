"""Numbers as MJCF text, with every digit: what is read back is what was meant."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tacit.geometry.transforms import FloatArray


def pose_attributes(T: FloatArray) -> str:
    """Return `pos=... quat=...` (wxyz) of a transform."""
    import mujoco

    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(T[:3, :3]).ravel())
    return f'pos="{numbers(T[:3, 3])}" quat="{numbers(quaternion)}"'


def numbers(values: Iterable[float]) -> str:
    """Return the values, parted by spaces."""
    return " ".join(repr(float(value)) for value in values)
