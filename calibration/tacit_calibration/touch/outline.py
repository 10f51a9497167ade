"""Gels without a mouse: the coloured outline of a sensor in each picture, and the box that casts it.

A gel pad with a colour of its own is cut out of the picture; pose and size of the box whose projected
hull fits all outlines best are those of the sensor. The thickness is taken from the rig.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import least_squares

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.footprint import box_corners
from tacit.geometry.transforms import FloatArray, from_translation, transform_points
from tacit.images import Image
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.samples import picture
from tacit_calibration.touch.sensor_offset import SensorResult
from tacit_calibration.touch.touch_views import TouchView, finger_views

UPSAMPLING = 4
SEED_SHARE = 0.6
"""Part of the expected hull, about its middle, that must show the gel: mounts are known to some mm."""
GROUND_FACTOR = 2.5
MIN_CONTRAST = 0.06
"""Distance of normalised colours (r, g, b sum to 1): grey and grey are 0, blue and grey .2."""
MIN_AREA, MAX_AREA = 0.3, 3.0
MAX_POINTS = 160
ROBUST_PX = 1.5
MIN_OUTLINES = 3
FREE_POINTS = 16
"""How many of an outline's points err on their own: about two or three along each edge."""
UNIT = np.concatenate([np.full(3, 1e-2), np.full(3, 1e-3), [1e-2, 1e-2]])


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline (M, 2) [px] of one sensor in one picture; `view` says where its finger was."""

    view: TouchView
    points: FloatArray


def find_outline(image: Image, rig: Rig, camera: str, view: TouchView) -> Outline:
    """Cut a sensor out of a picture by its colour, starting where the rig expects it.

    Raises:
        CalibrationError: It has no colour of its own, or what was found is no gel.
    """
    hull, where = predicted_hull(rig, camera, view), view.click.name
    if not np.isfinite(hull).all():
        raise CalibrationError(f"{where}: the rig expects it behind the camera")
    # Shares of red, green and blue, so that light and shade on the gel do not matter.
    colours = image.astype(np.float64) / np.maximum(image.sum(axis=2, keepdims=True), 30.0)
    seed = _median_inside(colours, hull, SEED_SHARE)
    ground = _median_inside(colours, hull, GROUND_FACTOR, without=hull)
    contrast = float(np.linalg.norm(seed - ground))
    if contrast < MIN_CONTRAST:
        raise CalibrationError(
            f"{where}: has no colour of its own where the rig expects it (contrast {contrast:.2f}, wanted "
            f"{MIN_CONTRAST:g}); click its corners instead"
        )
    likeness = np.clip(1 - np.linalg.norm(colours - seed, axis=2) / contrast, 0, 1)
    contour = _contour(likeness, hull.mean(axis=0))
    area = abs(cv2.contourArea(contour.astype(np.float32))) / abs(cv2.contourArea(hull.astype(np.float32)))
    if not MIN_AREA < area < MAX_AREA:
        raise CalibrationError(
            f"{where}: what has its colour is {area:.1f} times as large as the gel should be; something "
            "of the same colour behind it, or hidden? click its corners instead"
        )
    step = max(1, len(contour) // MAX_POINTS)
    return Outline(view, contour[::step])


def solve_outlines(
    rig: Rig, camera: str, name: str, outlines: Sequence[Outline], *, fit_size: bool = True
) -> SensorResult:
    """Find pose and size of one sensor from its outlines at several openings.

    Raises:
        CalibrationError: Too few outlines.
    """
    if len(outlines) < MIN_OUTLINES:
        raise CalibrationError(f"{name}: {len(outlines)} outlines, expected {MIN_OUTLINES} or more")
    lens, spec = rig.geometry.camera(camera), rig.tactile[name]
    start, size = np.asarray(spec.T_mount_sensor), np.array(spec.size_m)
    unit = UNIT if fit_size else UNIT[:6]

    def unpack(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        step = np.concatenate([x * unit, np.zeros(8 - len(x))])
        return start @ small_pose(step[:6]), size * np.array([1 + step[6], 1 + step[7], 1.0])

    def distances(x: FloatArray) -> list[FloatArray]:
        T, sides = unpack(x)
        return [_distance(outline, _hull(outline.view, lens, T, sides)) for outline in outlines]

    found = least_squares(
        lambda x: np.concatenate(distances(x)),
        np.zeros(len(unit)),
        loss="soft_l1",
        f_scale=ROBUST_PX,
        diff_step=1e-4,
    )
    (T, sides), left = unpack(found.x), distances(found.x)
    sigma = np.append(_sigma(found.jac, left) * unit, np.zeros(8 - len(unit)))
    return SensorResult(
        T_mount_sensor=T,
        size_m=(float(sides[0]), float(sides[1]), float(sides[2])),
        sigma_m=float(np.linalg.norm(sigma[3:6])),
        sigma_rad=float(np.linalg.norm(sigma[:3])),
        sigma_size_m=sigma[6:8] * size[:2],
        rms_px=_rms(np.concatenate(left)),
        click_px={o.view.click.name: _rms(distance) for o, distance in zip(outlines, left, strict=True)},
        warnings=(),
    )


def _sigma(jacobian: FloatArray, left: Sequence[FloatArray]) -> FloatArray:
    """Return standard deviations: neighbours on an outline err alike, it counts as a few free points."""
    together = np.concatenate(left)
    shared = max(1.0, len(together) / (FREE_POINTS * len(left)))
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * float(np.mean(together**2)) * shared
    return np.asarray(np.sqrt(np.diag(covariance)))


def _rms(distance: FloatArray) -> float:
    return float(np.sqrt(np.mean(distance**2)))


def predicted_hull(rig: Rig, camera: str, view: TouchView) -> FloatArray:
    """Return the hull (K, 2) [px] that a rig predicts; NaN (1, 2) where it is behind the camera."""
    spec = rig.tactile[view.click.sensor]
    size = np.array(spec.size_m)
    hull = _hull(view, rig.geometry.camera(camera), np.asarray(spec.T_mount_sensor), size)
    return np.full((1, 2), np.nan) if hull is None else hull


def find_outlines(
    rig: Rig, camera: str, folder: Path, sensor: str
) -> tuple[list[Outline], list[CalibrationError]]:
    """Cut a sensor out of every sample of a folder; also return why it could not be done in some."""
    outlines, problems = [], []
    pictures = {sample.image: sample for sample in load_samples(folder).samples}
    for view in finger_views(rig, camera, folder, sensor):
        try:
            image = picture(folder, pictures[view.click.image])
            outlines.append(find_outline(image, rig, camera, view))
        except CalibrationError as problem:
            problems.append(problem)
    return outlines, problems


def outlines_of_arm(
    rig: Rig, camera: str, folder: Path
) -> tuple[dict[str, list[Outline]], list[CalibrationError]]:
    """Return {sensor: its outlines} of every sensor on the arm that moved, and why some pictures lack one."""
    arm, found, problems = load_samples(folder).arm, {}, list[CalibrationError]()
    for name, spec in rig.tactile.items():
        if spec.mount.startswith(f"{arm}."):
            found[name], skipped = find_outlines(rig, camera, folder, name)
            problems += skipped
    return found, problems


def _hull(view: TouchView, lens: Camera, T_mount: FloatArray, size: FloatArray) -> FloatArray | None:
    """Return the convex hull (K, 2) of the projected box, in order; None where part of it is behind."""
    T = view.T_camera_flange @ from_translation(view.opening_m * view.slide) @ T_mount
    pixels = lens.project(transform_points(T, box_corners(size)))
    if not np.isfinite(pixels).all():
        return None
    order = cv2.convexHull(pixels.astype(np.float32), returnPoints=False)
    return np.asarray(pixels[np.ravel(order)])


def _distance(outline: Outline, hull: FloatArray | None) -> FloatArray:
    """Return signed distances (M,) [px] of outline points from a convex hull, positive outside."""
    if hull is None:
        return np.full(len(outline.points), 1e3)
    start, side = hull, np.roll(hull, -1, axis=0) - hull
    to = outline.points[:, None] - start
    along = np.clip(np.sum(to * side, axis=-1) / np.sum(side * side, axis=-1), 0, 1)
    nearest = np.linalg.norm(to - along[..., None] * side, axis=-1).min(axis=1)
    turn = side[:, 0] * to[..., 1] - side[:, 1] * to[..., 0]
    # Inside is the same side of all edges, whichever way round the hull runs.
    inside = (turn >= 0).all(axis=1) | (turn <= 0).all(axis=1)
    return np.where(inside, -nearest, nearest)


def _median_inside(
    colours: FloatArray, hull: FloatArray, factor: float, without: FloatArray | None = None
) -> FloatArray:
    """Return the median colour (3,) inside a hull scaled about its middle, perhaps without its inside."""
    middle = hull.mean(axis=0)
    mask = np.zeros(colours.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(middle + factor * (hull - middle)).astype(np.int32), 1)
    if without is not None:
        cv2.fillConvexPoly(mask, np.rint(without).astype(np.int32), 0)
    chosen = colours[mask > 0]
    return np.median(chosen, axis=0) if len(chosen) else np.full(3, 1 / 3)


def _contour(likeness: FloatArray, near: FloatArray) -> FloatArray:
    """Return the outline (M, 2) [px] of the region that is like the gel and nearest to a pixel."""
    height, width = likeness.shape
    fine = cv2.resize(
        likeness.astype(np.float32), (width * UPSAMPLING, height * UPSAMPLING), interpolation=cv2.INTER_LINEAR
    )
    mask = (fine > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros((1, 2))
    target = tuple(float(v) for v in (near + 0.5) * UPSAMPLING - 0.5)
    best = max(contours, key=lambda contour: cv2.pointPolygonTest(contour, target, True))
    return (best[:, 0].astype(np.float64) + 0.5) / UPSAMPLING - 0.5
