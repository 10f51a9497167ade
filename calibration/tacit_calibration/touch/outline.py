"""Gels without a mouse: the box whose projected hull lies on the outlines seen at several openings.

A box of the rig's thickness where the gel's sides have its colour, else its face alone: what fits is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.footprint import box_corners
from tacit.geometry.transforms import FloatArray, from_translation, transform_points
from tacit.rig import Rig
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.touch.sensor_offset import SensorResult
from tacit_calibration.touch.touch_views import TouchView

ROBUST_PX = 1.0
WEAK_MM, WEAK_DEG = 2.0, 3.0
"""A sigma beyond these moves boxes by as much as a rig does that nobody has calibrated."""
MIN_OUTLINES = 3
FINE_ENOUGH = 1e-5
"""Steps that change the sum of squares by less move a box by less than a hundredth of its sigma."""
FREE_POINTS = 16
"""How many of an outline's points err on their own: about two or three along each edge."""
UNIT = np.concatenate([np.full(3, 1e-2), np.full(3, 1e-3), [1e-2, 1e-2]])
BELIEF = np.concatenate([np.full(3, 0.15), np.full(3, 0.02), [0.3, 0.3]])
"""What is believed of a rig that nobody has calibrated (one sigma): 9 deg, 2 cm, a third of the size.

It keeps a turn that the pictures do not tell from running away, and costs a turn that they do tell nothing.
"""


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline (M, 2) [px] of one sensor in one picture; `view` says where its finger was.

    Attributes:
        thickness_m: Of the box that casts it: the rig's, or 0 where the face alone is seen.
        support: Share of the outline with a clear edge.
    """

    view: TouchView
    points: FloatArray
    thickness_m: float
    support: float = 1.0


@dataclass(frozen=True, eq=False)
class BoxFit:
    """Where a box lies: T_mount_sensor (4, 4), its sides (3,) [m], and what is left of each outline [px].

    `sigma` (8,): rotation [rad], position [m], width and height by their own size.
    """

    T_mount_sensor: FloatArray
    size_m: FloatArray
    left: list[FloatArray]
    sigma: FloatArray


def fit_box(
    lens: Camera, T_start: FloatArray, size_m: FloatArray, outlines: Sequence[Outline], *, fit_size: bool
) -> BoxFit:
    """Return the box near a start whose hulls lie on all outlines; their thickness is the box's."""
    from scipy.optimize import least_squares  # slow to import

    unit = UNIT if fit_size else UNIT[:6]
    size = np.array([*size_m[:2], outlines[0].thickness_m])
    fingers = np.array([_finger(outline.view) for outline in outlines])

    def unpack(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        step = np.concatenate([x * unit, np.zeros(8 - len(x))])
        return T_start @ small_pose(step[:6]), size * np.array([1 + step[6], 1 + step[7], 1.0])

    def distances(x: FloatArray) -> list[FloatArray]:
        T, sides = unpack(x)
        corners = lens.project(transform_points(fingers @ T, box_corners(sides)))
        return [_distance(o.points, _hull(pixels)) for o, pixels in zip(outlines, corners, strict=True)]

    def residuals(x: FloatArray) -> FloatArray:
        return np.concatenate([*distances(x), x * unit / BELIEF[: len(x)]])

    found = least_squares(
        residuals,
        np.zeros(len(unit)),
        loss="soft_l1",
        f_scale=ROBUST_PX,
        diff_step=1e-4,
        ftol=FINE_ENOUGH,
        max_nfev=30,
    )
    (T, sides), left = unpack(found.x), distances(found.x)
    sigma = np.append(_sigma(found.jac, left) * unit, np.zeros(8 - len(unit)))
    return BoxFit(T, sides, left, sigma)


def solve_outlines(
    rig: Rig, camera: str, name: str, outlines: Sequence[Outline], *, fit_size: bool = True
) -> SensorResult:
    """Find pose and size of one sensor from its outlines at several openings.

    Sigma is what the outlines' own noise makes, or what leaving out each picture in turn shows, whichever
    is larger.

    Raises:
        CalibrationError: Too few outlines.
    """
    if len(outlines) < MIN_OUTLINES:
        raise CalibrationError(f"{name}: {len(outlines)} outlines, expected {MIN_OUTLINES} or more")
    lens, spec = rig.geometry.camera(camera), rig.tactile[name]
    fit = fit_box(lens, np.asarray(spec.T_mount_sensor), np.array(spec.size_m), outlines, fit_size=fit_size)
    sigma = np.maximum(fit.sigma, _left_out(lens, fit, outlines, fit_size))
    return SensorResult(
        T_mount_sensor=fit.T_mount_sensor,
        size_m=(float(fit.size_m[0]), float(fit.size_m[1]), spec.size_m[2]),
        sigma_m=float(np.linalg.norm(sigma[3:6])),
        sigma_rad=float(np.linalg.norm(sigma[:3])),
        sigma_size_m=sigma[6:8] * fit.size_m[:2],
        rms_px=_rms(np.concatenate(fit.left)),
        click_px={o.view.click.name: _rms(left) for o, left in zip(outlines, fit.left, strict=True)},
        warnings=_warnings(name, sigma),
    )


def _warnings(name: str, sigma: FloatArray) -> tuple[str, ...]:
    away, turn = 1e3 * float(np.linalg.norm(sigma[3:6])), float(np.rad2deg(np.linalg.norm(sigma[:3])))
    if away <= WEAK_MM and turn <= WEAK_DEG:
        return ()
    return (
        f"{name}: these pictures tell its place by {away:.1f} mm and {turn:.1f} deg only; take some from "
        "nearer, or from other sides",
    )


def _left_out(lens: Camera, fit: BoxFit, outlines: Sequence[Outline], fit_size: bool) -> FloatArray:
    """Return the jackknife's standard deviations (8,); zero below four outlines."""
    count, changes = len(outlines), []
    if count <= MIN_OUTLINES:
        return np.zeros(8)
    for k in range(count):
        others = [*outlines[:k], *outlines[k + 1 :]]
        other = fit_box(lens, fit.T_mount_sensor, fit.size_m, others, fit_size=fit_size)
        step = np.linalg.inv(fit.T_mount_sensor) @ other.T_mount_sensor
        turn = cv2.Rodrigues(step[:3, :3])[0].ravel()
        changes.append(np.concatenate([turn, step[:3, 3], other.size_m[:2] / fit.size_m[:2] - 1]))
    return np.asarray(np.sqrt((count - 1) / count * np.sum(np.square(changes), axis=0)))


def _sigma(jacobian: FloatArray, left: Sequence[FloatArray]) -> FloatArray:
    """Return standard deviations: neighbours on an outline err alike, it counts as a few free points."""
    together = np.concatenate(left)
    shared = max(1.0, len(together) / (FREE_POINTS * len(left)))
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * float(np.mean(together**2)) * shared
    return np.asarray(np.sqrt(np.diag(covariance)))


def _rms(distance: FloatArray) -> float:
    return float(np.sqrt(np.mean(distance**2)))


def predicted_hull(rig: Rig, camera: str, view: TouchView, thickness_m: float | None = None) -> FloatArray:
    """Return the hull (K, 2) [px] that a rig predicts; NaN (1, 2) where it is behind the camera."""
    spec = rig.tactile[view.click.sensor]
    size = np.array([*spec.size_m[:2], spec.size_m[2] if thickness_m is None else thickness_m])
    hull = box_hull(view, rig.geometry.camera(camera), np.asarray(spec.T_mount_sensor), size)
    return np.full((1, 2), np.nan) if hull is None else hull


def box_hull(view: TouchView, lens: Camera, T_mount: FloatArray, size: FloatArray) -> FloatArray | None:
    """Return the convex hull (K, 2) of the projected box, in order; None where part of it is behind."""
    return _hull(lens.project(transform_points(_finger(view) @ T_mount, box_corners(size))))


def _finger(view: TouchView) -> FloatArray:
    """Return T_camera_mount (4, 4)."""
    return np.asarray(view.T_camera_flange @ from_translation(view.opening_m * view.slide))


def _hull(pixels: FloatArray) -> FloatArray | None:
    if not np.isfinite(pixels).all():
        return None
    order = cv2.convexHull(pixels.astype(np.float32), returnPoints=False)
    return np.asarray(pixels[np.ravel(order)])


def seen_shift(hull: FloatArray, points: FloatArray) -> FloatArray:
    """Return how far (2,) [px] an outline lies from a predicted hull, its size left free."""
    from scipy.optimize import least_squares  # slow to import

    middle = hull.mean(axis=0)

    def residuals(x: FloatArray) -> FloatArray:
        return _distance(points, middle + x[:2] + (1 + x[2] / 100) * (hull - middle))

    found = least_squares(residuals, np.zeros(3), loss="soft_l1", f_scale=ROBUST_PX, max_nfev=30)
    return np.asarray(found.x[:2])


def _distance(points: FloatArray, hull: FloatArray | None) -> FloatArray:
    """Return signed distances (M,) [px] of outline points from a convex hull, positive outside."""
    if hull is None:
        return np.full(len(points), 1e3)
    start, side = hull, np.roll(hull, -1, axis=0) - hull
    to = points[:, None] - start
    along = np.clip(np.sum(to * side, axis=-1) / np.maximum(np.sum(side * side, axis=-1), 1e-12), 0, 1)
    nearest = np.linalg.norm(to - along[..., None] * side, axis=-1).min(axis=1)
    turn = side[:, 0] * to[..., 1] - side[:, 1] * to[..., 0]
    # Inside is the same side of all edges, whichever way round the hull runs.
    inside = (turn >= 0).all(axis=1) | (turn <= 0).all(axis=1)
    return np.where(inside, -nearest, nearest)
