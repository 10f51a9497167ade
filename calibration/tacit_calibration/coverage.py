"""Tell what a set of calibration pictures still lacks: a map of the image, tilts, turns, the next pose.

A lens needs corners all over the image and tilted boards; a camera's place needs turns of the flange about
two axes. Distances matter little.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.geometry.camera import Camera
from tacit.geometry.rotations import rotation_to_vector
from tacit.geometry.transforms import FloatArray
from tacit.images import Image
from tacit.view.draw import draw_label
from tacit_calibration.detection import View
from tacit_calibration.estimation.board_pose import board_poses

PARTS = 3
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
ENOUGH_CORNERS = 12
TILT_DEG, MIN_TILTED = 15.0, 2
MIN_TURN_DEG, MIN_SECOND_AXIS = 60.0, 0.3
SIDES = ("left edge", "right edge", "upper edge", "lower edge")


def counts(views: Sequence[View], width: int, height: int) -> NDArray[np.int64]:
    """Return how many corners lie in each ninth of the image (3, 3), rows from the top."""
    if not views:
        return np.zeros((PARTS, PARTS), dtype=np.int64)
    corners = np.concatenate([view.corners_px for view in views])
    cell = np.clip((corners + 0.5) / [width, height] * PARTS, 0, PARTS - 1).astype(int)
    return np.bincount(cell[:, 1] * PARTS + cell[:, 0], minlength=PARTS**2).reshape(PARTS, PARTS)


def tilts(views: Sequence[View], camera: Camera) -> FloatArray:
    """Return how far the board leans in each view (n, 2) [deg]: about the image's y axis, then its x axis."""
    if not views:
        return np.zeros((0, 2))
    normals = board_poses(views, camera)[:, :3, 2]
    return np.asarray(np.rad2deg(np.arctan2(normals[:, :2], np.abs(normals[:, 2:]))))


def hint(views: Sequence[View], camera: Camera, flange_poses: FloatArray | None = None) -> str | None:
    """Say what the next picture should show; None when nothing is lacking.

    Args:
        views: The pictures with a board so far.
        camera: The lens as far as it is known.
        flange_poses: T_base_flange (n, 4, 4) of the views, where the camera's place is wanted too.
    """
    if not views:
        return "bring the board into the middle of the image, filling half of it"
    # Leaning first: without it neither lens nor place can be told, however well the image is covered.
    return _lean_hint(views, camera) or _turn_hint(flange_poses) or _place_hint(views, camera)


def _lean_hint(views: Sequence[View], camera: Camera) -> str | None:
    leaning = tilts(views, camera)
    found = [
        leaning[:, 0] < -TILT_DEG,
        leaning[:, 0] > TILT_DEG,
        leaning[:, 1] < -TILT_DEG,
        leaning[:, 1] > TILT_DEG,
    ]
    missing = [side for side, seen in zip(SIDES, found, strict=True) if seen.sum() < MIN_TILTED]
    if not missing:
        return None
    return f"tilt the board by 20-40 degrees so that its {missing[0]} is nearer to the camera"


def _turn_hint(flange_poses: FloatArray | None) -> str | None:
    if flange_poses is None or len(flange_poses) < 3:
        return None
    R = flange_poses[:, :3, :3]
    turns = rotation_to_vector(np.swapaxes(R[:1], 1, 2) @ R)
    singular = np.linalg.svd(turns, compute_uv=False)
    spread = float(np.rad2deg(np.linalg.norm(turns, axis=1).max()))
    if spread < MIN_TURN_DEG:
        return f"turn the flange further: {spread:.0f} degrees so far, {MIN_TURN_DEG:.0f} wanted"
    if singular[1] < MIN_SECOND_AXIS * singular[0]:
        return "turn the flange about another axis: so far it turns about one"
    return None


def _place_hint(views: Sequence[View], camera: Camera) -> str | None:
    found = counts(views, camera.width, camera.height)
    if found.min() >= ENOUGH_CORNERS:
        return None
    row, column = np.unravel_index(int(found.argmin()), found.shape)
    return f"bring the board to the {ROWS[row]} {COLUMNS[column]} of the image"


def coverage_map(views: Sequence[View], width: int, height: int, background: Image | None = None) -> Image:
    """Return a picture with every corner so far; ninths with too few are tinted red."""
    image = np.full((height, width, 3), 40, np.uint8) if background is None else np.array(background) // 2
    found = counts(views, width, height)
    for row, column in zip(*np.nonzero(found < ENOUGH_CORNERS), strict=True):
        rows = slice(row * height // PARTS, (row + 1) * height // PARTS)
        columns = slice(column * width // PARTS, (column + 1) * width // PARTS)
        image[rows, columns, 0] = np.minimum(image[rows, columns, 0].astype(int) + 70, 255)
    for view in views:
        for point in view.corners_px:
            u, v = np.rint(point).astype(int).tolist()
            cv2.circle(image, (u, v), 2, (90, 220, 120), -1, cv2.LINE_AA)
    return draw_label(image, f"{len(views)} views", (6, 18))
