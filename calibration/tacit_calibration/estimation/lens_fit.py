"""K and D by least squares over all views, for every lens model alike, with the covariance they deserve.

Each view adds its board pose, which touches no other view: the poses are eliminated (Schur complement)
and what remains is as small as the lens. Misread corners count less (Huber, in `board_pose`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera, FisheyeCamera, PinholeCamera
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import FloatArray, from_rotation
from tacit_calibration.detection import View
from tacit_calibration.estimation.board_pose import (
    Corners,
    board_poses,
    corner_jacobian,
    corner_weights,
    residuals,
)
from tacit_calibration.estimation.increments import small_pose

LensModel = Literal["no_k3", "plumb_bob", "rational", "thin_prism", "tilted", "fisheye"]
"""k1 k2 p1 p2 [k3 [k4 k5 k6 [s1..s4 [tx ty]]]] as OpenCV has them; fisheye: equidistant, k1..k4 (KB4)."""
NUM_COEFFICIENTS: dict[LensModel, int] = {
    "no_k3": 4,
    "fisheye": 4,
    "plumb_bob": 5,
    "rational": 8,
    "thin_prism": 12,
    "tilted": 14,
}
FISHEYE_FOCAL = (0.22, 0.28, 0.35, 0.45, 0.6, 0.8)
"""Equidistant focal lengths tried first, in image widths: fields of about 260 to 70 degrees."""
STEP = 1e-6
MAX_ROUNDS, SETTLED, EXACT_PX = 40, 1e-6, 1e-4
"""Done when a step lowers the squares by a millionth, or corners fit within 1e-4 px."""
JUDGED = 1e-4
"""Enough where lenses are compared: .00005 of the error. Fourteen coefficients creep on for forty rounds."""
START_DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-3, 1e-9, 1e10
RATIONAL_PRIOR = (0.2 / 0.5) ** 2
"""Six radial coefficients of a fraction cancel each other out; free, they put poles into the image. Each
is drawn towards 0 as by a measurement with a sigma of .5, at a corner noise of .2 px: tried .25 to 2,
on wide synthetic lenses .5 and below gave the least held-out error."""


@dataclass(frozen=True, eq=False)
class LensFit:
    """One calibration.

    Attributes:
        camera: The lens.
        poses: T_camera_board (n, 4, 4).
        covariance: Covariance of fx, fy, cx, cy and D, in this order (4 + d, 4 + d).
        noise_px: Standard deviation of a corner per axis, as the fit leaves it.
        residuals: Projected minus found corners (M, 2) [px], view after view.
    """

    camera: Camera
    poses: FloatArray
    covariance: FloatArray
    noise_px: float
    residuals: FloatArray


class _Normal(NamedTuple):
    """Normal equations by blocks: lens (p, p), lens x pose (n, p, 6), pose (n, 6, 6), and right sides."""

    lens: FloatArray
    mixed: FloatArray
    pose: FloatArray
    lens_gradient: FloatArray
    pose_gradient: FloatArray


@dataclass(frozen=True, eq=False)
class _State:
    """An estimate with its residuals; `prior` (p,) is what draws each parameter towards 0."""

    corners: Corners
    camera: Camera
    poses: FloatArray
    prior: FloatArray
    error: FloatArray
    weight: FloatArray

    @classmethod
    def at(
        cls,
        corners: Corners,
        camera: Camera,
        poses: FloatArray,
        prior: FloatArray,
        weight: FloatArray | None = None,
    ) -> _State:
        """Return the state there, with given or its own robust weights."""
        error = residuals(corners, camera, poses)
        return cls(corners, camera, poses, prior, error, corner_weights(error) if weight is None else weight)

    @property
    def cost(self) -> float:
        """What is made small [px^2]."""
        squares = self.weight @ np.sum(self.error**2, axis=1)
        return float(squares + self.prior @ parameters(self.camera) ** 2)

    def normal(self) -> _Normal:
        """Return the normal equations."""
        p_camera, by_pose = corner_jacobian(self.corners, self.camera, self.poses)
        by_lens = lens_jacobian(self.camera, p_camera)
        add, weight = self.corners.sum_by_view, self.weight
        return _Normal(
            np.einsum("m,mai,maj->ij", weight, by_lens, by_lens) + np.diag(self.prior),
            add(np.einsum("m,mai,maj->mij", weight, by_lens, by_pose)),
            add(np.einsum("m,mai,maj->mij", weight, by_pose, by_pose)),
            np.einsum("m,mai,ma->i", weight, by_lens, self.error) + self.prior * parameters(self.camera),
            add(np.einsum("m,mai,ma->mi", weight, by_pose, self.error)),
        )

    def step(self, damping: float) -> tuple[FloatArray, FloatArray]:
        """Return the damped step (Levenberg-Marquardt) of lens (p,) and poses (n, 6)."""
        normal = self.normal()
        lens = normal.lens + damping * np.diag(np.diag(normal.lens))
        diagonal = np.einsum("nii->ni", normal.pose)[..., None] * np.eye(6)
        inverse = np.linalg.inv(normal.pose + damping * diagonal)
        carried = normal.mixed @ inverse
        right = normal.lens_gradient - np.einsum("npi,ni->p", carried, normal.pose_gradient)
        lens_step = -_inverse(lens - np.einsum("npi,nqi->pq", carried, normal.mixed)) @ right
        pose_right = normal.pose_gradient + np.einsum("npi,p->ni", normal.mixed, lens_step)
        return lens_step, -np.einsum("nij,nj->ni", inverse, pose_right)

    def covariance(self) -> tuple[FloatArray, float]:
        """Return the covariance of the lens (p, p), and the corner noise per axis behind it [px]."""
        normal = self.normal()
        carried = normal.mixed @ np.linalg.inv(normal.pose)
        reduced = normal.lens - np.einsum("npi,nqi->pq", carried, normal.mixed)
        freedom = max(2 * len(self.error) - len(reduced) - 6 * self.corners.num, 1)
        noise = float(np.sqrt(self.weight @ np.sum(self.error**2, axis=1) / freedom))
        return noise**2 * _inverse(reduced), noise


def fit_lens(
    views: Sequence[View],
    size: tuple[int, int],
    model: LensModel,
    start: Camera | None = None,
    settled: float = SETTLED,
) -> LensFit:
    """Fit a lens and the board poses to views.

    Args:
        views: Views of one board.
        size: Width and height of the pictures [px].
        model: Which lens.
        start: A lens of this kind to start from, where one is known.
        settled: Done when a step lowers the squares by this share.

    Raises:
        CalibrationError: No lens of this kind comes near the views.
    """
    corners = Corners.of(views)
    if start is not None:
        camera, poses = start, board_poses(views, start)
    elif model == "fisheye":
        camera, poses = _start_fisheye(views, size)
    else:
        camera, poses = _start_pinhole(views, size, model)
    prior = np.zeros(len(parameters(camera)))
    prior[4:] = RATIONAL_PRIOR if NUM_COEFFICIENTS[model] >= NUM_COEFFICIENTS["rational"] else 0.0
    state = _State.at(corners, camera, poses, prior)
    damping = START_DAMPING
    for _ in range(MAX_ROUNDS):
        lens_step, pose_step = state.step(damping)
        moved = with_parameters(state.camera, parameters(state.camera) + lens_step)
        candidate = _State.at(corners, moved, state.poses @ small_pose(pose_step), prior, state.weight)
        # The weights are those of the state, or a step could look good by letting corners go.
        gain = state.cost - candidate.cost
        if gain < 0:
            damping *= 10.0
            if damping > MAX_DAMPING:
                break
            continue
        done = gain < settled * state.cost or candidate.cost < EXACT_PX**2 * len(corners.points)
        damping = max(damping / 10.0, MIN_DAMPING)
        state = _State.at(corners, candidate.camera, candidate.poses, prior)
        if done:
            break
    covariance, noise = state.covariance()
    return LensFit(state.camera, state.poses, covariance, noise, state.error)


def parameters(camera: Camera) -> FloatArray:
    """Return fx, fy, cx, cy and D (4 + d,)."""
    return np.array([camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2], *camera.D])


def with_parameters(camera: Camera, values: FloatArray) -> Camera:
    """Return the camera with other fx, fy, cx, cy and D."""
    fx, fy, cx, cy = values[:4]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return replace(camera, K=K, D=tuple(values[4:].tolist()))


def lens_jacobian(camera: Camera, p_camera: FloatArray) -> FloatArray:
    """Return how pixels (M, 2) of points (M, 3) follow the parameters (M, 2, 4 + d)."""
    values, columns = parameters(camera), []
    for i, value in enumerate(values):
        step = np.zeros_like(values)
        step[i] = STEP * max(abs(value), 1.0)
        ahead = with_parameters(camera, values + step).project(p_camera)
        behind = with_parameters(camera, values - step).project(p_camera)
        columns.append((ahead - behind) / (2 * step[i]))
    return np.nan_to_num(np.stack(columns, axis=-1))


def _start_pinhole(
    views: Sequence[View], size: tuple[int, int], model: LensModel
) -> tuple[Camera, FloatArray]:
    """Start at Zhang's method with five coefficients; a fraction starts with its denominator at 1."""
    points = [view.points_m.astype(np.float32)[:, None] for view in views]
    pixels = [view.corners_px.astype(np.float32)[:, None] for view in views]
    # The matrix and coefficients given here are only the form of the answer: no guess is asked for.
    flags = cv2.CALIB_FIX_K3 if model == "no_k3" else 0
    _, K, D, rotations, translations = cv2.calibrateCamera(
        points, pixels, size, np.eye(3), np.zeros(5), flags=flags
    )
    coefficients = np.zeros(NUM_COEFFICIENTS[model])
    coefficients[:5] = np.ravel(D)[: min(5, len(coefficients))]
    camera = PinholeCamera(np.asarray(K), tuple(coefficients.tolist()), *size)
    poses = [
        from_rotation(rotation_from_vector(np.ravel(r)), np.ravel(t))
        for r, t in zip(rotations, translations, strict=True)
    ]
    return camera, np.array(poses)


def _start_fisheye(views: Sequence[View], size: tuple[int, int]) -> tuple[Camera, FloatArray]:
    """Start at the best of a few ideal equidistant lenses; OpenCV's own start fails on wide fields."""
    corners, best = Corners.of(views), None
    for fraction in FISHEYE_FOCAL:
        f = fraction * size[0]
        K = np.array([[f, 0, (size[0] - 1) / 2], [0, f, (size[1] - 1) / 2], [0, 0, 1]])
        camera = FisheyeCamera(K, (0.0,) * 4, *size)
        if any(np.isfinite(camera.undistort(v.corners_px)).all(axis=-1).sum() < 6 for v in views):
            continue
        poses = board_poses(views, camera)
        error = float(np.median(np.linalg.norm(residuals(corners, camera, poses), axis=1)))
        if best is None or error < best[0]:
            best = error, camera, poses
    if best is None:
        raise CalibrationError("fisheye: corners lie beyond 90 deg off the axis of any lens of this size")
    return best[1], best[2]


def _inverse(normal: FloatArray) -> FloatArray:
    """Return the inverse of a normal matrix whose unknowns have very different units."""
    scale = np.sqrt(np.diag(normal))
    return np.linalg.inv(normal / np.outer(scale, scale)) / np.outer(scale, scale)
