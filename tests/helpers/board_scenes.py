"""Synthetic pictures of a board: look-at poses, exact corners with noise, and rendered images."""

from __future__ import annotations

import cv2
import numpy as np

from tacit.geometry.camera import FisheyeCamera, PinholeCamera
from tacit.geometry.rotations import rotation_from_vector
from tacit_calibration.board import Board
from tacit_calibration.board_files import MARGIN_MM, to_image
from tacit_calibration.detection import Detections, View

CAMERA = PinholeCamera(
    np.array([[600.0, 0, 322.0], [0, 602.0, 238.0], [0, 0, 1]]), (0.05, -0.1, 0.001, -0.0005, 0.02), 640, 480
)
FISHEYE = FisheyeCamera(
    np.array([[210.0, 0, 322.0], [0, 211.0, 238.0], [0, 0, 1]]), (0.02, -0.01, 0.004, -0.001), 640, 480
)
PIXELS_PER_MM = 6


def look_at_poses(num: int, spread_deg: float = 40.0, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Board poses (R, t) in the camera: seen from up to `spread_deg` off the normal, .3-.45 m away."""
    rng, poses = np.random.default_rng(seed), []
    centre = np.array([*np.array(Board().size_mm) / 2e3, 0.0])
    for _ in range(num):
        tilt = np.deg2rad(rng.uniform(0.3, 1.0) * spread_deg)
        direction, roll = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
        axis = np.array([np.cos(direction), np.sin(direction), 0.0])
        R = cv2.Rodrigues(np.array([0, 0, roll]))[0] @ cv2.Rodrigues(tilt * axis)[0]
        middle = np.array([*rng.uniform(-0.04, 0.04, 2), rng.uniform(0.33, 0.45)])
        poses.append((R, middle - R @ centre))
    return poses


def exact_views(poses, noise_px: float = 0.0, camera: PinholeCamera = CAMERA, seed: int = 1) -> Detections:
    """Corners by OpenCV's projection, noise added; those outside the image are left out."""
    rng, points, views = np.random.default_rng(seed), Board().corners_m, []
    for i, (R, t) in enumerate(poses):
        pixels, _ = cv2.projectPoints(points, cv2.Rodrigues(R)[0], t, camera.K, np.array(camera.D))
        pixels = pixels[:, 0] + rng.normal(0, noise_px, (len(points), 2)) if noise_px else pixels[:, 0]
        inside = ((pixels >= 0) & (pixels <= [camera.width - 1, camera.height - 1])).all(axis=-1)
        views.append(View(f"view{i:02d}.png", pixels[inside], points[inside]))
    return Detections(tuple(views), (), camera.width, camera.height)


def fisheye_views(num: int, noise_px: float, seed: int = 0) -> Detections:
    """Boards all over the field of a fisheye, near, by OpenCV's fisheye projection."""
    rng, points, views = np.random.default_rng(seed), Board().corners_m, []
    for i, (R, t) in enumerate(look_at_poses(num, 45, seed)):
        turn = rotation_from_vector([*rng.uniform(-0.9, 0.9, 2), 0.0])
        T = turn @ R, turn @ (0.55 * t)
        in_camera = points @ T[0].T + T[1]
        rotation = cv2.Rodrigues(T[0])[0]
        pixels = cv2.fisheye.projectPoints(points[:, None], rotation, T[1], FISHEYE.K, np.array(FISHEYE.D))[0]
        pixels = pixels[:, 0] + rng.normal(0, noise_px, (len(points), 2))
        seen = (in_camera[:, 2] > 0.02) & ((pixels >= 0) & (pixels <= [639, 479])).all(axis=1)
        if seen.sum() >= 12:
            views.append(View(f"view{i:02d}.png", pixels[seen], points[seen]))
    return Detections(tuple(views), (), 640, 480)


def render(pose, camera: PinholeCamera = CAMERA, noise: float = 3.0, seed: int = 0) -> np.ndarray:
    """Picture (H, W, 3) of the printed page, with noise."""
    page = cv2.GaussianBlur(to_image(Board(), PIXELS_PER_MM), (0, 0), 0.45 * PIXELS_PER_MM / 1.4)
    gray = photographed(page, pose, camera, MARGIN_MM).astype(np.float64)
    gray = 20 + 0.8 * gray + np.random.default_rng(seed).normal(0, noise, gray.shape)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def photographed(page: np.ndarray, pose, camera: PinholeCamera, margin_mm: float) -> np.ndarray:
    """Grey picture (H, W) of a page: per pixel the ray, its point on the page, the page there."""
    R, t = pose
    v, u = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float64)
    flat = np.stack([u, v], axis=-1).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(flat, camera.K, np.array(camera.D))[:, 0]
    to_plane = np.linalg.inv(np.column_stack([R[:, 0], R[:, 1], t]))  # ray -> (x, y, 1) on the board
    on_board = np.column_stack([rays, np.ones(len(rays))]) @ to_plane.T
    millimetres = on_board[:, :2] / on_board[:, 2:] * 1e3 + margin_mm
    at = (millimetres * PIXELS_PER_MM - 0.5).reshape(camera.height, camera.width, 2).astype(np.float32)
    return cv2.remap(page, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderValue=110)
