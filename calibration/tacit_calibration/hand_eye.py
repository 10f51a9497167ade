"""Where a camera sits: hand-eye calibration with the robot's own error in the model.

Maximum a posteriori over the camera pose X, the board pose B and a small correction of every robot
pose, with the sizes of pixel noise and robot noise estimated from the data. Closed-form solvers
(Park and Martin 1994) blame the camera for what the robot does; bundle adjustment with a perfect
robot does so even more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.sparse import csr_matrix

from tacit.camera import Camera
from tacit.errors import CalibrationError
from tacit.transforms import (
    from_rotation,
    invert,
    rotation_from_vector,
    rotation_to_vector,
)
from tacit_calibration.detection import View

FloatArray = NDArray[np.float64]
Mounting = Literal["eye_in_hand", "eye_to_hand"]
MIN_VIEWS = 8
MIN_SPREAD_DEG = 20.0
"""Below this largest turn between two views the translation drifts by millimetres per .1 px."""
MIN_SECOND_AXIS = 0.1
"""Ratio of the second to the first singular value of the turn axes: turns about one axis only leave
the translation along that axis free."""
START_ROTATION, START_TRANSLATION = np.deg2rad(0.05), 3e-4
FLOOR_PX, FLOOR_ROTATION, FLOOR_TRANSLATION = 0.05, np.deg2rad(0.003), 1e-5
MAX_ROUNDS, SETTLED = 15, 0.02
MAX_EVALUATIONS = 60


@dataclass(frozen=True)
class NoiseScale:
    """Standard deviations: corners [px], robot rotation [rad] and translation [m] per axis."""

    pixel: float
    rotation: float
    translation: float


@dataclass(frozen=True, eq=False)
class HandEyeResult:
    """A camera pose and how far to trust it.

    Attributes:
        T_parent_camera: In the flange (eye in hand) or in the base (eye to hand), (4, 4).
        T_anchor_board: The board in the base (eye in hand) or on the flange (eye to hand), (4, 4).
        sigma_rotation: Standard deviation of the camera's rotation (3,) about its own axes [rad].
        sigma_translation: Standard deviation of its position (3,) along its own axes [m].
        noise: Estimated sizes of pixel and robot noise.
        rms_px: Error with the measured robot poses, uncorrected [px]: what an overlay will show.
        view_rms_px: The same for each view (n,).
    """

    T_parent_camera: FloatArray
    T_anchor_board: FloatArray
    sigma_rotation: FloatArray
    sigma_translation: FloatArray
    noise: NoiseScale
    rms_px: float
    view_rms_px: FloatArray


def solve_hand_eye(
    flange_poses: FloatArray, views: Sequence[View], camera: Camera, mounting: Mounting
) -> HandEyeResult:
    """Find the camera from views of a fixed (eye in hand) or carried (eye to hand) board.

    Args:
        flange_poses: T_base_flange (n, 4, 4) of each view, from measured joints.
        views: n views of the board.
        camera: The calibrated lens.
        mounting: Where the camera sits.

    Raises:
        CalibrationError: Too few views, or turns that do not determine the pose.
    """
    G = np.asarray(flange_poses, dtype=np.float64)
    if len(views) < MIN_VIEWS or len(views) != len(G):
        raise CalibrationError(
            f"{len(views)} views, {len(G)} robot poses; expected equal, at least {MIN_VIEWS}"
        )
    boards, pixel = _board_poses(views, camera)
    _check_motion(G)
    problem = _Problem.start(G, boards, views, camera, mounting)
    noise = NoiseScale(max(pixel, FLOOR_PX), START_ROTATION, START_TRANSLATION)
    for _ in range(MAX_ROUNDS):
        problem, covariance = problem.solved(noise)
        updated = problem.reestimated(noise, covariance)
        change = abs(updated.rotation / noise.rotation - 1) + abs(updated.translation / noise.translation - 1)
        noise = updated
        if change < SETTLED:
            break
    sigma = np.sqrt(np.diag(covariance)[:6])
    residuals = replace(problem, corrections=np.zeros_like(problem.corrections)).pixel_residuals()
    squared = np.bincount(problem.view_index, np.sum(residuals**2, axis=1)) / np.bincount(problem.view_index)
    return HandEyeResult(
        T_parent_camera=problem.X,
        T_anchor_board=problem.B,
        sigma_rotation=sigma[:3],
        sigma_translation=sigma[3:],
        noise=noise,
        rms_px=float(np.sqrt(np.mean(np.sum(residuals**2, axis=1)))),
        view_rms_px=np.sqrt(squared),
    )


def park(motions_a: FloatArray, motions_b: FloatArray) -> FloatArray:
    """Return X (4, 4) of A X = X B' in closed form: rotation by Park and Martin, then translation.

    Args:
        motions_a: A (m, 4, 4), motions of what carries the camera.
        motions_b: B' (m, 4, 4), the same motions as the camera sees them.
    """
    a, b = rotation_to_vector(motions_a[:, :3, :3]), rotation_to_vector(motions_b[:, :3, :3])
    U, _, Vt = np.linalg.svd(a.T @ b)  # the rotation nearest to the correlation, as (M^T M)^-1/2 M^T
    R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    left = (motions_a[:, :3, :3] - np.eye(3)).reshape(-1, 3)
    right = (motions_b[:, :3, 3] @ R.T - motions_a[:, :3, 3]).ravel()
    return from_rotation(R, np.linalg.lstsq(left, right, rcond=None)[0])


@dataclass(frozen=True, eq=False)
class _Problem:
    """Current estimate and data; residuals in the order pixels, then corrections."""

    G: FloatArray
    X: FloatArray
    B: FloatArray
    corrections: FloatArray
    points: FloatArray
    pixels: FloatArray
    view_index: NDArray[np.int64]
    camera: Camera
    mounting: Mounting

    @classmethod
    def start(
        cls, G: FloatArray, boards: FloatArray, views: Sequence[View], camera: Camera, mounting: Mounting
    ) -> _Problem:
        """Start at Park's solution; eye to hand is eye in hand of the inverted robot."""
        carrier = G if mounting == "eye_in_hand" else invert(G)
        i, j = np.triu_indices(len(G), 1)
        X = park(invert(carrier[j]) @ carrier[i], boards[j] @ invert(boards[i]))
        index = np.repeat(np.arange(len(views)), [len(view.corners_px) for view in views])
        points = np.concatenate([view.points_m for view in views])
        pixels = np.concatenate([view.corners_px for view in views])
        B = carrier[0] @ X @ boards[0]
        return cls(G, X, B, np.zeros((len(G), 6)), points, pixels, index, camera, mounting)

    def moved(self, step: FloatArray) -> _Problem:
        """Return the estimate after local increments: X (6), B (6), then each correction (6)."""
        X, B = self.X @ _small_pose(step[:6]), self.B @ _small_pose(step[6:12])
        return replace(self, X=X, B=B, corrections=self.corrections + step[12:].reshape(-1, 6))

    def pixel_residuals(self) -> FloatArray:
        """Return projected minus found corners (M, 2) [px]."""
        robot = self.G @ _small_pose(self.corrections)
        carrier = robot if self.mounting == "eye_in_hand" else invert(robot)
        T_camera_board = invert(carrier @ self.X) @ self.B
        T = T_camera_board[self.view_index]
        p_camera = np.einsum("mij,mj->mi", T[:, :3, :3], self.points) + T[:, :3, 3]
        return np.nan_to_num(self.camera.project(p_camera), nan=1e4) - self.pixels

    def residuals(self, step: FloatArray, noise: NoiseScale) -> FloatArray:
        """Return all residuals in units of their standard deviation."""
        moved = self.moved(step * self._scale(noise))
        prior = moved.corrections / _correction_scale(noise)
        return np.concatenate([(moved.pixel_residuals() / noise.pixel).ravel(), prior.ravel()])

    def solved(self, noise: NoiseScale) -> tuple[_Problem, FloatArray]:
        """Return the minimum at fixed noise, and the covariance of the increments there."""
        size = 12 + self.corrections.size
        found = least_squares(
            self.residuals,
            np.zeros(size),
            jac_sparsity=self._sparsity(),
            x_scale="jac",
            max_nfev=MAX_EVALUATIONS,
            args=(noise,),
        )
        scale = self._scale(noise)
        J = np.asarray(csr_matrix(found.jac).todense())
        covariance = np.linalg.inv(J.T @ J) * np.outer(scale, scale)
        return self.moved(found.x * scale), covariance

    def reestimated(self, noise: NoiseScale, covariance: FloatArray) -> NoiseScale:
        """Return robot noise from corrections and their remaining variance (expectation step)."""
        variance = np.diag(covariance)[12:].reshape(-1, 6)
        expected = np.mean(self.corrections**2 + variance, axis=0)
        rotation, translation = np.sqrt(expected[:3].mean()), np.sqrt(expected[3:].mean())
        return NoiseScale(noise.pixel, max(rotation, FLOOR_ROTATION), max(translation, FLOOR_TRANSLATION))

    def _scale(self, noise: NoiseScale) -> FloatArray:
        """Return the units of the unknowns: 1 mrad and 1 mm, and one sigma for corrections."""
        return np.concatenate([np.full(12, 1e-3), np.tile(_correction_scale(noise), len(self.G))])

    def _sparsity(self) -> csr_matrix:
        """Return which unknowns a residual feels: the 12 shared ones and its own view's 6."""
        rows, own = 2 * len(self.points), self.corrections.size
        pattern = np.zeros((rows + own, 12 + own), dtype=np.int8)
        pattern[:rows, :12] = 1
        columns = 12 + 6 * np.repeat(self.view_index, 2)[:, None] + np.arange(6)
        pattern[np.arange(rows)[:, None], columns] = 1
        pattern[rows + np.arange(own), 12 + np.arange(own)] = 1
        return csr_matrix(pattern)


def _small_pose(increment: FloatArray) -> FloatArray:
    """Return poses (..., 4, 4) of (..., 6): rotation vector [rad], then translation [m]."""
    T = np.zeros((*increment.shape[:-1], 4, 4))
    T[..., :3, :3] = rotation_from_vector(increment[..., :3])
    T[..., :3, 3] = increment[..., 3:]
    T[..., 3, 3] = 1.0
    return T


def _correction_scale(noise: NoiseScale) -> FloatArray:
    return np.repeat([noise.rotation, noise.translation], 3)


def _board_poses(views: Sequence[View], camera: Camera) -> tuple[FloatArray, float]:
    """Return T_camera_board (n, 4, 4) of each view alone, and the pixel noise of these fits."""
    poses, variances = [], []
    for view in views:
        ideal = camera.undistort(view.corners_px)
        _, rotation, translation = cv2.solvePnP(view.points_m, ideal, np.eye(3), np.zeros(5))
        T = from_rotation(rotation_from_vector(np.ravel(rotation)), np.ravel(translation))
        error = camera.project(view.points_m @ T[:3, :3].T + T[:3, 3]) - view.corners_px
        variances.append(np.sum(error**2) / (2 * len(error) - 6))
        poses.append(T)
    return np.array(poses), float(np.sqrt(np.mean(variances)))


def _check_motion(G: FloatArray) -> None:
    """Refuse views between which the flange hardly turns, or turns about one axis only."""
    i, j = np.triu_indices(len(G), 1)
    turns = rotation_to_vector(np.swapaxes(G[j, :3, :3], 1, 2) @ G[i, :3, :3])
    spread = float(np.rad2deg(np.linalg.norm(turns, axis=1).max()))
    singular = np.linalg.svd(turns, compute_uv=False)
    if spread < MIN_SPREAD_DEG:
        raise CalibrationError(
            f"the flange turns by {spread:.0f} deg at most, expected {MIN_SPREAD_DEG:.0f} or more"
        )
    if singular[1] < MIN_SECOND_AXIS * singular[0]:
        raise CalibrationError("the flange turns about one axis only; tilt it about a second one too")
