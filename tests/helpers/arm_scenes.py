"""What a camera sees of a board at joint states of a rig: exact corners with noise, without pictures."""

from __future__ import annotations

import numpy as np

from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, from_translation, invert, transform_points
from tacit.rig import Rig, parse_rig
from tacit_calibration.board import Board
from tacit_calibration.detection import View
from tacit_calibration.samples import RobotViews

CENTRE = np.array([*np.array(Board().size_mm) / 2e3, 0.0])
MIN_CORNERS = 12


def changed(rig: Rig, path: str, **values: object) -> Rig:
    """The rig with some fields of the entry at `path` (dots) replaced."""
    data = rig.model_dump(mode="json")
    node = data
    for key in path.split("."):
        node = node[int(key) if key.isdigit() else key]
    node.update(values)
    return parse_rig(data, "changed")


def look_at_states(
    rig: Rig, camera: str, T_anchor_board: np.ndarray, count: int, seed: int = 0, arm: str | None = None
) -> np.ndarray:
    """Joints (count, n) at which the camera looks at the board from all sides, by inverse kinematics.

    The anchor is the world for a camera on the arm, the flange for a fixed camera.
    """
    rng, found = np.random.default_rng(seed), []
    robot = Robot.from_rig(rig, arm)
    spec, lens = rig.cameras[camera], rig.geometry.camera(camera)
    T_base_world = invert(
        next(iter(rig.arms.values())).T_world_base if arm is None else rig.arms[arm].T_world_base
    )
    for _ in range(4000):
        pixel = rng.uniform(0.3, 0.7, 2) * [lens.width, lens.height]
        lean = rng.uniform(0, np.deg2rad(40)) * np.append(
            np.array([np.cos(a := rng.uniform(0, 7)), np.sin(a)]), 0
        )
        turn = rotation_from_vector(np.array([0, 0, rng.uniform(-2, 2)]))
        T_camera_board = (
            from_translation(lens.rays(pixel) * rng.uniform(0.35, 0.55))
            @ from_rotation(rotation_from_vector(lean) @ turn)
            @ from_translation(-CENTRE)
        )
        if spec.parent == "world":
            T_world_flange = spec.T_parent_camera @ T_camera_board @ invert(T_anchor_board)
        else:
            T_world_flange = T_anchor_board @ invert(T_camera_board) @ invert(spec.T_parent_camera)
        start = np.array([-0.34, 0.06, 2.06, -0.55, -1.57, 1.23]) + rng.uniform(-0.5, 0.5, 6)
        solution = robot.inverse(T_base_world @ T_world_flange, start)
        if solution.ok:
            found.append(solution.q)
        if len(found) == count:
            return np.array(found)
    raise AssertionError(f"{len(found)} of {count} states reachable")


def robot_views(
    rig: Rig,
    camera: str,
    T_anchor_board: np.ndarray,
    true_joints: np.ndarray,
    *,
    measured: np.ndarray | None = None,
    believed: Rig | None = None,
    noise_px: float = 0.0,
    arm: str | None = None,
    seed: int = 1,
) -> RobotViews:
    """What `read_samples` would return: corners as the true rig sees them, joints as measured.

    Args:
        rig: The truth.
        camera: Whose corners.
        T_anchor_board: In the world for a camera on the arm, on the flange for a fixed one.
        true_joints: (n, j).
        measured: What the drivers say, (n, j); the truth by default.
        believed: The rig whose kinematics turn measured joints into flange poses; the truth by default.
        noise_px: Of corners.
        arm: Which arm moves.
        seed: Of the noise.
    """
    rng, board = np.random.default_rng(seed), Board()
    arm = arm or next(iter(rig.arms))
    lens, spec = rig.geometry.camera(camera), rig.cameras[camera]
    flanges = np.asarray(rig.arms[arm].T_world_base) @ Robot.from_rig(rig, arm).forward_batch(true_joints)
    joints = true_joints if measured is None else measured
    views, kept = [], []
    for i, T_world_flange in enumerate(flanges):
        T_parent_camera = np.asarray(spec.T_parent_camera)
        if spec.parent == "world":
            T = invert(T_parent_camera) @ T_world_flange @ T_anchor_board
        else:
            T = invert(T_world_flange @ T_parent_camera) @ T_anchor_board
        pixels = lens.project(transform_points(T, board.corners_m))
        inside = ((pixels > 0) & (pixels < [lens.width - 1, lens.height - 1])).all(axis=1)
        if inside.sum() < MIN_CORNERS:
            continue
        noisy = pixels[inside] + rng.normal(0, noise_px, (inside.sum(), 2)) if noise_px else pixels[inside]
        views.append(View(f"{i:03d}.png", noisy, board.corners_m[inside]))
        kept.append(i)
    poses = Robot.from_rig(believed or rig, arm).forward_batch(joints[kept])
    return RobotViews(arm, poses, tuple(views), (), lens.width, lens.height, joints[kept])
