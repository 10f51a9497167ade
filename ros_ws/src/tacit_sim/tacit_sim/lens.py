"""Images of a real lens from a renderer that knows none: draw a wider pinhole, sample it at each ray.

MuJoCo draws undistorted pictures with square pixels about the centre. A camera with distortion, an
off-centre principal point or a fisheye looks up its own rays in such a picture.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import RigError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray

SUPERSAMPLING = 2
"""Samples per pixel and axis. The renderer does not smooth edges; a corner detector wants them smooth."""
NODE_STEP_PX = 2
MAX_HALF_ANGLE_DEG = 70.0
"""A plane picture grows with the tangent of the angle: beyond, the middle would be all blur."""


@dataclass(frozen=True, eq=False)
class Lens:
    """What to draw for one camera of a rig, and how to look it up.

    Attributes:
        camera: The camera whose image is wanted.
        width, height: Size of the picture to draw [px].
        focal_px: Its focal length; its principal point is the middle.
    """

    camera: Camera
    width: int
    height: int
    focal_px: float

    @classmethod
    def of(cls, camera: Camera, name: str) -> Lens:
        """Return the lens of one camera; a plain pinhole is drawn as it is.

        Raises:
            RigError: The field is too wide for a plane picture.
        """
        if is_plain(camera):
            return cls(camera, camera.width, camera.height, float(camera.K[1, 1]))
        border = camera.undistort(_border(camera))
        half_angle = float(np.rad2deg(np.arctan(np.linalg.norm(border, axis=-1).max())))
        if not half_angle < MAX_HALF_ANGLE_DEG:
            raise RigError(
                f"cameras.{name}: its lens sees {half_angle:.0f} deg off its axis (nan: beyond 90); the "
                f"simulated cell draws up to {MAX_HALF_ANGLE_DEG:.0f} deg"
            )
        focal = SUPERSAMPLING * float(max(camera.K[0, 0], camera.K[1, 1]))
        x, y = np.abs(border).max(axis=0)
        width, height = (2 * int(np.ceil(side * focal + 2)) for side in (x, y))
        return cls(camera, width, height, focal)

    @property
    def fovy_deg(self) -> float:
        """Vertical field of the picture to draw, as MuJoCo wants it."""
        return float(np.rad2deg(2 * np.arctan(self.height / 2 / self.focal_px)))

    def image(self, drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) of the camera from the picture drawn for it."""
        if is_plain(self.camera):
            return drawn
        fine = cv2.remap(drawn, *self._fine_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        size = (self.camera.width, self.camera.height)
        return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def labels(self, drawn: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return whole numbers (H, W) of the camera's pixels from those drawn for it; -1 outside."""
        if is_plain(self.camera):
            return drawn
        column, row = (np.rint(part).astype(np.int64) for part in self._coarse_map)
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        found = drawn[np.where(inside, row, 0), np.where(inside, column, 0)]
        return np.where(inside, found, -1)

    @functools.cached_property
    def _fine_map(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._lookup(SUPERSAMPLING)

    @functools.cached_property
    def _coarse_map(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._lookup(1)

    def _lookup(self, samples: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return where in the drawn picture each of `samples`^2 parts of each pixel lies.

        Rays are computed every few pixels and interpolated: to a few thousandths of a pixel for any lens
        that is smooth, in a fraction of the time.
        """
        columns, across = _spread(self.camera.width, samples)
        rows, down = _spread(self.camera.height, samples)
        nodes = np.stack(np.meshgrid(columns, rows), axis=-1)
        xy = np.nan_to_num(self.camera.undistort(nodes), nan=-1e3) * self.focal_px
        middle = (self.width - 1) / 2, (self.height - 1) / 2
        u, v = (down @ xy[..., i] @ across.T + middle[i] for i in range(2))
        return u.astype(np.float32), v.astype(np.float32)


def _spread(size: int, samples: int) -> tuple[FloatArray, FloatArray]:
    """Return nodes (K,) [px] along one side, and weights (size * samples, K) that interpolate them."""
    nodes = np.arange(-NODE_STEP_PX, size + 2 * NODE_STEP_PX, NODE_STEP_PX, dtype=np.float64)
    pixels = (np.arange(size * samples) + 0.5) / samples - 0.5
    weights = np.maximum(0.0, 1 - np.abs(pixels[:, None] - nodes) / NODE_STEP_PX)
    return nodes, weights


def is_plain(camera: Camera) -> bool:
    """Tell whether MuJoCo draws this camera itself: no distortion, square pixels, centred."""
    fx, fy = camera.K[0, 0], camera.K[1, 1]
    off_centre = np.abs(camera.K[:2, 2] - np.array([camera.width - 1, camera.height - 1]) / 2).max()
    return not any(camera.D) and _is_pinhole(camera) and abs(fx - fy) <= 1e-6 * fx and off_centre <= 1e-6


def _is_pinhole(camera: Camera) -> bool:
    """An equidistant lens without coefficients is no pinhole: a ray at 45 degrees tells."""
    return bool(np.allclose(camera.distort(np.array([1.0, 0.0])), [1.0, 0.0]))


def _border(camera: Camera) -> FloatArray:
    """Return pixels (M, 2) all along the border of the image."""
    u = np.linspace(-0.5, camera.width - 0.5, camera.width + 1)
    v = np.linspace(-0.5, camera.height - 0.5, camera.height + 1)
    rows = [np.stack([u, np.full_like(u, edge)], axis=-1) for edge in (v[0], v[-1])]
    columns = [np.stack([np.full_like(v, edge), v], axis=-1) for edge in (u[0], u[-1])]
    return np.concatenate([*rows, *columns])
