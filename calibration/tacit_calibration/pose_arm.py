"""Poses of a table beside the arm's model: are they of its flange, and can it be there at all?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tacit.geometry.robot import Robot
from tacit.geometry.transforms import FloatArray, invert, pose_error

MAX_JOINT_RAD = 7.0
"""Joints turn by 6.28 at most; larger numbers are degrees."""
SAME_M, SAME_RAD = 1e-3, np.deg2rad(0.1)
"""A controller's own kinematics is calibrated and differs by as much from the model of a data sheet."""
FIXED_M, FIXED_RAD = 5e-3, np.deg2rad(1.0)
"""How constant (median) the pose of a tool, or of a base, must be."""
MAX_OUT_OF_REACH = 0.2


class BesideModel(NamedTuple):
    """Flange poses T_base_flange (n, 4, 4) to calibrate with, what is said of them, and what is warned of."""

    poses: FloatArray
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def beside_model(poses: FloatArray, joints: FloatArray | None, robot: Robot) -> BesideModel:
    """Return flange poses after a comparison with the arm's model.

    Args:
        poses: As read from a table (n, 4, 4).
        joints: Joints (n, j) from the same table, radians or degrees; None where it has none.
        robot: The arm.

    Returns:
        Where the table holds joints, and a fixed tool frame or another base explains the difference, the
        model's own flange poses; else the poses as they are.
    """
    if joints is None or joints.shape[1] != robot.num_joints:
        return BesideModel(poses, (), _out_of_reach(poses, robot))
    turning = ~robot.chain.prismatic
    in_degrees = bool(turning.any() and np.abs(joints[:, turning]).max() > MAX_JOINT_RAD)
    q = np.where(turning, np.deg2rad(joints), joints) if in_degrees else joints
    model = robot.forward_batch(q)
    unit = " (degrees)" if in_degrees else ""
    if _spread(poses, model) < 1.0 and _is_same(poses, model):
        return BesideModel(poses, (f"the joints of the table{unit} put the flange there too",), ())
    tools, bases = invert(model) @ poses, poses @ invert(model)
    for found, called in (
        (tools, "wrong flange frame: these poses are of a tool"),
        (bases, "another base frame"),
    ):
        middle = found[_middle(found)]
        if _spread(found, np.broadcast_to(middle, found.shape)) < 1.0:
            return BesideModel(
                model, (f"{called}, {_placed(middle)} from the rig's; its own is taken, by joints{unit}",), ()
            )
    apart = pose_error(poses, model)
    return BesideModel(
        poses,
        (),
        (
            f"the joints of the table{unit} put the flange {1e3 * np.median(apart.translation):.0f} mm "
            "elsewhere, by no fixed tool or base: is it this arm, are they of the same moments?",
        ),
    )


def _out_of_reach(poses: FloatArray, robot: Robot) -> tuple[str, ...]:
    middle = np.clip(np.zeros(robot.num_joints), robot.lower, robot.upper)
    missed = sum(not robot.inverse(T, middle).ok for T in poses)
    if missed <= MAX_OUT_OF_REACH * len(poses):
        return ()
    return (
        f"the rig's arm cannot put its flange at {missed} of {len(poses)} poses: are they of a tool, in "
        "another base, or of another arm?",
    )


def _spread(found: FloatArray, expected: FloatArray) -> float:
    """Return how far apart poses lie (median), as a share of what is allowed of a constant one."""
    apart = pose_error(found, expected)
    return float(max(np.median(apart.translation) / FIXED_M, np.median(apart.rotation) / FIXED_RAD))


def _is_same(poses: FloatArray, model: FloatArray) -> bool:
    apart = pose_error(poses, model)
    return bool(np.median(apart.translation) < SAME_M and np.median(apart.rotation) < SAME_RAD)


def _middle(poses: FloatArray) -> int:
    apart = pose_error(poses[:, None], poses[None])
    return int(np.argmin(np.median(apart.translation / FIXED_M + apart.rotation / FIXED_RAD, axis=1)))


def _placed(T: FloatArray) -> str:
    degrees = np.rad2deg(pose_error(T[None], np.eye(4)[None]).rotation[0])
    return f"({', '.join(f'{1e3 * v:.1f}' for v in T[:3, 3])}) mm and {degrees:.1f} deg"
