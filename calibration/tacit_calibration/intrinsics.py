"""K and D of a pinhole camera from views of a board, with an honest error.

Zhang's method as in OpenCV, with what it leaves to the user: bad views are dropped, the error is
measured on views the fit has not seen, and too few or too similar views are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.camera import PinholeCamera
from tacit.errors import CalibrationError
from tacit.rotations import rotation_from_vector
from tacit_calibration.detection import Detections, View

LensModel = Literal["plumb_bob", "rational"]
MIN_VIEWS = 8
MIN_TILT_DEG = 15.0
"""Focal length and distance only part in tilted views; peers and our synthetic boards agree on 15+."""
BAD_VIEW_FACTOR, BAD_VIEW_FLOOR_PX = 3.0, 0.3
"""A view is bad beyond three times the median error; .3 px is what a good detection leaves anyway."""
MIN_KEPT = 0.6
"""When more than 40 % of the views are bad, it is the board or the camera, not the views."""
FOLDS = 5
COVERAGE_GRID = 8


@dataclass(frozen=True, eq=False)
class Fit:
    """One calibration: the lens, and each view's board pose (rotation vector, translation [m])."""

    camera: PinholeCamera
    poses: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    sigma: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IntrinsicsResult:
    """A calibrated lens and how far to trust it.

    Attributes:
        camera: K and D for the size of the pictures.
        rms_px: Error over the views used [px].
        held_out_rms_px: Error over views left out of the fit in turn (only their pose is fitted).
        focal_sigma_px: Standard deviation of fx and fy by OpenCV.
        coverage: Fraction of an 8 x 8 grid over the image that holds a corner.
        tilt_deg: Largest angle between board and image plane.
        views: {name: RMS px} of the views used.
        dropped: {name: RMS px} of the views left out.
    """

    camera: PinholeCamera
    rms_px: float
    held_out_rms_px: float
    focal_sigma_px: tuple[float, float]
    coverage: float
    tilt_deg: float
    views: dict[str, float]
    dropped: dict[str, float]


def calibrate_intrinsics(detections: Detections, model: LensModel = "plumb_bob") -> IntrinsicsResult:
    """Fit K and D.

    Args:
        detections: Views of one board.
        model: `plumb_bob` (5 coefficients) or `rational` (8, for wide lenses).

    Raises:
        CalibrationError: Too few views, no tilted view, or too many bad ones.
    """
    size = detections.width, detections.height
    views, dropped = list(detections.views), dict[str, float]()
    _check_views(views, detections)
    while True:
        fit = _fit(views, size, model)
        errors = np.array(
            [_rms(_residuals(fit.camera, view, pose)) for view, pose in zip(views, fit.poses, strict=True)]
        )
        bad = errors > max(BAD_VIEW_FACTOR * float(np.median(errors)), BAD_VIEW_FLOOR_PX)
        if not bad.any():
            break
        dropped |= {view.name: float(e) for view, e, b in zip(views, errors, bad, strict=True) if b}
        views = [view for view, b in zip(views, bad, strict=True) if not b]
        _check_kept(views, dropped, len(detections.views))
    residuals = [_residuals(fit.camera, view, pose) for view, pose in zip(views, fit.poses, strict=True)]
    return IntrinsicsResult(
        camera=fit.camera,
        rms_px=_rms(np.concatenate(residuals)),
        held_out_rms_px=_held_out(views, size, model),
        focal_sigma_px=(float(fit.sigma[0]), float(fit.sigma[1])),
        coverage=_coverage(views, size),
        tilt_deg=_check_tilt(fit),
        views={view.name: float(e) for view, e in zip(views, errors, strict=True)},
        dropped=dropped,
    )


def _fit(views: Sequence[View], size: tuple[int, int], model: LensModel) -> Fit:
    points = [view.points_m.astype(np.float32)[:, None] for view in views]
    pixels = [view.corners_px.astype(np.float32)[:, None] for view in views]
    flags = cv2.CALIB_RATIONAL_MODEL if model == "rational" else 0
    _, K, D, rotations, translations, sigma, _, _ = cv2.calibrateCameraExtended(
        points, pixels, size, np.eye(3), np.zeros(5), flags=flags
    )
    count = 8 if model == "rational" else 5
    camera = PinholeCamera(np.asarray(K), tuple(np.ravel(D)[:count].tolist()), *size)
    poses = tuple((_vector(r), _vector(t)) for r, t in zip(rotations, translations, strict=True))
    return Fit(camera, poses, _vector(sigma))


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).ravel()


def _residuals(
    camera: PinholeCamera, view: View, pose: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return found minus projected corners (N, 2) [px]."""
    rotation, translation = pose
    return view.corners_px - camera.project(view.points_m @ rotation_from_vector(rotation).T + translation)


def _rms(residuals: NDArray[np.float64]) -> float:
    """Root mean square distance [px] of residuals (N, 2): both axes together, as OpenCV reports it."""
    return float(np.sqrt(np.mean(np.sum(residuals**2, axis=-1))))


def _held_out(views: Sequence[View], size: tuple[int, int], model: LensModel) -> float:
    """Fit without each fifth of the views in turn and measure it there."""
    residuals = []
    for fold in range(FOLDS):
        held, kept = views[fold::FOLDS], [view for i, view in enumerate(views) if i % FOLDS != fold]
        camera = _fit(kept, size, model).camera
        D = np.array(camera.D)
        for view in held:
            _, rotation, translation = cv2.solvePnP(view.points_m, view.corners_px, camera.K, D)
            residuals.append(_residuals(camera, view, (_vector(rotation), _vector(translation))))
    return _rms(np.concatenate(residuals))


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


def _check_tilt(fit: Fit) -> float:
    """Return the largest tilt [deg] of the board against the image plane; refuse frontal views only."""
    normals = np.array([rotation_from_vector(rotation)[:, 2] for rotation, _ in fit.poses])
    tilt = float(np.rad2deg(np.arccos(np.clip(np.abs(normals[:, 2]).min(), 0, 1))))
    if tilt < MIN_TILT_DEG:
        raise CalibrationError(
            f"the board is tilted by {tilt:.0f} deg at most, expected {MIN_TILT_DEG:.0f} or more in some "
            "views: the focal length cannot be told from the distance"
        )
    return tilt
