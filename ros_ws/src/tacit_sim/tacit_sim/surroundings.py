"""What a lab changes after training: light, a camera that was knocked, things on the table, a new gel.

Drawn from the seed of each episode. The rig stays what it was, so boxes and poses that follow from it are as
wrong as they would be in such a lab.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tacit_sim.attributes import numbers
from tacit_sim.rendering import mujoco
from tacit_sim.tasks import Task

Change = Literal["light", "camera", "distractors", "gel"]
CHANGES: tuple[Change, ...] = get_args(Change)

BRIGHTNESS, TINT = (0.55, 1.35), 0.12
"""Factor of all lights, and how much the colour channels differ from each other."""
CAMERA_M, CAMERA_RAD = 0.020, np.deg2rad(2.0)
DISTRACTORS, DISTRACTOR_HALF_M = 4, (0.012, 0.030)
CLEAR_M = 0.075
"""Distractors keep so far from where the part starts and belongs: they are to be seen, not hit."""
AREA = ((-0.52, -0.18), (-0.32, 0.32))
"""Where on the table they lie (x, y) [m]: in view of the cameras."""
GEL_GAIN, GEL_OFFSET, GEL_DRIFT_PER_S = 0.15, 20.0, 0.5
"""Another gel: factor and grey levels of its colours; drift in grey levels as its lamps grow warm."""
SHAPES = ("box", "cylinder", "ellipsoid", "box")


class Surroundings:
    """What differs from the cell of the demonstrations.

    Args:
        model: The compiled cell, with distractors where these change.
        task: Says where the part starts and belongs.
        changes: What changes.
    """

    def __init__(self, model: mujoco.MjModel, task: Task, changes: Collection[Change]) -> None:
        self._model, self._task, self._changes = model, task, frozenset(changes)
        self._cameras = model.cam_pos.copy(), model.cam_quat.copy()
        headlight = model.vis.headlight
        self._light = headlight.ambient.copy(), headlight.diffuse.copy(), model.light_diffuse.copy()
        self._gels: dict[str, tuple[NDArray[np.float64], ...]] = {}
        self._seed = 0

    def draw(self, seed: int) -> None:
        """Change the cell for the episode of a seed; the same seed changes it alike."""
        self._seed = seed
        self._gels = {}
        for change, apply in (
            ("light", self._draw_light),
            ("camera", self._draw_cameras),
            ("distractors", self._draw_distractors),
        ):
            if change in self._changes:
                apply(np.random.default_rng([seed, 13, CHANGES.index(change)]))  # type: ignore[arg-type]

    def gel(self, sensor: str, image: NDArray[np.uint8], seconds: float) -> NDArray[np.uint8]:
        """Return what the gel of this episode shows in place of the one trained with.

        Args:
            sensor: Name of the sensor; each has its own gel.
            image: As the usual gel shows it (H, W, 3).
            seconds: Since the episode began.
        """
        if "gel" not in self._changes:
            return image
        if sensor not in self._gels:
            # A name is hashed anew in every process; its letters are not.
            random = np.random.default_rng([self._seed, 13, CHANGES.index("gel"), *sensor.encode()])
            gain = 1.0 + GEL_GAIN * random.uniform(-1, 1, 3)
            offset, drift = GEL_OFFSET * random.uniform(-1, 1, 3), GEL_DRIFT_PER_S * random.uniform(-1, 1, 3)
            self._gels[sensor] = gain, offset, drift
        gain, offset, drift = self._gels[sensor]
        return np.clip(np.rint(image * gain + offset + drift * seconds), 0, 255).astype(np.uint8)

    def _draw_light(self, random: np.random.Generator) -> None:
        factor = random.uniform(*BRIGHTNESS) * (1.0 + TINT * random.uniform(-1, 1, 3))
        ambient, diffuse, lights = self._light
        headlight = self._model.vis.headlight
        headlight.ambient[:], headlight.diffuse[:] = factor * ambient, factor * diffuse
        self._model.light_diffuse[:] = factor * lights

    def _draw_cameras(self, random: np.random.Generator) -> None:
        positions, turns = self._cameras
        for camera in range(self._model.ncam):
            away, axis = random.normal(size=(2, 3))
            self._model.cam_pos[camera] = positions[camera] + CAMERA_M * away / np.linalg.norm(away)
            small = np.append(np.cos(CAMERA_RAD / 2), np.sin(CAMERA_RAD / 2) * axis / np.linalg.norm(axis))
            mujoco.mju_mulQuat(self._model.cam_quat[camera], turns[camera], small)

    def _draw_distractors(self, random: np.random.Generator) -> None:
        kept = [np.asarray(self._task.start_xy), *(np.asarray(mark) for mark in self._task.marks)]
        for i in range(DISTRACTORS):
            geom = self._model.geom(f"distractor{i}")
            place = _free_place(random, kept)
            kept.append(place)
            geom.pos[:2] = place
            geom.rgba[:3] = random.uniform(0.05, 0.95, 3)


def distractors(changes: Collection[Change]) -> str:
    """Return MJCF of things that are seen and touch nothing; empty where nobody asked for them."""
    if "distractors" not in changes:
        return ""
    random = np.random.default_rng(13)
    text = ""
    for i, shape in enumerate(SHAPES):
        half = random.uniform(*DISTRACTOR_HALF_M, 3)
        size = half[:2] if shape == "cylinder" else half
        text += (
            f'<geom name="distractor{i}" type="{shape}" size="{numbers(size)}" pos="0 0 {half[-1]}" '
            'contype="0" conaffinity="0" group="1"/>'
        )
    return text


def _free_place(random: np.random.Generator, kept: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Draw a place on the table (x, y) away from those that are kept; the farthest of many where none is."""
    (low_x, high_x), (low_y, high_y) = AREA
    drawn = random.uniform((low_x, low_y), (high_x, high_y), (200, 2))
    away = np.min([np.linalg.norm(drawn - place, axis=1) for place in kept], axis=0)
    free = np.flatnonzero(away >= CLEAR_M)
    return np.asarray(drawn[free[0] if len(free) else int(np.argmax(away))])
