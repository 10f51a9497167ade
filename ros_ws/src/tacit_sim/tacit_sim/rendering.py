"""Camera images of the cell without a display: choose the GL backend, render colour and labels.

MuJoCo reads MUJOCO_GL once, when it is imported, so every module of this package takes `mujoco`
from here. A GL context belongs to the thread that made it: render where you built the renderer.
"""

from __future__ import annotations

import ctypes
import os
import weakref
import zlib
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import MissingDependencyError

BACKENDS = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
FARTHEST_SHARE = 0.99
"""Of the distance at which the drawing ends: what lies there is the empty background."""
ONE_LEVEL = np.array([1.0, 1.0, 1.0, 0.0])  # of each channel; OpenCV wants four
NOISE_SHIFTS = 64
DRAWN_GROUPS = range(4)
"""Geom groups that cameras see; the others are for touch, or for nobody."""
"""The window of the noise stands at one of 64 x 64 places."""
APT_LINE = "apt-get install libegl1 libgl1-mesa-dri libosmesa6"


def choose_backend() -> str:
    """Set MUJOCO_GL to what this machine has, if the user has not, and return it.

    Returns:
        "egl" if its library loads, else "osmesa", else "disable": physics then still works.
    """
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = next((n for n, lib in BACKENDS.items() if _loads(lib)), "disable")
    return os.environ["MUJOCO_GL"]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


choose_backend()
import mujoco  # noqa: E402  (after MUJOCO_GL is set)


class SceneRenderer:
    """Render one model at one size; shadows, reflections and sky are off, they cost 40-80 ms.

    Args:
        model: The compiled cell.
        width, height: Image size [px].

    Raises:
        MissingDependencyError: No GL backend works here; the message holds the apt line.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        backend = os.environ["MUJOCO_GL"]
        if backend == "disable":
            raise MissingDependencyError(
                f"camera images: MUJOCO_GL=disable, or neither {' nor '.join(BACKENDS.values())}; {APT_LINE}"
            )
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except (AttributeError, ImportError, RuntimeError, mujoco.FatalError) as problem:
            raise MissingDependencyError(
                f"camera images: MUJOCO_GL={backend} gives no GL context ({problem}); {APT_LINE}, "
                "then set MUJOCO_GL=egl or MUJOCO_GL=osmesa"
            ) from problem
        self._far_m = float(model.vis.map.zfar * model.stat.extent)
        # Also at exit, before the GL library itself is gone: OSMesa complains otherwise.
        self._close = weakref.finalize(self, self._renderer.close)
        flags = self._renderer.scene.flags
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            flags[flag] = 0

    def rgb(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """Return the colour image (H, W, 3) of `camera`."""
        self._renderer.update_scene(data, camera, _visible(DRAWN_GROUPS))
        return self._renderer.render()

    def geoms(
        self, data: mujoco.MjData, camera: str, groups: Iterable[int] = DRAWN_GROUPS
    ) -> NDArray[np.int32]:
        """Return the geom id seen by each pixel (H, W), -1 for none; other groups are not drawn."""
        self._renderer.enable_segmentation_rendering()
        try:
            self._renderer.update_scene(data, camera, _visible(groups))
            labels = self._renderer.render()
        finally:
            self._renderer.disable_segmentation_rendering()
        is_geom = labels[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
        return np.where(is_geom, labels[..., 0], -1)

    def depth(self, data: mujoco.MjData, camera: str) -> NDArray[np.float32]:
        """Return the distance along the optical axis (H, W) [m]; infinite where nothing is seen."""
        self._renderer.enable_depth_rendering()
        try:
            self._renderer.update_scene(data, camera, _visible(DRAWN_GROUPS))
            metres = self._renderer.render()
        finally:
            self._renderer.disable_depth_rendering()
        return np.where(metres < FARTHEST_SHARE * self._far_m, metres, np.float32(np.inf))

    def close(self) -> None:
        """Free the GL context."""
        self._close()


class SensorNoise:
    """The noise of a picture sensor: each value is off by -1, 0 or 1 grey levels, or millimetres of depth.

    A real sensor never sends the same picture twice, so a recorder takes equal pictures for a camera that
    stands still. The noise depends on the seed, the camera's name and the time alone.

    Args:
        height, width: Of the largest picture.
        seed: Decides the noise.
    """

    def __init__(self, height: int, width: int, seed: int = 0) -> None:
        shape = (height + NOISE_SHIFTS, width + NOISE_SHIFTS, 3)
        self._field = np.random.default_rng(seed).integers(0, 3, shape, dtype=np.uint8)

    def add(self, image: NDArray, name: str, time_ns: int) -> NDArray:
        """Return the image, colours (H, W, 3) or depth (H, W), as the sensor `name` sends it at a time.

        One field of noise is drawn once and looked at through a window that moves: drawing 230,000 random
        numbers for each picture would take longer than rendering it.
        """
        where = zlib.crc32(f"{name} {time_ns}".encode())
        y, x = where % NOISE_SHIFTS, where // NOISE_SHIFTS % NOISE_SHIFTS
        window = self._field[y : y + image.shape[0], x : x + image.shape[1]]
        if image.ndim == 2:  # a hole stays a hole
            return np.where(image > 0, image + window[..., 0] - 1, 0).astype(image.dtype)
        brighter = np.asarray(cv2.add(image, window), dtype=np.uint8)
        return np.asarray(cv2.subtract(brighter, ONE_LEVEL), dtype=np.uint8)


def _visible(groups: Iterable[int]) -> mujoco.MjvOption:
    """Draw these geom groups, and no sites."""
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[list(groups)] = 1
    option.sitegroup[:] = 0
    return option
