"""Images of a camera-based tactile sensor by ray casting: no GL, any MuJoCo geom.

A camera behind the gel sees how far parts press into the gel plane, lit from three sides in red,
green and blue (Si and Yuan 2022, Taxim, arXiv:2109.04027). Perspective is kept.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.geometry.transforms import FloatArray
from tacit_sim.model import FELT_GROUP, TOUCH_GROUP
from tacit_sim.rendering import mujoco

CAMERA_DISTANCE_M = 0.030
"""From the pinhole behind the gel to the gel plane, as in a DIGIT-sized sensor."""

GEL_THICKNESS_M = 0.0015
REACH_M = 0.010
"""Rays end this far beyond the gel plane."""

SMOOTHING = (15, 7, 3)
"""Gaussian kernels of Taxim in pixels of an 80 pixel wide image; scaled to other widths."""

SLOPE_GAIN, LIGHT_GAIN, DEPTH_GAIN = 2.0, 0.55, 0.05
LIGHT_RADIUS, LIGHT_HEIGHT = 0.8, 0.6
LIGHT_ANGLES = np.deg2rad([0.0, 120.0, 240.0])


class TactileCamera:
    """The camera of one sensor.

    Args:
        model: The compiled cell.
        size_m: Width and height of the gel face [m] (thickness is ignored).
        rays: Columns and rows of rays.
        width, height: Size of the image [px].
    """

    def __init__(
        self, model: mujoco.MjModel, size_m: tuple[float, ...], rays: tuple[int, int], width: int, height: int
    ) -> None:
        self._model = model
        self._columns, self._rows = rays
        self._pitch = (size_m[0] / rays[0], size_m[1] / rays[1])
        self._size = (width, height)
        self._rays_sensor = gel_rays(size_m, rays)
        self._groups = np.array([int(g in (TOUCH_GROUP, FELT_GROUP)) for g in range(6)], np.uint8)
        count = self._columns * self._rows
        self._geom = np.zeros(count, np.int32)
        self._distance = np.zeros(count)
        self._background = background(self._columns, self._rows)
        self._reference = self._quantise(self._background)

    @property
    def reference(self) -> NDArray[np.uint8]:
        """The image without contact (H, W, 3)."""
        return self._reference.copy()

    def indentation(self, data: mujoco.MjData, T_world_sensor: FloatArray) -> FloatArray:
        """Return how deep parts stand in the gel (rows, columns) [m], 0 where they do not.

        Args:
            data: State with kinematics computed.
            T_world_sensor: Pose (4, 4) of the gel face, x right, y down, z out of the gel.
        """
        origin = (T_world_sensor @ (0.0, 0.0, -CAMERA_DISTANCE_M, 1.0))[:3]
        rays = self._rays_sensor @ T_world_sensor[:3, :3].T
        mujoco.mj_multiRay(
            self._model,
            data,
            origin,
            rays.ravel(),
            self._groups,
            True,
            -1,
            self._geom,
            self._distance,
            None,
            len(rays),
            CAMERA_DISTANCE_M + REACH_M,
        )
        depth = self._distance * self._rays_sensor[:, 2]
        height = np.where(self._geom >= 0, CAMERA_DISTANCE_M - depth, 0.0)
        return np.clip(height, 0.0, GEL_THICKNESS_M).reshape(self._rows, self._columns)

    def image(self, indentation: FloatArray) -> NDArray[np.uint8]:
        """Return what the sensor's camera shows (H, W, 3) of an indentation (rows, columns) [m]."""
        if not indentation.any():
            return self._reference.copy()
        gel = smooth_gel(indentation)
        return self._quantise(self._background + shading(gel, self._pitch))

    def _quantise(self, image: FloatArray) -> NDArray[np.uint8]:
        resized = cv2.resize(image.astype(np.float32), self._size, interpolation=cv2.INTER_LINEAR)
        return np.clip(resized * 255.0 + 0.5, 0, 255).astype(np.uint8)


def gel_rays(size_m: tuple[float, ...], rays: tuple[int, int]) -> FloatArray:
    """Return unit directions (rows * columns, 3) from the pinhole through the gel's pixel centres."""
    columns, rows = rays
    x = ((np.arange(columns) + 0.5) / columns - 0.5) * size_m[0]
    y = ((np.arange(rows) + 0.5) / rows - 0.5) * size_m[1]
    directions = np.stack(
        [np.tile(x, rows), np.repeat(y, columns), np.full(rows * columns, CAMERA_DISTANCE_M)], axis=1
    )
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def smooth_gel(indentation: FloatArray) -> FloatArray:
    """Return the gel's surface (rows, columns) [m]: it follows the part, and sags beside it."""
    deep = indentation > 0.85 * indentation.max()
    gel = indentation
    for kernel in SMOOTHING:
        gel = np.where(deep, indentation, _blur(gel, kernel))
    return _blur(gel, SMOOTHING[-1])


def _blur(image: FloatArray, kernel_px: int) -> FloatArray:
    scaled = max(3, int(kernel_px * image.shape[1] / 80) // 2 * 2 + 1) if image.shape[1] != 80 else kernel_px
    blurred = cv2.GaussianBlur(image, (scaled, scaled), 0, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float64)


def shading(gel: FloatArray, pitch_m: tuple[float, float]) -> FloatArray:
    """Return the change of colour (rows, columns, 3) that a gel surface makes in three lights.

    Args:
        gel: Surface height (rows, columns) [m].
        pitch_m: Distance of neighbouring pixels on the gel in x and in y [m]; they differ.
    """
    slope_y, slope_x = np.gradient(gel, pitch_m[1], pitch_m[0])
    normal = np.stack([-SLOPE_GAIN * slope_x, -SLOPE_GAIN * slope_y, np.ones_like(gel)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lights = np.stack(
        [LIGHT_RADIUS * np.cos(LIGHT_ANGLES), LIGHT_RADIUS * np.sin(LIGHT_ANGLES), np.full(3, LIGHT_HEIGHT)]
    )
    return LIGHT_GAIN * (normal @ lights - LIGHT_HEIGHT) + DEPTH_GAIN * gel[..., None] / GEL_THICKNESS_M


def background(columns: int, rows: int) -> FloatArray:
    """Return the untouched image (rows, columns, 3): a gradient of each light across the gel."""
    image = np.empty((rows, columns, 3))
    image[..., 0] = np.linspace(0.32, 0.52, columns)
    image[..., 1] = np.linspace(0.50, 0.30, rows)[:, None]
    image[..., 2] = np.linspace(0.54, 0.34, columns)
    return image
