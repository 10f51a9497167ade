"""Small motions of poses: local increments, how they pass through chains, poses with a covariance.

An increment d (6,) is a rotation vector [rad] and a translation [m] along the pose's own axes, applied
on the right: T @ small_pose(d). `hand_eye` and `world` state every uncertainty in this form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.geometry.rotations import rotation_from_vector, rotation_to_vector
from tacit.geometry.transforms import FloatArray, invert


def small_pose(increment: FloatArray) -> FloatArray:
    """Return poses (..., 4, 4) of increments (..., 6)."""
    T = np.zeros((*increment.shape[:-1], 4, 4))
    T[..., :3, :3] = rotation_from_vector(increment[..., :3])
    T[..., :3, 3] = increment[..., 3:]
    T[..., 3, 3] = 1.0
    return T


def increment_of(T: FloatArray) -> FloatArray:
    """Return the increments (..., 6) of poses (..., 4, 4): the inverse of `small_pose`."""
    return np.concatenate([rotation_to_vector(T[..., :3, :3]), T[..., :3, 3]], axis=-1)


def skew(v: FloatArray) -> FloatArray:
    """Return [v]x (..., 3, 3) with [v]x w = v x w."""
    S = np.zeros((*v.shape, 3))
    S[..., 0, 1], S[..., 0, 2], S[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return S - np.swapaxes(S, -1, -2)


def adjoint(T: FloatArray) -> FloatArray:
    """Return Ad (..., 6, 6) with T @ small_pose(d) = small_pose(Ad d) @ T, to first order in d."""
    R = T[..., :3, :3]
    Ad = np.zeros((*T.shape[:-2], 6, 6))
    Ad[..., :3, :3] = Ad[..., 3:, 3:] = R
    Ad[..., 3:, :3] = skew(T[..., :3, 3]) @ R
    return Ad


@dataclass(frozen=True, eq=False)
class UncertainPose:
    """A pose T (4, 4) and the covariance (6, 6) of its local increment [rad, m]."""

    T: FloatArray
    covariance: FloatArray

    @property
    def sigma_rotation(self) -> FloatArray:
        """Standard deviation (3,) of the rotation about its own axes [rad]."""
        return np.sqrt(np.diag(self.covariance)[:3])

    @property
    def sigma_translation(self) -> FloatArray:
        """Standard deviation (3,) of the position along its own axes [m]."""
        return np.sqrt(np.diag(self.covariance)[3:])

    def inverse(self) -> UncertainPose:
        """Return the inverse pose: (T E(d))^-1 = T^-1 E(-Ad(T) d)."""
        Ad = adjoint(self.T)
        return UncertainPose(invert(self.T), Ad @ self.covariance @ Ad.T)

    def __matmul__(self, other: UncertainPose) -> UncertainPose:
        """Return the chain of two independent poses: the first increment is seen from the second's frame."""
        Ad = adjoint(invert(other.T))
        return UncertainPose(self.T @ other.T, Ad @ self.covariance @ Ad.T + other.covariance)


def exact(T: FloatArray) -> UncertainPose:
    """Return a pose that is known without error."""
    return UncertainPose(np.asarray(T, dtype=np.float64), np.zeros((6, 6)))
