"""A picture for each result: where corners were found, and how far from there the model puts them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.images import Image
from tacit.view.draw import draw_label
from tacit_calibration.detection import View
from tacit_calibration.hand_eye import HandEyeResult
from tacit_calibration.intrinsics import IntrinsicsResult

FloatArray = NDArray[np.float64]
PAPER, INK, USED, LEFT_OUT = (248, 248, 246), (70, 74, 82), (20, 110, 190), (215, 60, 50)
GRID = 8
ARROW_PX = 60.0
"""The 95 % quantile of the residuals is drawn this long."""


def coverage_picture(result: IntrinsicsResult, views: Sequence[View]) -> Image:
    """Return where in the image corners were found: blue used, red in views that were dropped."""
    camera = result.camera
    image = _paper(camera.width, camera.height)
    for view in views:
        colour = LEFT_OUT if view.name in result.dropped else USED
        for point in view.corners_px:
            cv2.circle(image, _pixel(point), 2, colour, -1, cv2.LINE_AA)
    text = (
        f"{len(result.views)} views, {result.coverage:.0%} covered, RMS {result.rms_px:.3f} px, "
        f"held out {result.held_out_rms_px:.3f}"
    )
    return draw_label(image, text, (6, 18))


def hand_eye_picture(result: HandEyeResult, views: Sequence[View], width: int, height: int) -> Image:
    """Return the residual of every corner as an arrow from where it was found; red in views left out."""
    image = _paper(width, height)
    lengths = np.concatenate([np.linalg.norm(r, axis=1) for r in result.residuals_px])
    scale = ARROW_PX / max(float(np.quantile(lengths, 0.95)), 1e-6)
    for view, residual, used in zip(views, result.residuals_px, result.used, strict=True):
        for start, move in zip(view.corners_px, residual, strict=True):
            end = start + np.clip(scale * move, -width, width)
            cv2.line(image, _pixel(start), _pixel(end), USED if used else LEFT_OUT, 1, cv2.LINE_AA)
            cv2.circle(image, _pixel(start), 1, INK, -1)
    return draw_label(image, f"RMS {result.rms_px:.2f} px; 1 px is drawn {scale:.0f} px long", (6, 18))


def _paper(width: int, height: int) -> Image:
    image = np.full((height, width, 3), PAPER, dtype=np.uint8)
    for k in range(1, GRID):
        cv2.line(image, (k * width // GRID, 0), (k * width // GRID, height), (225, 225, 225), 1)
        cv2.line(image, (0, k * height // GRID), (width, k * height // GRID), (225, 225, 225), 1)
    return image


def _pixel(point: FloatArray) -> tuple[int, int]:
    u, v = np.rint(point).astype(int).tolist()
    return u, v
