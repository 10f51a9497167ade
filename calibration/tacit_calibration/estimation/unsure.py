"""What lens and board do to a camera's place when they are not exactly what was given.

The answer is not changed by it: a camera placed with a lens that is slightly off makes up for that where
its pictures were taken, and boxes are drawn through the same lens. But the place is that much less sure
(Schmidt 1966, "consider" covariance).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray
from tacit_calibration.estimation.board_pose import Corners, corner_jacobian, corner_weights, residuals
from tacit_calibration.estimation.lens_fit import lens_jacobian
from tacit_calibration.estimation.noise import LinearViews, NoiseScale, Posterior, infer


class Unsure(NamedTuple):
    """How well lens and board are known, as relative standard deviations.

    Attributes:
        focal: Of fx and fy together.
        centre: Of cx and of cy, as parts of fx and fy.
        size: Of the board's side.
    """

    focal: float = 0.0
    centre: float = 0.0
    size: float = 0.0


EXACT = Unsure()
"""For synthetic pictures, whose lens and board are known."""
TYPICAL = Unsure(focal=2e-3, centre=2e-3, size=1e-3)
"""Fits of one real lens by other pictures, detectors or models differ by .1 to .8 % in fx and by some pixels
in cx; a ruler tells a board of 200 mm within .2 mm."""


def answers(corners: Corners, camera: Camera, poses: FloatArray) -> FloatArray:
    """Return how the increment (6,) of each board found answers relative errors of lens and board (n, 6, 4).

    Args:
        corners: Of n views.
        camera: The lens as given.
        poses: T_camera_board (n, 4, 4).

    Returns:
        Columns: focal length, cx, cy and the board's size.
    """
    weight = corner_weights(residuals(corners, camera, poses))
    p_camera, by_pose = corner_jacobian(corners, camera, poses)
    by_lens = lens_jacobian(camera, p_camera)[..., :4] * camera.K[[0, 1, 0, 1], [0, 1, 0, 1]]
    by_lens = np.concatenate([by_lens[..., :1] + by_lens[..., 1:2], by_lens[..., 2:]], axis=-1)
    pulled = corners.sum_by_view(np.einsum("m,mai,maj->mij", weight, by_pose, by_lens))
    information = corners.sum_by_view(np.einsum("m,mai,maj->mij", weight, by_pose, by_pose))
    by_size = np.zeros((len(poses), 6, 1))
    # A larger board that is taken for a smaller one looks nearer.
    by_size[:, 3:] = -np.swapaxes(poses[:, :3, :3], 1, 2) @ poses[:, :3, 3:]
    return np.concatenate([np.linalg.solve(information, pulled), by_size], axis=-1)


def widened(linear: LinearViews, posterior: Posterior, by_unsure: FloatArray, unsure: Unsure) -> FloatArray:
    """Return the covariance (p, p) of the unknowns with what lens and board add to it.

    The robot's moves also say how far lens and board are off; what they say limits what is added, and a
    deviation that they show is added in full.

    Args:
        linear: The views.
        posterior: The estimate from them, with lens and board as given.
        by_unsure: From `answers` (n, 6, 4).
        unsure: How well lens and board are known.
    """
    sigma = np.array([unsure.focal, unsure.centre, unsure.centre, unsure.size])
    if not sigma.any():
        return posterior.covariance
    told = _told(linear, posterior, by_unsure[..., sigma > 0], sigma[sigma > 0] ** -2.0)
    spread = told.covariance + np.outer(told.mean, told.mean)
    return np.asarray(posterior.covariance + told.moved @ spread @ told.moved.T)


def size_by_moves(
    linear: LinearViews, pixel: float, by_unsure: FloatArray, fixed: NoiseScale | None = None
) -> tuple[float, float]:
    """Return how many times larger than given the board is by the robot's moves, and the sigma of that.

    It is one unknown more beside camera and board: under a wrong size the robot's errors would come out too
    large, and with them the sigma by which the size is judged. A lens whose fx is off looks the same, and a
    robot whose lengths are.

    Args:
        linear: The views.
        pixel: Their noise [px].
        by_unsure: From `answers` (n, 6, 4).
        fixed: Robot noise to assume, where it is known better.
    """
    place = linear.design.shape[-1] - linear.num_shared
    columns = linear.design[..., :place], by_unsure[..., 3:], linear.design[..., place:]
    found = infer(linear._replace(design=np.concatenate(columns, axis=-1)), pixel, fixed)
    return 1.0 + float(found.mean[place]), float(np.sqrt(found.covariance[place, place]))


class _Told(NamedTuple):
    """What the views tell of m further unknowns, and how these would move the p estimated ones (p, m)."""

    mean: FloatArray
    covariance: FloatArray
    moved: FloatArray


def _told(linear: LinearViews, posterior: Posterior, effect: FloatArray, prior: FloatArray) -> _Told:
    """Return it for unknowns with an effect (n, 6, m) and a prior information (m,)."""
    precision = np.linalg.inv(linear.covariance(posterior.noise))
    weighted = np.swapaxes(linear.design, 1, 2) @ precision
    normal = (weighted @ linear.design).sum(axis=0)
    last = np.arange(len(normal) - linear.num_shared, len(normal))
    normal[last, last] += posterior.noise.joint**-2.0 if linear.num_shared else 0.0
    moved = np.linalg.solve(normal, (weighted @ effect).sum(axis=0))
    left = np.swapaxes(effect - linear.design @ moved, 1, 2) @ precision
    covariance = np.linalg.inv((left @ effect).sum(axis=0) + np.diag(prior))
    residual = linear.y - linear.design @ posterior.mean
    return _Told(covariance @ np.einsum("npi,ni->p", left, residual), covariance, moved)
