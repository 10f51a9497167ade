"""Drawn pictures of a gel in its finger, with what disturbs in a lab: light, clutter, glare, colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from arm_scenes import changed

from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, from_translation, transform_points
from tacit.images import Image
from tacit.rig import Rig
from tacit_calibration.touch.clicks import Click
from tacit_calibration.touch.gel_search import GelPicture
from tacit_calibration.touch.touch_views import TouchView, view_of_state

HOME = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])
OPENINGS = (0.045, 0.055, 0.065, 0.075, 0.08)
FINE = 4
GELS = {"blue": (40, 110, 170), "silver": (185, 188, 190), "black": (32, 33, 36), "orange": (210, 120, 60)}
HOUSING, TABLE = (95, 97, 100), (150, 140, 130)


@dataclass(frozen=True)
class Trouble:
    """What disturbs a scene: how many strange shapes, whether one spot shines, how uneven the light is."""

    clutter: int = 8
    glare: bool = True
    shade: float = 0.25
    noise: float = 3.0


def misplaced(rig: Rig, sensor: str, random: np.random.Generator, mm: float = 5.0, deg: float = 4.0) -> Rig:
    """The rig as it stands there: its gel is up to `mm` and `deg` elsewhere."""
    turn, step = random.standard_normal((2, 3))
    T = np.asarray(rig.tactile[sensor].T_mount_sensor) @ from_rotation(
        rotation_from_vector(np.deg2rad(deg) * random.uniform(0.3, 1) * turn / np.linalg.norm(turn)),
        1e-3 * mm * random.uniform(0.3, 1) * step / np.linalg.norm(step),
    )
    return changed(rig, f"tactile.{sensor}", T_mount_sensor=T.tolist())


def finger_view(rig: Rig, camera: str, sensor: str, state: np.ndarray, name: str = "0.png") -> TouchView:
    return view_of_state(rig, camera, Click(name, sensor, np.full((4, 2), np.nan)), state)


def gel_pictures(
    built: Rig,
    believed: Rig,
    random: np.random.Generator,
    *,
    camera: str = "wrist",
    sensor: str = "left",
    colour: tuple[int, int, int] = GELS["blue"],
    trouble: Trouble = Trouble(),
    openings: Sequence[float] = OPENINGS,
) -> list[GelPicture]:
    """Pictures of what stands there, with where the finger is by what is believed."""
    ground = table(built, camera, random, trouble)
    pictures = []
    for i, opening in enumerate(openings):
        state = np.append(HOME, opening)
        image = draw_gel(built, camera, sensor, state, ground, colour, random, trouble)
        pictures.append(GelPicture(finger_view(believed, camera, sensor, state, f"{i}.png"), image))
    return pictures


def table(rig: Rig, camera: str, random: np.random.Generator, trouble: Trouble) -> Image:
    """A picture without gripper: a table with strange shapes, some of the gel's own colours."""
    width, height = rig.cameras[camera].width, rig.cameras[camera].height
    image = np.full((height, width, 3), TABLE, np.uint8)
    for _ in range(trouble.clutter):
        middle = random.uniform(0, 1, 2) * [width, height]
        corners = middle + random.uniform(-0.12, 0.12, (5, 2)) * width
        known = list(GELS.values())[random.integers(4)]
        colour = known if random.uniform() < 0.4 else random.uniform(20, 235, 3)
        hull = cv2.convexHull(corners.astype(np.float32)).astype(np.int32)
        cv2.fillConvexPoly(image, hull, tuple(float(c) for c in colour), cv2.LINE_AA)
    return image


def draw_gel(
    rig: Rig,
    camera: str,
    sensor: str,
    state: np.ndarray,
    ground: Image,
    colour: tuple[int, int, int],
    random: np.random.Generator,
    trouble: Trouble,
) -> Image:
    """One picture: housing, then the gel's rounded face, then glare, uneven light, blur and noise."""
    view, spec = finger_view(rig, camera, sensor, state), rig.tactile[sensor]
    lens, (width, height) = rig.geometry.camera(camera), spec.size_m[:2]
    T = view.T_camera_flange @ from_translation(view.opening_m * view.slide) @ spec.T_mount_sensor
    housing = lens.project(transform_points(T, rounded(1.4 * width, 1.35 * height, 1e-3, -2e-3)))
    face = lens.project(transform_points(T, rounded(width, height, 1.5e-3, 0.0)))
    # Drawn large and scaled down, so that edges lie where they should to parts of a pixel.
    low = np.maximum(np.floor(housing.min(axis=0)).astype(int) - 20, 0)
    high = np.minimum(np.ceil(housing.max(axis=0)).astype(int) + 20, ground.shape[1::-1])
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    fine = cv2.resize(ground[window], None, fx=FINE, fy=FINE, interpolation=cv2.INTER_NEAREST)
    for pixels, paint in ((housing, HOUSING), (face, colour)):
        outline = np.rint(((pixels - low + 0.5) * FINE - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(fine, [outline], paint, cv2.LINE_8, 4)
    if trouble.glare:
        spot = (face.mean(axis=0) - low + random.uniform(-0.4, 0.4, 2) * np.ptp(face, axis=0)) * FINE
        axes = random.uniform(0.08, 0.2, 2) * np.ptp(face, axis=0) * FINE + 1
        shine = np.zeros(fine.shape[:2], np.float32)
        cv2.ellipse(shine, [int(v) for v in spot], [int(v) for v in axes], 30, 0, 360, 0.8, -1)
        fine = (fine + shine[..., None] * (255.0 - fine)).astype(np.uint8)
    image = ground.astype(np.float32)
    image[window] = cv2.resize(fine, tuple((high - low).tolist()), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] / image.shape[1]
    slope = random.uniform(-1, 1, 2)
    light = 1 + trouble.shade * (slope[0] * (x - 0.5) + slope[1] * (y - 0.4)) * 2
    image = cv2.GaussianBlur(image * light[..., None].astype(np.float32), (0, 0), 0.7)
    noise = trouble.noise * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def rounded(width: float, height: float, radius: float, z: float) -> np.ndarray:
    """Points (N, 3) [m] along a rectangle with rounded corners."""
    angles = np.deg2rad(np.arange(0, 91, 15))
    arc = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    quarter = [width / 2 - radius, height / 2 - radius] + arc
    flips = ([1, 1], [-1, 1], [-1, -1], [1, -1])
    parts = [quarter[:: 1 if a * b > 0 else -1] * [a, b] for a, b in flips]
    return np.column_stack([np.concatenate(parts), np.full(4 * len(angles), z)])
