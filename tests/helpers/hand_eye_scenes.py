"""Synthetic arms that look at a board: robot poses with noise and the corners that the camera sees."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from tacit.geometry.camera import PinholeCamera
from tacit.geometry.kinematics import DH_MODELS, chain_from_dh
from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_rpy, rotation_from_vector
from tacit.geometry.transforms import from_rotation, invert
from tacit_calibration.detection import View

CAMERA = PinholeCamera(
    np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), (0.05, -0.1, 0.001, -0.0005, 0.02), 640, 480
)
X = from_rotation(rotation_from_rpy(np.deg2rad([3, -14, 88])), [0.035, -0.062, 0.048])
B = from_rotation(rotation_from_rpy(np.deg2rad([2, -1, 30])), [-0.38, 0.05, 0.012])
B_ON_TABLE = B @ np.diag([1.0, -1, -1, 1])
GRID = np.array([[(c - 3.5) * 0.025, (r - 2.5) * 0.025, 0] for r in range(6) for c in range(8)])


def look_at(rng: np.random.Generator, spread_deg: float) -> np.ndarray:
    """Return T_board_camera: from .28-.5 m, up to `spread` off the normal, rolled."""
    polar, around = np.deg2rad(rng.uniform(0, spread_deg)), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), -np.cos(polar)])
    position = rng.uniform(0.28, 0.5) * direction + rng.normal(0, 0.015, 3)
    z = -direction + rng.normal(0, 0.03, 3)
    z /= np.linalg.norm(z)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    roll = rotation_from_vector([0, 0, np.pi * min(1.0, spread_deg / 45) * rng.uniform(-1, 1)])
    return from_rotation(np.column_stack([x, np.cross(z, x), z]) @ roll, position)


def see(T_camera_board: np.ndarray) -> np.ndarray | None:
    """Return the corners' pixels by OpenCV's projection, None when one is outside the image."""
    r, t = cv2.Rodrigues(T_camera_board[:3, :3])[0], T_camera_board[:3, 3]
    pixels = cv2.projectPoints(GRID, r, t, CAMERA.K, np.array(CAMERA.D))[0][:, 0]
    return None if (pixels < 5).any() or (pixels > [634, 474]).any() else pixels


def scene(
    seed: int, num: int, px: float, robot_deg: float, robot_mm: float, mounting: str, spread: float = 40.0
):
    """Return robot poses with noise and the views they took."""
    rng, poses, views = np.random.default_rng(seed), [], []
    while len(views) < num:
        T_camera_board = invert(look_at(rng, spread))
        pixels = see(T_camera_board)
        if pixels is None:
            continue
        # Eye in hand: G X C = B. Eye to hand: X C = G B.
        G = B @ invert(X @ T_camera_board) if mounting == "eye_in_hand" else X @ T_camera_board @ invert(B)
        wrong = from_rotation(
            rotation_from_vector(rng.normal(0, np.deg2rad(robot_deg), 3)), rng.normal(0, robot_mm / 1e3, 3)
        )
        poses.append(G @ invert(wrong))
        views.append(View(f"{len(views)}", pixels + rng.normal(0, px, pixels.shape), GRID))
    return np.array(poses), views


class JointScene(NamedTuple):
    """An arm, the joints (n, 6) at which it took views of a board on its table, and those views."""

    robot: Robot
    joints: np.ndarray
    views: list[View]


def joint_scene(seed: int = 0, num: int = 10, px: float = 0.2) -> JointScene:
    """Return a perfect Nova 5 with a wrist camera: joints by inverse kinematics."""
    limits = np.full(6, -np.pi), np.full(6, np.pi)
    robot = Robot(chain_from_dh(DH_MODELS["nova5"], [f"j{i}" for i in range(1, 7)]), *limits)
    rng, joints, views = np.random.default_rng(seed), [], []
    while len(views) < num:
        T_camera_board = invert(look_at(rng, 40.0))
        pixels = see(T_camera_board)
        if pixels is None:
            continue
        solution = robot.inverse(B_ON_TABLE @ invert(X @ T_camera_board), [0, 0.4, 1.6, 0, -1.57, 0])
        if solution.ok:
            joints.append(solution.q)
            views.append(View(f"{len(views)}.png", pixels + rng.normal(0, px, pixels.shape), GRID))
    return JointScene(robot, np.array(joints), views)
