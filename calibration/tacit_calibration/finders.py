"""One picture to the points of a board: corners of squares and tags, centres of circles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit_calibration.board import MIN_CORNERS, TAG_BORDERS, Board

Gray = NDArray[np.uint8]
Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Pixels (N, 2), and where they are on the board (N, 3) [m]."""
SUBPIX_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-4)
CLASSIC_WINDOW_PX = 5
TAG_OFF = 0.5
"""A tag that lies half its side from where the others put it is a misread one, or of another board."""
MIN_TAGS = 3
MIN_BLOB_PX2, MAX_BLOB_SHARE = 25.0, 0.05
"""Dots from 6 px across to a twentieth of the picture; OpenCV's own limit is 80 px across."""


def find_board(gray: Gray, board: Board) -> Points | None:
    """Return what is seen of a board, or None."""
    finders: dict[str, Callable[[Gray, Board], Points | None]] = {
        "charuco": _charuco,
        "checkerboard": _checkerboard,
        "aprilgrid": _tags,
        "marker": _marker,
    }
    return finders.get(board.pattern, _circles)(gray, board)


def markers(gray: Gray, board: Board, borders: int = 1) -> dict[int, NDArray[np.float64]]:
    """Return {number: corners (4, 2) [px]} of a board's markers; none that is seen twice."""
    settings = cv2.aruco.DetectorParameters()
    settings.markerBorderBits = borders
    found, ids, _ = cv2.aruco.ArucoDetector(board.aruco_dictionary, settings).detectMarkers(gray)
    numbers = [] if ids is None else np.ravel(ids).tolist()
    corners = [np.asarray(quad, dtype=np.float64).reshape(4, 2) for quad in found]
    return {number: quad for number, quad in zip(numbers, corners, strict=True) if numbers.count(number) == 1}


def sharpened(gray: Gray, pixels: NDArray[np.float64], window_px: int) -> NDArray[np.float64]:
    """Return corners (N, 2) [px] where the edges within a window of +- `window_px` around them meet."""
    start = np.ascontiguousarray(pixels.reshape(-1, 1, 2), dtype=np.float32)
    refined = cv2.cornerSubPix(gray, start, (window_px, window_px), (-1, -1), SUBPIX_STOP)
    return np.asarray(refined, dtype=np.float64).reshape(-1, 2)


def _charuco(gray: Gray, board: Board) -> Points | None:
    # Both layouts have their corners in the same places; in the wrong one markers contradict each other.
    for layout in (board, replace(board, legacy=not board.legacy)):
        corners, ids, _, _ = cv2.aruco.CharucoDetector(layout.aruco).detectBoard(gray)
        if ids is not None and len(ids) >= MIN_CORNERS:
            points = board.corners_m[np.asarray(ids).ravel()]
            return np.asarray(corners, dtype=np.float64).reshape(-1, 2), points
    return None


def _checkerboard(gray: Gray, board: Board) -> Points | None:
    """Return all corners; OpenCV's two detectors see different pictures, so the second is asked as well.

    OpenCV does not say at which end it began; the colours of the squares do, and the board is seen from
    its front.
    """
    size = board.columns - 1, board.rows - 1
    is_found, corners = cv2.findChessboardCornersSB(
        gray, size, flags=cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY
    )
    if not is_found:
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
        is_found, corners = cv2.findChessboardCorners(gray, size, flags=flags)
        if not is_found:
            return None
        corners = sharpened(gray, np.asarray(corners), CLASSIC_WINDOW_PX)
    grid = np.asarray(corners, dtype=np.float64).reshape(size[1], size[0], 2)
    if _is_mirrored(grid):
        grid = grid[:, ::-1]
    # A board that looks the same upside down has no right end; the order stays as found.
    if not board.looks_same_upside_down and _top_left_brightness(gray, grid) > 0:
        grid = grid[::-1, ::-1]
    return np.ascontiguousarray(grid).reshape(-1, 2), board.corners_m


def _circles(gray: Gray, board: Board) -> Points | None:
    """Return the centres of all circles, dark on light or light on dark."""
    size = board.columns, board.rows
    kind = cv2.CALIB_CB_SYMMETRIC_GRID if board.pattern == "circles" else cv2.CALIB_CB_ASYMMETRIC_GRID
    for picture in (gray, 255 - gray):
        for flags in (kind, kind | cv2.CALIB_CB_CLUSTERING):
            is_found, centres = cv2.findCirclesGrid(
                picture, size, flags=flags, blobDetector=blob_detector(gray)
            )
            if is_found:
                grid = np.asarray(centres, dtype=np.float64).reshape(board.rows, board.columns, 2)
                if _is_mirrored(grid):
                    grid = grid[:, ::-1] if board.pattern == "circles" else grid[::-1]
                return np.ascontiguousarray(grid).reshape(-1, 2), board.corners_m
    return None


def blob_detector(gray: Gray) -> cv2.SimpleBlobDetector:
    """Return a detector of dark dots of any size that a board's may have in this picture."""
    settings = cv2.SimpleBlobDetector.Params()
    settings.minArea, settings.maxArea = MIN_BLOB_PX2, MAX_BLOB_SHARE * gray.size
    return cv2.SimpleBlobDetector.create(settings)


def _tags(gray: Gray, board: Board) -> Points | None:
    """Return the corners of all tags that lie where the others put them."""
    for borders in TAG_BORDERS:
        seen = {
            i: quad for i, quad in markers(gray, board, borders).items() if i < board.columns * board.rows
        }
        if len(seen) >= min(MIN_TAGS, board.columns * board.rows):
            break
    else:
        return None
    numbers = np.array(sorted(seen))
    pixels = np.array([seen[number] for number in numbers.tolist()])
    # Tags by other tools may be printed turned, all alike: which turn, the places of the tags tell.
    turns = [np.roll(board.corners_m.reshape(-1, 4, 3)[numbers], turn, axis=1) for turn in range(4)]
    errors = [_places_off(pixels, points) for points in turns]
    best = int(np.argmin([np.median(error) for error in errors]))
    good = errors[best] < TAG_OFF * board.marker_mm / 1e3
    if good.sum() < min(MIN_TAGS, len(numbers)):
        return None
    gap = (board.square_mm - board.marker_mm) / board.marker_mm
    window = int(np.clip(0.35 * min(gap, 0.2) * _side_px(pixels[good]), 2, CLASSIC_WINDOW_PX))
    return sharpened(gray, pixels[good].reshape(-1, 2), window), turns[best][good].reshape(-1, 3)


def _marker(gray: Gray, board: Board) -> Points | None:
    quads = [markers(gray, board, borders).get(board.marker_id) for borders in TAG_BORDERS]
    sides = [0.0 if quad is None else _side_px(quad[None]) for quad in quads]
    # A wide border leaves a smaller quad with a narrow one inside: the outer one has the size that is given.
    quad = quads[int(np.argmax(sides))]
    if quad is None:
        return None
    window = int(np.clip(0.1 * max(sides), 2, CLASSIC_WINDOW_PX))
    return sharpened(gray, quad, window), board.corners_m


def _side_px(quads: NDArray[np.float64]) -> float:
    return float(np.median(np.linalg.norm(quads - np.roll(quads, 1, axis=1), axis=2)))


def _places_off(pixels: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much each tag (n, 4, 2) is off the place (n, 4, 3) of its number, at worst (n,) [m]."""
    from_pixels, to_board = pixels.reshape(-1, 2), points[..., :2].reshape(-1, 2)
    H, _ = cv2.findHomography(from_pixels, to_board, cv2.LMEDS)
    if H is None:
        return np.full(len(pixels), np.inf)
    found = cv2.perspectiveTransform(from_pixels[None], H)[0]
    return np.asarray(np.linalg.norm(found - to_board, axis=1).reshape(-1, 4).max(axis=1))


def _is_mirrored(grid: NDArray[np.float64]) -> bool:
    # Seen from its front a board's x and y axes turn clockwise in the image, where y points down.
    return bool(np.linalg.det(np.stack([grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]])) < 0)


def _top_left_brightness(gray: Gray, grid: NDArray[np.float64]) -> float:
    """Return by how much the squares that should be black are brighter than the others."""
    centres = (grid[:-1, :-1] + grid[1:, 1:] + grid[:-1, 1:] + grid[1:, :-1]) / 4
    u, v = np.rint(centres).astype(int).transpose(2, 0, 1)
    level = gray[np.clip(v, 0, gray.shape[0] - 1), np.clip(u, 0, gray.shape[1] - 1)].astype(float)
    parity = np.add.outer(np.arange(level.shape[0]), np.arange(level.shape[1])) % 2
    return float(level[parity == 0].mean() - level[parity == 1].mean())
