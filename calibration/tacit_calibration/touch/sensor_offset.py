"""Where a gel sits in its finger, how large it is, and how far the gripper was open: from clicked corners.

Least squares over the pixels of the four corners of each gel face at several openings, with a loss
that lets single wild clicks go. An error of the camera's own pose is absorbed here: the boxes come out right
in this camera, which is what they are for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit_calibration.estimation.board_pose import rms
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.touch.touch_views import TouchView, by_sensor

ROBUST_PX = 2.0
"""Beyond two pixels a click counts linearly: a hand is off by about one."""
MIN_PICTURES = 3
MIN_RANGE_M = 5e-3
"""Openings within 5 mm of each other do not tell the slide of a finger from its place."""
BAD_CLICK_PX = 8.0
HIDDEN_PX = 1e3
"""What a corner behind the camera counts as: far enough to be left, finite to be stepped over."""
MAX_SIZE_CHANGE = 0.5
STAND_OUT_WEIGHT = 1e5
"""A micrometre counts like a tenth of a pixel: as good as fixed."""
UNIT = np.repeat([1e-2, 1e-3], 3)
"""Steps of the solver: 10 mrad and 1 mm."""


@dataclass(frozen=True, eq=False)
class SensorResult:
    """One sensor.

    Attributes:
        T_mount_sensor: (4, 4).
        size_m: Width, height, thickness; the thickness is not seen and stays.
        sigma_m, sigma_rad: Standard deviation of position and rotation, all axes together.
        sigma_size_m: Standard deviation of width and height (2,).
        rms_px: Error over all corners.
        click_px: {picture and sensor: RMS px}.
        warnings: What makes the result weaker than its numbers say.
    """

    T_mount_sensor: FloatArray
    size_m: tuple[float, float, float]
    sigma_m: float
    sigma_rad: float
    sigma_size_m: FloatArray
    rms_px: float
    click_px: dict[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class OpeningsResult:
    """How far a gripper was open at each of its driver's values.

    Attributes:
        raw: Distinct driver's values (k,), ascending.
        opening_m: Openings (k,) between the gel faces.
        sigma_m: Standard deviation (k,).
        rms_px: Error over all corners.
    """

    raw: FloatArray
    opening_m: FloatArray
    sigma_m: FloatArray
    rms_px: float


def solve_sensor(
    rig: Rig, camera: str, name: str, views: Sequence[TouchView], *, fit_size: bool = True
) -> SensorResult:
    """Find pose and size of one sensor from clicks at several openings.

    Args:
        rig: Start values, the camera, and the gripper model that is believed.
        camera: Which camera saw the clicks.
        name: The sensor.
        views: Its clicks.
        fit_size: False keeps width and height of the rig.

    Raises:
        CalibrationError: Too few pictures, or a result that is far from any start.
    """
    if len(views) < MIN_PICTURES:
        raise CalibrationError(
            f"{name}: clicked in {len(views)} pictures, expected {MIN_PICTURES} or more at different openings"
        )
    lens, spec = rig.geometry.camera(camera), rig.tactile[name]
    start, size = np.asarray(spec.T_mount_sensor), np.array(spec.size_m[:2])

    def unpack(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        return start @ small_pose(x[:6] * UNIT), size * (1 + x[6:8] if fit_size else 1.0)

    def residuals(x: FloatArray) -> FloatArray:
        T, face = unpack(x)
        return np.concatenate([_error(view, lens, T, face) for view in views]).ravel()

    x, covariance = robust_minimum(residuals, 8 if fit_size else 6)
    T, face = unpack(x)
    if fit_size and np.abs(x[6:8]).max() > MAX_SIZE_CHANGE:
        raise CalibrationError(
            f"{name}: the clicks make the gel {1e3 * face[0]:.1f} x {1e3 * face[1]:.1f} mm, the rig says "
            f"{1e3 * size[0]:.1f} x {1e3 * size[1]:.1f}; are they of this sensor, and is size_m in metres?"
        )
    errors = [_error(view, lens, T, face) for view in views]
    click_px = {view.click.name: rms(error) for view, error in zip(views, errors, strict=True)}
    sigma = np.sqrt(np.diag(covariance))
    return SensorResult(
        T_mount_sensor=T,
        size_m=(float(face[0]), float(face[1]), spec.size_m[2]),
        sigma_m=float(np.linalg.norm(sigma[3:6] * UNIT[3:])),
        sigma_rad=float(np.linalg.norm(sigma[:3] * UNIT[:3])),
        sigma_size_m=sigma[6:8] * size if fit_size else np.zeros(2),
        rms_px=rms(np.concatenate(errors)),
        click_px=click_px,
        warnings=_warnings(views, click_px),
    )


def solve_openings(rig: Rig, camera: str, views: Sequence[TouchView]) -> OpeningsResult:
    """Find how far the gripper was open at each driver's value, together with the poses of its sensors.

    A gel that stands further out and a gripper that is less open look the same: how far the gels stand
    out along the jaw axis stays as in the rig. And a larger gel, further away, in a wider gripper looks
    the same too: width and height stay as in the rig, and openings are as right as they are.

    Raises:
        CalibrationError: Fewer than three driver's values.
    """
    raws, index = np.unique([view.raw for view in views], return_inverse=True)
    if len(raws) < MIN_PICTURES or not np.isfinite(raws).all():
        raise CalibrationError(
            f"gripper: {len(raws)} driver's values in the samples, expected {MIN_PICTURES} or more"
        )
    jaw = _Jaw(rig, rig.geometry.camera(camera), views, index)
    x, covariance = robust_minimum(jaw.residuals, jaw.num_unknowns)
    sigma = 1e-3 * np.sqrt(np.diag(covariance)[-len(raws) :])
    return OpeningsResult(raws, jaw.openings(x), sigma, rms(np.concatenate(jaw.errors(x))))


@dataclass(frozen=True, eq=False)
class _Jaw:
    """Gels of one gripper at several openings; unknown are 6 numbers for each gel's place, and the openings.

    `index` (one per view) says at which of the openings it was taken.
    """

    rig: Rig
    lens: Camera
    views: Sequence[TouchView]
    index: NDArray[np.intp]

    @functools.cached_property
    def sensors(self) -> list[str]:
        return list(by_sensor(self.views))

    @functools.cached_property
    def believed(self) -> FloatArray:
        """Openings (k,) by the rig's gripper model."""
        sums = np.bincount(self.index, [view.opening_m for view in self.views])
        return np.asarray(sums / np.bincount(self.index))

    @property
    def num_unknowns(self) -> int:
        return 6 * len(self.sensors) + len(self.believed)

    def openings(self, x: FloatArray) -> FloatArray:
        return self.believed + 1e-3 * x[6 * len(self.sensors) :]

    def places(self, x: FloatArray) -> dict[str, FloatArray]:
        """Return {sensor: T_mount_sensor}."""
        steps = x[: 6 * len(self.sensors)].reshape(-1, 6) * UNIT
        return {
            name: np.asarray(self.rig.tactile[name].T_mount_sensor) @ small_pose(step)
            for name, step in zip(self.sensors, steps, strict=True)
        }

    def errors(self, x: FloatArray) -> list[FloatArray]:
        """Return projected minus clicked corners (4, 2) [px] of each view."""
        places, openings = self.places(x), self.openings(x)
        return [
            _error(view, self.lens, places[name], np.array(self.rig.tactile[name].size_m[:2]), openings[k])
            for view, k in zip(self.views, self.index, strict=True)
            for name in [view.click.sensor]
        ]

    def stand_out(self, x: FloatArray) -> float:
        """Return how much further than in the rig the gels stand out of their fingers, on average [m]."""
        slides = {view.click.sensor: 2 * view.slide for view in self.views}
        moves = [
            slides[name] @ (T[:3, 3] - self.rig.tactile[name].T_mount_sensor[:3, 3])
            for name, T in self.places(x).items()
        ]
        return float(np.mean(moves))

    def residuals(self, x: FloatArray) -> FloatArray:
        return np.append(np.concatenate(self.errors(x)).ravel(), STAND_OUT_WEIGHT * self.stand_out(x))


def _error(
    view: TouchView, lens: Camera, T: FloatArray, size: FloatArray, opening_m: float | None = None
) -> FloatArray:
    """Return projected minus clicked corners (4, 2) [px]."""
    projected = view.project(lens, T, size, opening_m)
    return np.nan_to_num(projected - view.click.pixels, nan=HIDDEN_PX)


def robust_minimum(residuals: Callable[[FloatArray], FloatArray], size: int) -> tuple[FloatArray, FloatArray]:
    """Return the robust minimum (size,) and its covariance, with the noise taken from the residuals."""
    from scipy.optimize import least_squares  # slow to import

    found = least_squares(residuals, np.zeros(size), loss="soft_l1", f_scale=ROBUST_PX, x_scale="jac")
    left = residuals(found.x)
    # Normal residuals have a median size of sigma / 1.4826, and wild clicks hardly move a median.
    noise = 1.4826 * float(np.median(np.abs(left)))
    information = found.jac.T @ found.jac
    return found.x, noise**2 * np.linalg.pinv(information)


def _warnings(views: Sequence[TouchView], click_px: dict[str, float]) -> tuple[str, ...]:
    found = [
        f"{name}: {error:.1f} px off; click it again"
        for name, error in click_px.items()
        if error > BAD_CLICK_PX
    ]
    openings = [view.opening_m for view in views]
    if views[0].slide.any() and np.ptp(openings) < MIN_RANGE_M:
        found.append(f"openings differ by {1e3 * np.ptp(openings):.1f} mm only; open and close the gripper")
    return tuple(found)
