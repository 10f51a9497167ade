"""Pictures of a board to corners: read a folder of images, find the ChArUco corners in each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.images import Image, decode_image
from tacit_calibration.board import Board

SUFFIXES = (".png", ".jpg", ".jpeg")
MIN_CORNERS = 8
"""A pose has 6 unknowns and a corner 2 equations; below 8 corners one bad corner decides a view."""


@dataclass(frozen=True, eq=False)
class View:
    """One picture of the board: corners (N, 2) [px] and where they are on the board (N, 3) [m]."""

    name: str
    corners_px: NDArray[np.float64]
    points_m: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detections:
    """What a folder of pictures gave: usable views, names of the others, and the image size."""

    views: tuple[View, ...]
    without_board: tuple[str, ...]
    width: int
    height: int


def detect_folder(folder: Path, board: Board) -> Detections:
    """Find the board in every PNG and JPEG of a folder.

    Raises:
        CalibrationError: No pictures, or pictures of different sizes.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise CalibrationError(f"{folder}: no {', '.join(SUFFIXES)} files; give the folder with the pictures")
    return detect_images([(path.name, decode_image(path.read_bytes())) for path in paths], board)


def detect_images(images: list[tuple[str, Image]], board: Board) -> Detections:
    """Find the board in named RGB images (H, W, 3), all of one size."""
    sizes = {image.shape[:2] for _, image in images}
    if len(sizes) != 1:
        listed = ", ".join(f"{w}x{h}" for h, w in sorted(sizes))
        raise CalibrationError(f"pictures of sizes {listed}; calibrate one camera and one size at a time")
    found = [(name, detect(name, image, board)) for name, image in images]
    height, width = sizes.pop()
    views = tuple(view for _, view in found if view is not None)
    return Detections(views, tuple(name for name, view in found if view is None), width, height)


def detect(name: str, image_rgb: Image, board: Board) -> View | None:
    """Return the view of one picture, or None when fewer than 8 corners are found."""
    gray = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    corners, ids, _, _ = cv2.aruco.CharucoDetector(board.aruco).detectBoard(gray)
    if ids is None or len(ids) < MIN_CORNERS:
        return None
    order = np.asarray(ids).ravel()
    pixels = np.asarray(corners, dtype=np.float64).reshape(-1, 2)
    return View(name, pixels, board.corners_m[order])
