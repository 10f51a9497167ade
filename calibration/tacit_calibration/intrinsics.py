"""K and D of a pinhole or fisheye camera from views of a board, with an honest error.

`lens_fit` does the sums; here stands what OpenCV leaves to the user: bad views are dropped, the error
is measured on views the fit has not seen, the uncertainty is given in pixels over the image, and too
few or too similar views are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray
from tacit_calibration.detection import Detections, View
from tacit_calibration.estimation.board_pose import Corners, board_poses, refined, residuals, rms, view_rms
from tacit_calibration.estimation.diagnosis import check_side
from tacit_calibration.estimation.lens_fit import JUDGED, LensFit, LensModel, fit_lens, lens_jacobian

MIN_VIEWS = 8
MIN_TILT_DEG = 15.0
"""Focal length and distance only part in tilted views; peers and our synthetic boards agree on 15+."""
BAD_VIEW_FACTOR, BAD_VIEW_FLOOR_PX = 3.0, 0.3
"""A view is bad beyond three times the median error; .3 px is what a good detection leaves anyway."""
MIN_KEPT = 0.6
"""When more than 40 % of the views are bad, it is the board or the camera, not the views."""
FOLDS = 5
COVERAGE_GRID = 8
UNCERTAINTY_GRID = 9
WANTED_COVERAGE = 0.7
MAX_UNCERTAINTY_PX = 1.0
"""A lens that is unsure by more than a pixel somewhere in the image shifts touch boxes there."""


@dataclass(frozen=True, eq=False)
class IntrinsicsResult:
    """A calibrated lens and how far to trust it.

    Attributes:
        camera: K and D for the size of the pictures.
        rms_px: Error over the views used [px].
        held_out_rms_px: Error over views left out of the fit in turn (only their pose is fitted).
        focal_sigma_px: Standard deviation of fx and fy.
        covariance: Covariance of fx, fy, cx, cy and D (4 + d, 4 + d).
        uncertainty_px: Standard deviation of where the lens puts a ray, over a 9 x 9 grid of the image.
        coverage: Fraction of an 8 x 8 grid over the image that holds a corner.
        tilt_deg: Largest angle between board and image plane.
        views: {name: RMS px} of the views used.
        dropped: {name: RMS px} of the views left out.
        warnings: What makes the result weaker than its numbers say.
    """

    camera: Camera
    rms_px: float
    held_out_rms_px: float
    focal_sigma_px: tuple[float, float]
    covariance: FloatArray
    uncertainty_px: FloatArray
    coverage: float
    tilt_deg: float
    views: dict[str, float]
    dropped: dict[str, float]
    warnings: tuple[str, ...] = ()


def calibrate_intrinsics(detections: Detections, model: LensModel = "plumb_bob") -> IntrinsicsResult:
    """Fit K and D.

    Args:
        detections: Views of one board.
        model: `plumb_bob` (5 coefficients), `no_k3` (4), `rational` (8, up to about 120 degrees),
            `thin_prism` (12), `tilted` (14) or `fisheye` (equidistant, 4).

    Raises:
        CalibrationError: Too few views, mirrored ones, no tilted view, or too many bad ones.
    """
    size = detections.width, detections.height
    views, dropped = list(detections.views), dict[str, float]()
    _check_views(views, detections)
    # One bad view bends the lens and hides another: fit, drop, fit again until all that are left agree.
    while True:
        fit = fit_lens(views, size, model)
        errors = view_rms(Corners.of(views), fit.residuals)
        bad = errors > max(BAD_VIEW_FACTOR * float(np.median(errors)), BAD_VIEW_FLOOR_PX)
        if not bad.any():
            break
        dropped |= {view.name: float(e) for view, e, b in zip(views, errors, bad, strict=True) if b}
        views = [view for view, b in zip(views, bad, strict=True) if not b]
        _check_kept(views, dropped, len(detections.views))
    check_side(fit.poses)
    sigma = np.sqrt(np.diag(fit.covariance))
    uncertainty, coverage = pixel_uncertainty(fit.camera, fit.covariance), _coverage(views, size)
    return IntrinsicsResult(
        camera=fit.camera,
        rms_px=rms(fit.residuals),
        held_out_rms_px=held_out_rms(views, size, model, fit.camera),
        focal_sigma_px=(float(sigma[0]), float(sigma[1])),
        covariance=fit.covariance,
        uncertainty_px=uncertainty,
        coverage=coverage,
        tilt_deg=_check_tilt(fit),
        views={view.name: float(e) for view, e in zip(views, errors, strict=True)},
        dropped=dropped,
        warnings=_warnings(coverage, uncertainty),
    )


def pixel_uncertainty(camera: Camera, covariance: FloatArray) -> FloatArray:
    """Return how unsure the lens is over the image: one sigma of a ray's pixel (9, 9), rows down [px].

    A turn of the whole camera is taken out first, since a pose that is estimated with this lens takes
    it up; what is left is what moves boxes. NaN where the lens does not see.
    """
    u, v = np.meshgrid(
        *(np.linspace(0, extent - 1, UNCERTAINTY_GRID) for extent in (camera.width, camera.height))
    )
    rays = camera.rays(np.stack([u, v], axis=-1)).reshape(-1, 3)
    seen = np.isfinite(rays).all(axis=-1)
    by_lens = lens_jacobian(camera, rays[seen])
    step = 1e-6
    turned = [
        (camera.project(rays[seen] + step * turn) - camera.project(rays[seen] - step * turn)) / (2 * step)
        for turn in (np.cross(axis, rays[seen]) for axis in np.eye(3))
    ]
    by_turn = np.nan_to_num(np.stack(turned, axis=-1)).reshape(-1, 3)
    flat = by_lens.reshape(len(by_turn), -1)
    free = (flat - by_turn @ np.linalg.lstsq(by_turn, flat, rcond=None)[0]).reshape(by_lens.shape)
    variance = np.full(len(rays), np.nan)
    variance[seen] = np.einsum("mai,ij,maj->m", free, covariance, free)
    return np.sqrt(variance).reshape(UNCERTAINTY_GRID, UNCERTAINTY_GRID)


def held_out_rms(views: Sequence[View], size: tuple[int, int], model: LensModel, start: Camera) -> float:
    """Fit without each fifth of the views in turn and measure it there [px]; `start` only saves time."""
    found = []
    for fold in range(FOLDS):
        held, kept = views[fold::FOLDS], [view for i, view in enumerate(views) if i % FOLDS != fold]
        camera, corners = fit_lens(kept, size, model, start, JUDGED).camera, Corners.of(held)
        # The pose of a held-out view must be fitted, else its error would be that of a guess.
        poses = refined(corners, camera, board_poses(held, camera))
        found.append(residuals(corners, camera, poses))
    return rms(np.concatenate(found))


def _warnings(coverage: float, uncertainty: FloatArray) -> tuple[str, ...]:
    found = []
    if coverage < WANTED_COVERAGE:
        found.append(
            f"corners cover {coverage:.0%} of the image; aim at {WANTED_COVERAGE:.0%} and more, edges too"
        )
    worst = float(np.nanmax(uncertainty))
    if worst > MAX_UNCERTAINTY_PX:
        found.append(f"the lens is unsure by up to {worst:.1f} px in the image; take more pictures there")
    return tuple(found)


def _coverage(views: Sequence[View], size: tuple[int, int]) -> float:
    corners = np.concatenate([view.corners_px for view in views])
    cells = np.clip((corners + 0.5) / size * COVERAGE_GRID, 0, COVERAGE_GRID - 1).astype(int)
    return len({tuple(cell) for cell in cells}) / COVERAGE_GRID**2


def _check_views(views: Sequence[View], detections: Detections) -> None:
    if len(views) < MIN_VIEWS:
        total = len(views) + len(detections.without_board)
        raise CalibrationError(
            f"the board was found in {len(views)} of {total} pictures, expected at least {MIN_VIEWS}; take "
            "15-25, sharp, from different sides, and check that the board options are those of the print"
        )


def _check_kept(views: Sequence[View], dropped: dict[str, float], total: int) -> None:
    if len(views) < max(MIN_VIEWS, MIN_KEPT * total):
        worst = ", ".join(sorted(dropped, key=lambda name: -dropped[name])[:5])
        raise CalibrationError(
            f"{len(dropped)} of {total} views do not fit the rest ({worst}); is the board flat, printed at "
            "100 %, and was the focus locked?"
        )


def _check_tilt(fit: LensFit) -> float:
    """Return the largest tilt [deg] of the board against the image plane; refuse frontal views only."""
    facing = np.abs(fit.poses[:, 2, 2])
    tilt = float(np.rad2deg(np.arccos(np.clip(facing.min(), 0, 1))))
    if tilt < MIN_TILT_DEG:
        raise CalibrationError(
            f"the board is tilted by {tilt:.0f} deg at most, expected {MIN_TILT_DEG:.0f} or more in some "
            "views: the focal length cannot be told from the distance"
        )
    return tilt
