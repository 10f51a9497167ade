"""Cameras: from points in the optical frame to pixels of the stored image, and back.

Optical frames follow REP-103 (z forward, x right, y down); pixel centres lie at integers as in
OpenCV. A rig describes a camera (`tacit.rig.specs`), `footprint` projects sensors with it.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from tacit.geometry.transforms import FloatArray

if TYPE_CHECKING:
    from typing_extensions import Self

PINHOLE_COUNTS = (0, 4, 5, 8, 12, 14)
"""Numbers of coefficients that OpenCV knows: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1..s4 [tx ty]]]]."""
FISHEYE_COUNTS = (0, 4)
NEWTON_STEPS = 20
"""Newton on a distortion converges in 4-6 steps; 20 covers points next to the fold."""
DIFFERENCE_STEP = 1e-6


@dataclass(frozen=True, eq=False)
class Camera(ABC):
    """K (3, 3), distortion D, and the size of the stored image [px].

    `COUNTS` are the lengths of D that the model knows.

    Raises:
        ValueError: D has another length.
    """

    COUNTS: ClassVar[tuple[int, ...]]
    K: FloatArray
    D: tuple[float, ...]
    width: int
    height: int
    _coefficients: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.D) not in self.COUNTS:
            raise ValueError(f"D: {len(self.D)} coefficients, expected one of {self.COUNTS}")
        padded = np.zeros(max(self.COUNTS))
        padded[: len(self.D)] = self.D
        object.__setattr__(self, "D", tuple(float(d) for d in self.D))
        object.__setattr__(self, "K", np.asarray(self.K, dtype=np.float64))
        object.__setattr__(self, "_coefficients", padded)

    @property
    @abstractmethod
    def fold_radius(self) -> float:
        """Largest |(x/z, y/z)| that the model images one to one; inf where it never folds."""

    @abstractmethod
    def distort(self, xy: FloatArray) -> FloatArray:
        """Return distorted from ideal normalised coordinates (..., 2)."""

    def project(self, p_camera: ArrayLike) -> FloatArray:
        """Project points to pixels.

        Args:
            p_camera: Points (..., 3) in the optical frame [m].

        Returns:
            Pixels (..., 2). NaN where z <= 0 or where the lens model folds over (a point outside
            the field that the polynomial would throw back into the image).
        """
        p = np.asarray(p_camera, dtype=np.float64)
        z = p[..., 2:]
        front = z > 0
        with np.errstate(over="ignore"):  # a point a hair before the camera plane is at infinity
            xy = p[..., :2] / np.where(front, z, 1.0)
            seen = front & (np.sum(xy * xy, axis=-1, keepdims=True) < self.fold_radius**2)
        return np.where(seen, self._to_pixels(self.distort(np.where(seen, xy, 0.0))), np.nan)

    def undistort(self, pixels: ArrayLike) -> FloatArray:
        """Return ideal normalised coordinates (..., 2) = (x/z, y/z) of pixels (..., 2).

        NaN where no ray of the field meets the pixel.
        """
        uv = np.asarray(pixels, dtype=np.float64)
        v = (uv[..., 1] - self.K[1, 2]) / self.K[1, 1]
        u = (uv[..., 0] - self.K[0, 2] - self.K[0, 1] * v) / self.K[0, 0]
        target = np.stack([u, v], axis=-1)
        return self._invert_distortion(target)

    def rays(self, pixels: ArrayLike) -> FloatArray:
        """Return unit viewing directions (..., 3) in the optical frame of pixels (..., 2)."""
        xy = self.undistort(pixels)
        ray = np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)
        return ray / np.linalg.norm(ray, axis=-1, keepdims=True)

    def scaled(self, width: int, height: int) -> Self:
        """Return the camera of the image resized to width x height: u' = (u + .5) s - .5."""
        sx, sy = width / self.width, height / self.height
        K = np.diag([sx, sy, 1.0]) @ self.K
        # Pixel centres are integers, so the image begins at -.5: that edge, not pixel 0, stays where it is.
        K[0, 2], K[1, 2] = (self.K[0, 2] + 0.5) * sx - 0.5, (self.K[1, 2] + 0.5) * sy - 0.5
        return replace(self, K=K, width=width, height=height)

    def cropped(self, x: int, y: int, width: int, height: int) -> Self:
        """Return the camera of the window whose top left pixel is (x, y)."""
        if x < 0 or y < 0 or x + width > self.width or y + height > self.height or min(width, height) < 1:
            raise ValueError(
                f"crop x={x} y={y} {width}x{height} does not fit into the image {self.width}x{self.height}"
            )
        K = self.K.copy()
        K[0, 2], K[1, 2] = K[0, 2] - x, K[1, 2] - y
        return replace(self, K=K, width=width, height=height)

    def _to_pixels(self, xy: FloatArray) -> FloatArray:
        K = self.K
        u = K[0, 0] * xy[..., 0] + K[0, 1] * xy[..., 1] + K[0, 2]
        return np.stack([u, K[1, 1] * xy[..., 1] + K[1, 2]], axis=-1)

    def _invert_distortion(self, target: FloatArray) -> FloatArray:
        xy = self._first_guess(target)
        # A fixed number of rounds for all points at once: the slowest decides, and each costs microseconds.
        for _ in range(NEWTON_STEPS):
            error = target - self.distort(xy)
            xy = xy + _solve_2x2(*_difference_jacobian(self.distort, xy), error)
        miss = np.abs(target - self.distort(xy)).max(axis=-1, keepdims=True)
        inside = np.sum(xy * xy, axis=-1, keepdims=True) < self.fold_radius**2
        return np.where((miss < 1e-9) & inside, xy, np.nan)

    def _first_guess(self, target: FloatArray) -> FloatArray:
        # Inside the fold, or Newton starts on the far side of it and finds a ray that no lens has.
        limit = 0.9 * min(self.fold_radius, 1e3)
        radius = np.linalg.norm(target, axis=-1, keepdims=True)
        return target * np.minimum(1.0, limit / np.where(radius > 0, radius, 1.0))


@dataclass(frozen=True, eq=False)
class PinholeCamera(Camera):
    """OpenCV's pinhole: plumb_bob (4, 5), rational (8), thin prism (12) and tilted (14) lenses."""

    COUNTS = PINHOLE_COUNTS

    @functools.cached_property
    def fold_radius(self) -> float:
        """First radius where d(r N/M)/dr = 0 or M = 0, from the radial coefficients alone."""
        k1, k2, _, _, k3, k4, k5, k6 = self._coefficients[:8]
        numerator, denominator = np.array([k3, k2, k1, 1.0]), np.array([k6, k5, k4, 1.0])
        powers = np.array([3.0, 2.0, 1.0])
        change = np.convolve(powers * numerator[:3], denominator) - np.convolve(
            numerator, powers * denominator[:3]
        )
        # In s = r^2: N M + 2 s (N' M - N M'). Plain arrays, since a lens fit asks thousands of times.
        slope = np.convolve(numerator, denominator) + 2 * np.append(change, 0.0)
        return float(np.sqrt(_first_positive_root(slope, denominator)))

    def distort(self, xy: FloatArray) -> FloatArray:
        """Return distorted from ideal normalised coordinates (..., 2)."""
        if not any(self.D):
            return xy
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tilt_x, tilt_y = self._coefficients.tolist()
        x, y = xy[..., 0], xy[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        # Most lenses need five coefficients: the others are computed only where they are given.
        if len(self.D) > 5:
            radial = radial / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        if len(self.D) > 8:
            u, v = u + r2 * (s1 + s2 * r2), v + r2 * (s3 + s4 * r2)
        distorted = np.stack([u, v], axis=-1)
        return _tilt(distorted, tilt_x, tilt_y) if tilt_x or tilt_y else distorted

    def _invert_distortion(self, target: FloatArray) -> FloatArray:
        return super()._invert_distortion(target) if any(self.D) else target


@dataclass(frozen=True, eq=False)
class FisheyeCamera(Camera):
    """OpenCV's equidistant fisheye: theta_d = theta (1 + k1 theta^2 + ... + k4 theta^8)."""

    COUNTS = FISHEYE_COUNTS

    @functools.cached_property
    def fold_radius(self) -> float:
        """tan of the first angle where theta_d stops growing; inf from 90 degrees on."""
        k1, k2, k3, k4 = self._coefficients
        slope = np.array([9 * k4, 7 * k3, 5 * k2, 3 * k1, 1.0])
        angle = np.sqrt(_first_positive_root(slope))
        return float(np.tan(angle)) if angle < np.pi / 2 else float("inf")

    def distort(self, xy: FloatArray) -> FloatArray:
        """Return distorted from ideal normalised coordinates (..., 2)."""
        radius = np.sqrt(np.sum(xy * xy, axis=-1, keepdims=True))
        theta = np.arctan(radius)
        t2 = theta * theta
        k1, k2, k3, k4 = self._coefficients.tolist()
        theta_d = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        return xy * np.where(radius > 1e-12, theta_d / np.where(radius > 1e-12, radius, 1.0), 1.0)

    def _first_guess(self, target: FloatArray) -> FloatArray:
        """Undo the equidistant part: theta is about |target|."""
        theta = np.linalg.norm(target, axis=-1, keepdims=True)
        limit = 0.95 * np.arctan(self.fold_radius)
        radius = np.tan(np.minimum(theta, limit))
        return target * np.where(theta > 1e-12, radius / np.where(theta > 1e-12, theta, 1.0), 1.0)


def _first_positive_root(*polynomials: FloatArray) -> float:
    """Return the smallest positive real root of any polynomial (highest power first), else inf."""
    # A leading coefficient of rounding size would throw the companion matrix off for all roots.
    roots = np.concatenate([np.roots(np.where(np.abs(p) < 1e-14, 0.0, p)) for p in polynomials])
    real = roots[(np.abs(roots.imag) < 1e-9) & (roots.real > 1e-12)].real
    return float(real.min()) if real.size else float("inf")


def _tilt(xy: FloatArray, tilt_x: float, tilt_y: float) -> FloatArray:
    """Apply OpenCV's Scheimpflug model: the sensor plane turned about x, then y [rad]."""
    cx, sx, cy, sy = np.cos(tilt_x), np.sin(tilt_x), np.cos(tilt_y), np.sin(tilt_y)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    R = about_y @ about_x
    onto_plane = np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]]) @ R
    homogeneous = np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1) @ onto_plane.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def _difference_jacobian(
    function: Callable[[FloatArray], FloatArray], xy: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the columns d f/dx and d f/dy (..., 2) by central differences."""
    dx, dy = np.array([DIFFERENCE_STEP, 0.0]), np.array([0.0, DIFFERENCE_STEP])
    return tuple((function(xy + d) - function(xy - d)) / (2 * DIFFERENCE_STEP) for d in (dx, dy))  # type: ignore[return-value]


def _solve_2x2(column_x: FloatArray, column_y: FloatArray, right: FloatArray) -> FloatArray:
    determinant = column_x[..., 0] * column_y[..., 1] - column_x[..., 1] * column_y[..., 0]
    # Where the Jacobian vanishes the step is zero: the point stays, misses, and becomes NaN.
    safe = np.where(np.abs(determinant) > 1e-9, determinant, np.inf)
    x = (right[..., 0] * column_y[..., 1] - right[..., 1] * column_y[..., 0]) / safe
    y = (column_x[..., 0] * right[..., 1] - column_x[..., 1] * right[..., 0]) / safe
    return np.stack([x, y], axis=-1)
