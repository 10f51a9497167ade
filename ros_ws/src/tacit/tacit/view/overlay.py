"""Draw where touch is in an image: the box of each tactile sensor and its sensing face.

Pure; `overlay_node` feeds it live, and it shows at a glance whether a calibration is right.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.geometry.footprint import FACES, INTERSECTS, Footprint

COLOURS_RGB = ((255, 160, 40), (60, 200, 255), (140, 255, 120), (255, 110, 200))
HIDDEN_RGB = (128, 128, 128)  # the gel faces away: the box is still where the finger is
SHIFT = 4  # cv2 draws in 1/16 pixel


def draw(rgb: NDArray[np.uint8], footprints: Mapping[str, Footprint]) -> NDArray[np.uint8]:
    """Return a copy of `rgb` (H, W, 3) with the box, the face and the name of every sensor in it.

    Args:
        rgb: The image.
        footprints: By sensor; one that does not meet the image draws nothing.
    """
    canvas = np.array(rgb)
    for index, (name, footprint) in enumerate(footprints.items()):
        if not footprint.flags & INTERSECTS or not np.isfinite(footprint.box).all():
            continue
        colour = COLOURS_RGB[index % len(COLOURS_RGB)] if footprint.flags & FACES else HIDDEN_RGB
        _rectangle(canvas, footprint.box, colour)
        if np.isfinite(footprint.corners).all():
            _polygon(canvas, footprint.corners, colour)
        _label(canvas, footprint.box, f"{name} {footprint.visibility:.2f}", colour)
    return canvas


def _rectangle(canvas: NDArray[np.uint8], box: NDArray[np.float64], colour: tuple[int, ...]) -> None:
    x0, y0, x1, y1 = box
    _polygon(canvas, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), colour)


def _polygon(canvas: NDArray[np.uint8], points: NDArray[np.float64], colour: tuple[int, ...]) -> None:
    limit = 4.0 * max(canvas.shape[:2])  # cv2 overflows far outside
    fixed = np.round(np.clip(points, -limit, limit) * 2**SHIFT).astype(np.int32)
    cv2.polylines(canvas, [fixed.reshape(-1, 1, 2)], True, colour, 1, cv2.LINE_AA, SHIFT)


def _label(canvas: NDArray[np.uint8], box: NDArray[np.float64], text: str, colour: tuple[int, ...]) -> None:
    height, width = canvas.shape[:2]
    scale = max(0.3, height / 1000)
    x = int(np.clip(box[0], 0, width - 1))
    y = int(np.clip(box[1] - 2, 12 * scale, height - 1))
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
