"""Rigid transforms as 4x4 arrays: `T_a_b` maps coordinates in b to a, `p_a = T_a_b @ p_b`.

Quaternions are xyzw, lengths metres, angles radians. Batched where an axis is named `...`.
Rotations alone live in `tacit.geometry.rotations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, PlainSerializer

from tacit.geometry.rotations import FloatArray as FloatArray
from tacit.geometry.rotations import (
    rotation_angle,
    rotation_from_quaternion,
    rotation_from_rpy,
    rotation_to_quaternion,
    slerp,
)

ORTHONORMAL_TOLERANCE = 1e-6
"""Largest accepted entry of |R^T R - I|: ten times what YAML text with 7 digits can lose."""


def check_transform(T: ArrayLike, name: str = "T") -> FloatArray:
    """Return `T` as (4, 4) float64 after checking that it is a rigid transform.

    Args:
        T: Candidate (4, 4).
        name: How the message calls it.

    Raises:
        ValueError: Wrong shape, not finite, bottom row, not orthonormal, or determinant -1.
    """
    T = np.asarray(T, dtype=np.float64)
    if T.shape != (4, 4):
        raise ValueError(f"{name}: shape {T.shape}, expected (4, 4)")
    if not np.isfinite(T).all():
        raise ValueError(f"{name}: has entries that are not finite")
    if not np.array_equal(T[3], [0, 0, 0, 1]):
        raise ValueError(f"{name}: bottom row is {T[3].tolist()}, expected [0, 0, 0, 1]")
    R = T[:3, :3]
    error = float(np.abs(R.T @ R - np.eye(3)).max())
    if error > ORTHONORMAL_TOLERANCE:
        raise ValueError(
            f"{name}: rotation is not orthonormal (error {error:.1e}, allowed "
            f"{ORTHONORMAL_TOLERANCE:.0e}); write at least 7 digits or use a quaternion"
        )
    # Asked last: a determinant of a matrix that is not orthonormal says nothing.
    if np.linalg.det(R) < 0:
        raise ValueError(f"{name}: rotation has determinant -1 (a mirror), expected +1")
    return T


def invert(T: ArrayLike) -> FloatArray:
    """Return the inverse of rigid transforms (..., 4, 4): T_b_a from T_a_b."""
    T = np.asarray(T, dtype=np.float64)
    R_transposed = np.swapaxes(T[..., :3, :3], -1, -2)
    inverse = np.zeros_like(T)
    # Not np.linalg.inv: the transpose keeps a rotation a rotation to the last digit.
    inverse[..., :3, :3] = R_transposed
    inverse[..., :3, 3] = -(R_transposed @ T[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def from_translation(xyz: ArrayLike) -> FloatArray:
    """Return pure translations (..., 4, 4) from (..., 3) [m]."""
    xyz = np.asarray(xyz, dtype=np.float64)
    T = np.broadcast_to(np.eye(4), (*xyz.shape[:-1], 4, 4)).copy()
    T[..., :3, 3] = xyz
    return T


def from_rotation(R: ArrayLike, xyz: ArrayLike = (0.0, 0.0, 0.0)) -> FloatArray:
    """Return transforms (..., 4, 4) with rotations `R` (..., 3, 3) and translations `xyz` (..., 3) [m]."""
    R = np.asarray(R, dtype=np.float64)
    T = np.broadcast_to(from_translation(xyz), (*R.shape[:-2], 4, 4)).copy()
    T[..., :3, :3] = R
    return T


def from_quaternion(q_xyzw: ArrayLike, xyz: ArrayLike) -> FloatArray:
    """Return transforms (..., 4, 4) from quaternions xyzw (..., 4) and translations (..., 3) [m]."""
    return from_rotation(rotation_from_quaternion(q_xyzw), xyz)


def interpolate(T_from: ArrayLike, T_to: ArrayLike, fraction: ArrayLike) -> FloatArray:
    """Return poses (..., 4, 4) between two poses: translation linear, rotation by slerp."""
    T_from, T_to = np.asarray(T_from, np.float64), np.asarray(T_to, np.float64)
    t = np.asarray(fraction, dtype=np.float64)
    q = slerp(rotation_to_quaternion(T_from[..., :3, :3]), rotation_to_quaternion(T_to[..., :3, :3]), t)
    xyz = T_from[..., :3, 3] + t[..., None] * (T_to[..., :3, 3] - T_from[..., :3, 3])
    return from_quaternion(q, xyz)


def transform_points(T_a_b: ArrayLike, points_b: ArrayLike) -> FloatArray:
    """Return points_a (..., N, 3) of points_b (..., N, 3) under T_a_b (..., 4, 4)."""
    T = np.asarray(T_a_b, dtype=np.float64)
    rotated = np.asarray(points_b, np.float64) @ np.swapaxes(T[..., :3, :3], -1, -2)
    return rotated + T[..., None, :3, 3]


class PoseError(NamedTuple):
    """How far two poses are apart: `translation` (...) [m] and `rotation` (...) in [0, pi] [rad]."""

    translation: FloatArray
    rotation: FloatArray


def pose_error(T_a: ArrayLike, T_b: ArrayLike) -> PoseError:
    """Return the distance of the origins and the angle between poses (..., 4, 4)."""
    T_a, T_b = np.asarray(T_a, np.float64), np.asarray(T_b, np.float64)
    distance = np.linalg.norm(T_a[..., :3, 3] - T_b[..., :3, 3], axis=-1)
    return PoseError(distance, rotation_angle(np.swapaxes(T_a[..., :3, :3], -1, -2) @ T_b[..., :3, :3]))


def parse_transform(value: Any) -> FloatArray:
    """Read a transform as people write it in YAML.

    Args:
        value: A 4x4 list, or a mapping with `xyz` [m] and one of `rpy` [rad], `rpy_deg`,
            `quaternion_xyzw`, `rotation` (3x3); what is left out is zero.

    Raises:
        ValueError: Neither form, or not a rigid transform.
    """
    try:
        return _transform_of(value)
    except TypeError:  # a mapping or a date where a number should stand
        raise ValueError("transform: expected numbers, as a 4x4 list or as `xyz` with one rotation") from None


def _transform_of(value: Any) -> FloatArray:
    if not isinstance(value, Mapping):
        return check_transform(value, "transform")
    keys = set(value)
    rotations = keys & {"rpy", "rpy_deg", "quaternion_xyzw", "rotation"}
    if keys - rotations - {"xyz"} or len(rotations) > 1:
        raise ValueError(
            f"transform with keys {sorted(keys)}: expected a 4x4 list, or `xyz` with one of "
            "rpy, rpy_deg, quaternion_xyzw, rotation"
        )
    if "rpy" in value:
        R = rotation_from_rpy(value["rpy"])
    elif "rpy_deg" in value:
        R = rotation_from_rpy(np.deg2rad(np.asarray(value["rpy_deg"], dtype=np.float64)))
    elif "quaternion_xyzw" in value:
        R = rotation_from_quaternion(value["quaternion_xyzw"])
    else:
        R = np.asarray(value.get("rotation", np.eye(3)), dtype=np.float64)
    return check_transform(from_rotation(R, value.get("xyz", (0.0, 0.0, 0.0))), "transform")


def _read_only(array: FloatArray) -> FloatArray:
    array.setflags(write=False)
    return array


Transform = Annotated[
    np.ndarray, BeforeValidator(lambda v: _read_only(parse_transform(v))), PlainSerializer(np.ndarray.tolist)
]
"""Pydantic field type: a checked, read-only (4, 4) transform."""
