"""Check whether robot poses and views can determine a camera; warn where they hardly do, else refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_to_vector
from tacit.geometry.transforms import FloatArray, check_transform, invert, pose_error
from tacit_calibration.detection import View

Mounting = Literal["eye_in_hand", "eye_to_hand"]
MIN_VIEWS = 8
WANTED_VIEWS = 12
NEEDED = (
    f"expected at least {MIN_VIEWS}, better 15-25: each tells 6 numbers, 12 are unknown, and the robot's own "
    "error must show too"
)
MIN_SPREAD_DEG, WANTED_SPREAD_DEG = 20.0, 30.0
"""Below the largest turn of 30 deg the position drifts by millimetres per .1 px; below 20 it is a guess."""
MIN_SECOND_AXIS, WANTED_SECOND_AXIS = 0.1, 0.15
"""Ratio of the second to the first singular value of the turns: turns about one axis alone leave the
position along that axis free."""
MIN_POINTS, MIN_WIDTH = 6, 0.02
"""A pose has 6 unknowns and four corners leave little to check; width is relative to length."""
SAME_TURN, SAME_PLACE_M = np.deg2rad(1.0), 2e-3


def carrier_poses(flange_poses: FloatArray, mounting: Mounting) -> FloatArray:
    """Return the poses whose motions the camera sees: eye to hand is eye in hand of the inverted robot."""
    return flange_poses if mounting == "eye_in_hand" else invert(flange_poses)


def check_poses(flange_poses: FloatArray, names: Sequence[str]) -> FloatArray:
    """Return the poses (n, 4, 4) after checking that each is a rigid transform.

    Raises:
        CalibrationError: A pose is not rigid (not orthonormal, determinant -1, not finite); it is named.
    """
    poses = np.asarray(flange_poses, dtype=np.float64).reshape(-1, 4, 4)
    for i, T in enumerate(poses):
        name = names[i] if i < len(names) else f"number {i}"
        try:
            check_transform(T, f"flange pose of {name}")
        except ValueError as problem:
            raise CalibrationError(str(problem)) from None
    return poses


def check_views(views: Sequence[View], num_poses: int, minimum: int = MIN_VIEWS) -> None:
    """Refuse too few views, another number than of robot poses, and views that give no pose.

    Raises:
        CalibrationError: It names the view where one is at fault.
    """
    if len(views) != num_poses:
        raise CalibrationError(
            f"{len(views)} views but {num_poses} robot poses; each picture needs the pose it was taken at"
        )
    if len(views) < minimum:
        raise CalibrationError(
            f"{len(views)} views, {num_poses} robot poses; {NEEDED}"
            if minimum == MIN_VIEWS
            else f"{len(views)} views are left; expected at least {minimum}"
        )
    for view in views:
        spread = np.linalg.svd(view.points_m - view.points_m.mean(axis=0), compute_uv=False)
        if len(view.points_m) < MIN_POINTS or spread[1] < MIN_WIDTH * spread[0]:
            raise CalibrationError(
                f"{view.name}: {len(view.points_m)} corners, or all on one line; expected {MIN_POINTS} or "
                "more in two directions"
            )


def motion_warnings(flange_poses: FloatArray) -> tuple[str, ...]:
    """Refuse motion that leaves the camera free, and return warnings where it hardly holds it.

    Raises:
        CalibrationError: The flange hardly turns, or turns about one axis only.
    """
    i, j = np.triu_indices(len(flange_poses), 1)
    R = flange_poses[:, :3, :3]
    turns = rotation_to_vector(np.swapaxes(R[j], 1, 2) @ R[i])
    spread = float(np.rad2deg(np.linalg.norm(turns, axis=1).max()))
    if spread < MIN_SPREAD_DEG:
        raise CalibrationError(
            f"the flange turns by {spread:.0f} deg at most, expected {WANTED_SPREAD_DEG:.0f} or more: "
            "moves alone tell nothing about where the camera sits; tilt and roll it between pictures"
        )
    singular = np.linalg.svd(turns, compute_uv=False)
    ratio = singular[1] / singular[0]
    if ratio < MIN_SECOND_AXIS:
        raise CalibrationError("the flange turns about one axis only; tilt it about a second one too")
    return tuple(_warnings(flange_poses, spread, float(ratio)))


def _warnings(poses: FloatArray, spread: float, ratio: float) -> list[str]:
    found = []
    if len(poses) < WANTED_VIEWS:
        found.append(f"{len(poses)} views; 15-25 make the result surer")
    if spread < WANTED_SPREAD_DEG:
        found.append(
            f"the flange turns by {spread:.0f} deg at most; expected {WANTED_SPREAD_DEG:.0f} or more"
        )
    if ratio < WANTED_SECOND_AXIS:
        found.append("the flange turns mostly about one axis; tilt it more about the others")
    twins = _twins(poses)
    if twins:
        found.append(f"{twins} views repeat an earlier robot pose; they add little")
    return found


def _twins(poses: FloatArray) -> int:
    """Return how many poses lie within 2 mm and 1 deg of an earlier one."""
    error = pose_error(poses[:, None], poses[None])
    near = (error.translation < SAME_PLACE_M) & (error.rotation < SAME_TURN)
    return int(np.count_nonzero(np.tril(near, -1).any(axis=1)))
