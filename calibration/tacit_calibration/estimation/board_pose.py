"""What pictures of a board say about where it is: pose by pose, and how firmly.

Corners act on every other unknown through the board's pose in the camera alone, six numbers per
picture; `linearise` compresses a picture to a quadratic in these six.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.geometry.camera import Camera
from tacit.geometry.rotations import rotation_from_vector, rotation_to_vector
from tacit.geometry.transforms import FloatArray, from_rotation
from tacit_calibration.detection import View
from tacit_calibration.estimation.increments import skew, small_pose

DIFFERENCE_STEP = 1e-6
OUTSIDE_PX = 1e4
"""Residual of a corner that the model puts behind the camera: worse than anything visible."""
CORNER_LIMIT = 5.0
"""A corner beyond five times the typical residual counts as if it were there (Huber): a misread marker."""
KEPT = 256
"""Views whose rays and pose are kept for the next question."""
RAYLEIGH_MEDIAN = 1.1774
"""Median length of a 2-D residual of unit standard deviation per axis."""


class Corners(NamedTuple):
    """The corners of n views in one list: points (M, 3) [m], pixels (M, 2), view of each (M,), n."""

    points: FloatArray
    pixels: FloatArray
    view: NDArray[np.intp]
    num: int

    @classmethod
    def of(cls, views: Sequence[View]) -> Corners:
        """Join the corners of views."""
        view = np.repeat(np.arange(len(views)), [len(v.corners_px) for v in views])
        points = np.concatenate([v.points_m for v in views])
        return cls(points, np.concatenate([v.corners_px for v in views]), view, len(views))

    @property
    def counts(self) -> NDArray[np.intp]:
        """Number of corners (n,) of each view."""
        return np.bincount(self.view, minlength=self.num)

    def sum_by_view(self, values: FloatArray) -> FloatArray:
        """Return sums (n, ...) of values (M, ...) over the corners of each view, which lie together."""
        first = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        return np.add.reduceat(values, first, axis=0)


class Quadratic(NamedTuple):
    """Squared pixel error of each view near its pose: `squares` + 2 g.e + e.W.e for increments e (6,)."""

    information: FloatArray
    gradient: FloatArray
    squares: FloatArray

    @property
    def covariance(self) -> FloatArray:
        """Inverse of the information (n, 6, 6): the covariance of the increment at unit corner noise."""
        return np.asarray(np.linalg.inv(self.information), dtype=np.float64)

    @property
    def minimum(self) -> FloatArray:
        """Increment (n, 6) where the error is least."""
        return -(self.covariance @ self.gradient[..., None])[..., 0]

    @property
    def remaining(self) -> FloatArray:
        """Squared error (n,) that no pose of the board removes [px^2]."""
        return self.squares + np.sum(self.gradient * self.minimum, axis=-1)


def board_poses(views: Sequence[View], camera: Camera, near: FloatArray | None = None) -> FloatArray:
    """Return T_camera_board (n, 4, 4) of each view alone.

    Args:
        views: n views of the board.
        camera: The lens.
        near: Guesses (n, 4, 4). A small or distant plane fits nearly as well when it tips over; the
            guess says which side is meant.
    """
    if near is None:
        return np.array([_alone(view, camera) for view in views])
    return np.array([_solve_pnp(view, _rays(view, camera), T) for view, T in zip(views, near, strict=True)])


@functools.lru_cache(maxsize=KEPT)
def _rays(view: View, camera: Camera) -> FloatArray:
    """Return the corners (N, 2) on the ideal image plane."""
    return camera.undistort(view.corners_px)


@functools.lru_cache(maxsize=KEPT)
def _alone(view: View, camera: Camera) -> FloatArray:
    """Return T_camera_board (4, 4); asked again for each way to calibrate and each set of views left out."""
    return _solve_pnp(view, _rays(view, camera), None)


def refined(corners: Corners, camera: Camera, poses: FloatArray, rounds: int = 3) -> FloatArray:
    """Return the poses (n, 4, 4) with the least pixel error; `board_poses` minimises it on rays."""
    # Gauss-Newton from a near start: a few rounds are enough.
    for _ in range(rounds):
        found = linearise(corners, camera, poses)
        poses = poses @ small_pose(found.minimum)
    return poses


def _solve_pnp(view: View, ideal: FloatArray, guess: FloatArray | None) -> FloatArray:
    # A corner that no ray of the lens meets has no place on OpenCV's ideal image plane.
    known = np.isfinite(ideal).all(axis=-1)
    start: dict[str, Any] = {}
    if guess is not None:
        rotation = rotation_to_vector(guess[:3, :3])
        start = {"rvec": rotation, "tvec": guess[:3, 3].copy(), "useExtrinsicGuess": True}
    _, turn, translation = cv2.solvePnP(view.points_m[known], ideal[known], np.eye(3), np.zeros(5), **start)
    return from_rotation(rotation_from_vector(np.ravel(turn)), np.ravel(translation))


def residuals(corners: Corners, camera: Camera, poses: FloatArray) -> FloatArray:
    """Return projected minus found corners (M, 2) [px] for T_camera_board (n, 4, 4)."""
    projected = camera.project(_in_camera(corners, poses))
    return np.where(np.isfinite(projected), projected - corners.pixels, OUTSIDE_PX)


def rms(found: FloatArray) -> float:
    """Return the root mean square length [px] of residuals (..., 2): both axes together, as OpenCV's."""
    return float(np.sqrt(np.mean(np.sum(np.asarray(found) ** 2, axis=-1))))


def view_rms(corners: Corners, found: FloatArray) -> FloatArray:
    """Return the root mean square length (n,) of residuals (M, 2) view by view [px]."""
    squares = np.bincount(corners.view, np.sum(found**2, axis=1), corners.num)
    return np.sqrt(squares / corners.counts)


def linearise(corners: Corners, camera: Camera, poses: FloatArray) -> Quadratic:
    """Return the squared pixel error of each view as a quadratic in its board pose's increment."""
    r = residuals(corners, camera, poses)
    _, J = corner_jacobian(corners, camera, poses)
    weight = corner_weights(r)
    return Quadratic(
        corners.sum_by_view(np.einsum("m,mai,maj->mij", weight, J, J)),
        corners.sum_by_view(np.einsum("m,mai,ma->mi", weight, J, r)),
        corners.sum_by_view(weight * np.sum(r**2, axis=1)),
    )


def corner_jacobian(corners: Corners, camera: Camera, poses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return corners in the camera (M, 3) [m], and how their pixels follow the board pose (M, 2, 6).

    The derivative of the lens is a central difference, so any camera model will do; along the ray
    it follows from the others, since a pixel does not change when a point moves along its ray.
    """
    p = _in_camera(corners, poses)
    step = DIFFERENCE_STEP * p[:, 2:]
    sideways = [
        (camera.project(p + step * axis) - camera.project(p - step * axis)) / (2 * step)
        for axis in np.eye(3)[:2]
    ]
    along = -(p[:, :1] * sideways[0] + p[:, 1:2] * sideways[1]) / p[:, 2:]
    by_point = np.nan_to_num(np.stack([*sideways, along], axis=-1)) @ poses[corners.view, :3, :3]
    return p, np.concatenate([-by_point @ skew(corners.points), by_point], axis=-1)


def corner_weights(found: FloatArray) -> FloatArray:
    """Return Huber weights (M,) of residuals (M, 2): 1 up to five times the typical length."""
    length = np.linalg.norm(found, axis=1)
    limit = CORNER_LIMIT * np.median(length) / RAYLEIGH_MEDIAN
    return np.where(length > limit, limit / np.where(length > 0, length, 1.0), 1.0)


def _in_camera(corners: Corners, poses: FloatArray) -> FloatArray:
    T = poses[corners.view]
    return np.einsum("mij,mj->mi", T[:, :3, :3], corners.points) + T[:, :3, 3]
