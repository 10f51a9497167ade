"""Corners found in other ways than the detector's: by edges in a window, and as the board sees the picture.

A detector's corners are a start. Which way is best depends on squares, blur and lens; views left out judge.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, transform_points
from tacit_calibration.board import ROUND, Board
from tacit_calibration.detection import View
from tacit_calibration.finders import Gray, sharpened

WINDOWS_PX = (3, 5, 8, 11)
"""Half widths: OpenCV's samples take 5 or 11; small squares need less, blur needs more."""
MAX_WINDOW = 0.4
"""Of the way to the next corner: beyond, a window holds edges that do not meet in its corner."""
MAX_MOVE_PX = 3.0
"""What moves further has left its corner for another; it stays where it was."""
DOT_REACH, PATCH_MARGIN_PX = 0.48, 4
DOT_PX = (8, 24)
DOT_CONTRAST = 20.0


def by_window(view: View, gray: Gray, board: Board, window_px: int) -> View:
    """Return the view with its corners where the edges within +- `window_px`, at most, meet."""
    # Pixels per metre where the board is farthest: no window may reach what lies beside a corner's patch.
    scale = _nearest(view.corners_px).min() / _nearest(view.points_m).min()
    window = int(np.clip(MAX_WINDOW * board.patch_mm / 1e3 * scale, 2, window_px))
    return _moved(view, sharpened(gray, view.corners_px, window))


def as_board_sees(
    view: View, gray: Gray, board: Board, camera: Camera, pose: FloatArray, window_px: int
) -> View:
    """Return the view with its corners found again in the picture drawn square to the board.

    There edges are straight and cross at right angles, and a circle is a circle, whose middle is that of the
    dot; in the picture the middle of the ellipse is not.

    Args:
        view: What was found.
        gray: Its picture (H, W).
        board: What it shows.
        camera: The lens as it is known so far.
        pose: T_camera_board (4, 4) of the view.
        window_px: Half width of the window around a corner.
    """
    pixel_m = _pixel_m(view, camera, pose)
    is_round = board.pattern in ROUND
    window = int(np.clip(MAX_WINDOW * board.patch_mm / 1e3 / pixel_m, 2, window_px))
    reach_px = window + PATCH_MARGIN_PX
    if is_round:
        dot_m = DOT_REACH * board.patch_mm / 1.4e3
        reach_px = int(np.clip(dot_m / pixel_m, *DOT_PX))
        pixel_m = dot_m / reach_px
    offsets = np.arange(-reach_px, reach_px + 1) * pixel_m
    dx, dy = np.meshgrid(offsets, offsets)
    # Around the corner as it was found, not as the lens predicts it: where no edge is, nothing may improve.
    found = _on_board(view.corners_px, camera, pose)
    grid = found[:, None, None] + np.stack([dx, dy, np.zeros_like(dx)], axis=-1)
    maps = camera.project(transform_points(pose, grid.reshape(-1, 3))).reshape(len(grid), *dx.shape, 2)
    # What lies behind the lens is NaN; outside the picture is as good a place for it.
    for i, where in enumerate(np.nan_to_num(maps, nan=-1.0)):
        patch = _drawn(gray, where)
        centre = np.full(2, float(reach_px))
        at = _dot(patch) if is_round else sharpened(patch, centre[None], window)[0]
        found[i, :2] += (at - centre) * pixel_m
    return _moved(view, camera.project(transform_points(pose, found)))


def _on_board(pixels: FloatArray, camera: Camera, pose: FloatArray) -> FloatArray:
    """Return where the rays of pixels (N, 2) meet the board (N, 3) [m]; NaN where a pixel has no ray."""
    rays = camera.rays(pixels)
    normal, origin = pose[:3, 2], pose[:3, 3]
    depth = (normal @ origin) / (rays @ normal)
    return np.asarray((rays * depth[:, None] - origin) @ pose[:3, :3], dtype=np.float64)


def _drawn(gray: Gray, where: FloatArray) -> Gray:
    """Return the picture as it is at pixels (h, w, 2)."""
    u, v = where.astype(np.float32).transpose(2, 0, 1)
    return np.asarray(cv2.remap(gray, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


def _nearest(points: FloatArray) -> FloatArray:
    """Return the distance (N,) from each point to the next one."""
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    return np.asarray(np.sort(apart, axis=1)[:, 1], dtype=np.float64)


def _pixel_m(view: View, camera: Camera, pose: FloatArray) -> float:
    """Return how much of the board one pixel of the picture is, at its middle [m]."""
    middle, step = view.points_m.mean(axis=0), 1e-4
    around = middle + step * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    pixels = camera.project(transform_points(pose, around))
    area = abs(float(np.linalg.det(pixels[1:] - pixels[0])))
    return step / float(np.sqrt(max(area, 1e-12)))


def _dot(patch: Gray) -> FloatArray:
    """Return the centre of gravity (2,) [px] of the dot in the middle of a patch, dark or light."""
    values, middle = patch.astype(np.float64), len(patch) // 2
    rim = np.median(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]))
    inside = np.median(values[middle - 1 : middle + 2, middle - 1 : middle + 2])
    if abs(inside - rim) < DOT_CONTRAST:
        return np.full(2, float(middle))
    # Grey edges count by how dark they are, which gives the centre to a fraction of a pixel.
    share = np.clip((values - rim) / (inside - rim), 0, 1)
    share[share < 0.2] = 0.0
    v, u = np.mgrid[0 : len(patch), 0 : len(patch)]
    return np.array([np.sum(share * u), np.sum(share * v)]) / max(float(share.sum()), 1e-9)


def _moved(view: View, pixels: FloatArray) -> View:
    move = np.linalg.norm(pixels - view.corners_px, axis=1)
    stays = ~(move < MAX_MOVE_PX)  # NaN stays too
    return replace(view, corners_px=np.where(stays[:, None], view.corners_px, pixels))
