"""Representations of rotation: matrix, quaternion xyzw, rotation vector, rpy, six numbers.

Pure functions on float64 arrays, batched where an axis is named `...`; `tacit.geometry.transforms` joins
them with translations. Angles in radians.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

SMALL_ANGLE = 1e-7
"""Below this [rad] sin(a)/a differs from 1 by less than 2e-15: the series is exact in float64."""


def rotation_from_rpy(rpy: ArrayLike) -> FloatArray:
    """Return R (3, 3) of fixed-axes roll, pitch, yaw [rad], as in URDF: Rz(yaw) Ry(pitch) Rx(roll)."""
    roll, pitch, yaw = np.asarray(rpy, dtype=np.float64)
    cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (np.cos, np.sin))
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rotation_to_rpy(R: ArrayLike) -> FloatArray:
    """Return fixed-axes roll, pitch, yaw (3,) [rad] of R (3, 3); at pitch +-pi/2 the roll is 0."""
    R = np.asarray(R, dtype=np.float64)
    level = np.hypot(R[0, 0], R[1, 0])
    pitch = np.arctan2(-R[2, 0], level)
    if level < SMALL_ANGLE:
        return np.array([0.0, pitch, np.arctan2(-R[0, 1], R[1, 1])])
    return np.array([np.arctan2(R[2, 1], R[2, 2]), pitch, np.arctan2(R[1, 0], R[0, 0])])


def rotation_from_quaternion(q_xyzw: ArrayLike) -> FloatArray:
    """Return R (..., 3, 3) of quaternions xyzw (..., 4) of any non-zero norm.

    Raises:
        ValueError: A quaternion is not four finite numbers, or has norm 0.
    """
    q = np.asarray(q_xyzw, dtype=np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True) if q.shape[-1:] == (4,) else np.zeros(1)
    if not (np.isfinite(norm) & (norm > 1e-9)).all():
        raise ValueError(f"quaternion {q.tolist()}: expected xyzw with a norm above 0")
    x, y, z, w = np.moveaxis(q / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_to_quaternion(R: ArrayLike) -> FloatArray:
    """Return unit quaternions xyzw (..., 4) of rotations (..., 3, 3), with w >= 0.

    Shepperd's choice of pivot, vectorised: of the four rows of 4 q q^T (all linear in R) the one
    with the largest diagonal is normalised, which stays accurate at half turns.
    """
    R = np.asarray(R, dtype=np.float64)
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    xy, xz, yz = R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 2] + R[..., 2, 1]
    xw, yw, zw = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    rows = [
        [1 + xx - yy - zz, xy, xz, xw],
        [xy, 1 - xx + yy - zz, yz, yw],
        [xz, yz, 1 - xx - yy + zz, zw],
        [xw, yw, zw, 1 + xx + yy + zz],
    ]
    outer = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    pivot = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(outer, pivot[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    # One of the two signs by convention, so that equal rotations give equal numbers.
    return np.where(q[..., 3:] < 0, -q, q)


def slerp(q_from: ArrayLike, q_to: ArrayLike, fraction: ArrayLike) -> FloatArray:
    """Interpolate unit quaternions xyzw along the shorter arc at constant angular speed.

    Args:
        q_from: Quaternions (..., 4) at fraction 0.
        q_to: Quaternions (..., 4) at fraction 1.
        fraction: (...) in [0, 1]; broadcasts against the quaternions.

    Returns:
        Unit quaternions (..., 4).
    """
    a, b = np.broadcast_arrays(np.asarray(q_from, np.float64), np.asarray(q_to, np.float64))
    t = np.asarray(fraction, dtype=np.float64)[..., None]
    dot = np.sum(a * b, axis=-1, keepdims=True)
    b = np.where(dot < 0, -b, b)  # q and -q are one rotation; the nearer one gives the shorter arc
    # By half chords, since arccos(dot) loses half of its digits near 0.
    angle = np.arctan2(np.linalg.norm(b - a, axis=-1), np.linalg.norm(b + a, axis=-1))[..., None] * 2
    scale = np.where(angle > SMALL_ANGLE, np.sin(angle), 1.0)
    weight_a = np.where(angle > SMALL_ANGLE, np.sin((1 - t) * angle) / scale, 1 - t)
    weight_b = np.where(angle > SMALL_ANGLE, np.sin(t * angle) / scale, t)
    q = weight_a * a + weight_b * b
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def rotation_to_6d(R: ArrayLike) -> FloatArray:
    """Return the first two COLUMNS of R (..., 3, 3), one after the other, as (..., 6).

    Zhou et al. 2019, arXiv:1812.07035. Some code stores the first two rows; ours never does.
    """
    R = np.asarray(R, dtype=np.float64)
    return np.concatenate([R[..., :, 0], R[..., :, 1]], axis=-1)


def rotation_angle(R: ArrayLike) -> FloatArray:
    """Return the angle (...) of rotations (..., 3, 3) in [0, pi] [rad], accurate near 0 and pi."""
    R = np.asarray(R, dtype=np.float64)
    q = rotation_to_quaternion(R)
    return 2 * np.arctan2(np.linalg.norm(q[..., :3], axis=-1), q[..., 3])


def rotation_to_vector(R: ArrayLike) -> FloatArray:
    """Return the rotation vectors (..., 3), axis times angle [rad], of rotations (..., 3, 3)."""
    q = rotation_to_quaternion(R)
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., 3:])
    return q[..., :3] * np.where(sine > SMALL_ANGLE, angle / np.where(sine > 0, sine, 1.0), 2.0)


def rotation_from_vector(vector: ArrayLike) -> FloatArray:
    """Return rotations (..., 3, 3) from rotation vectors (..., 3), axis times angle [rad]."""
    vector = np.asarray(vector, dtype=np.float64)
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    half = 0.5 * np.sinc(angle / (2 * np.pi))
    return rotation_from_quaternion(np.concatenate([half * vector, np.cos(angle / 2)], axis=-1))
