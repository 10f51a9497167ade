"""Do the joints of a real arm turn as the rig says? By small moves of one joint, and by zero offsets.

A camera that sees a board measures how the flange really turned. Moving one joint by a few degrees shows its
sign, its unit and its axis; many poses together show where the zeros of the inner joints are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.kinematics import Chain
from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_to_vector
from tacit.geometry.transforms import FloatArray, invert
from tacit.rig import Rig
from tacit_calibration.detection import View
from tacit_calibration.estimation.arm_errors import geometry_errors
from tacit_calibration.estimation.board_pose import board_poses
from tacit_calibration.estimation.degeneracy import Mounting
from tacit_calibration.hand_eye import solve_hand_eye
from tacit_calibration.samples import RobotViews

STILL_RAD = float(np.deg2rad(0.3))
NUDGE_RAD = 1e-4
MIN_MOVE_RAD = float(np.deg2rad(2.0))
RATIO_TOLERANCE, AXIS_DEG = 0.1, 25.0
"""The camera's mount need only be known roughly for this; a wrong joint turns about a wrong axis."""
Z_TURN, COLUMNS = 2, 6
MIN_GROUPS = 5


@dataclass(frozen=True)
class JointMove:
    """What happened when one joint was moved.

    Attributes:
        name: The joint.
        commanded_deg: How far it moved by its own account.
        ratio: Seen turn along the expected axis, divided by the commanded one: 1 is right.
        axis_deg: Angle between the seen and the expected axis, sign left out.
    """

    name: str
    commanded_deg: float
    ratio: float
    axis_deg: float

    @property
    def problem(self) -> str:
        """What is wrong; empty when nothing is."""
        if self.axis_deg > AXIS_DEG:
            return (
                f"turns about an axis {self.axis_deg:.0f} deg from the expected one; joints in another "
                "order, or the camera sits quite elsewhere?"
            )
        if abs(self.ratio + 1) < RATIO_TOLERANCE:
            return "turns the other way: set its sign to -1"
        if abs(self.ratio - 1) < RATIO_TOLERANCE:
            return ""
        factor = 180 / np.pi
        for name, expected in (("degrees", 1 / factor), ("radians read as degrees", factor)):
            if abs(abs(self.ratio) / expected - 1) < RATIO_TOLERANCE:
                return f"is scaled by {self.ratio:.3g}: its values are {name}"
        return f"turns by {self.ratio:.2f} of what it says; wrong gear ratio or another joint?"


@dataclass(frozen=True)
class ZeroOffset:
    """What is to be added to a joint's `offset` in the rig, and how sure that is [rad]."""

    name: str
    offset: float
    sigma: float

    @property
    def is_significant(self) -> bool:
        """Whether it stands out of its uncertainty and matters."""
        return abs(self.offset) > max(3 * self.sigma, np.deg2rad(0.05))


def joint_moves(rig: Rig, camera: str, robot_views: RobotViews) -> list[JointMove]:
    """Return what the camera saw of every move of a single joint, from one sample to another.

    Raises:
        CalibrationError: No two samples differ in one joint alone.
    """
    lens = rig.geometry.camera(camera)
    boards = board_poses(robot_views.views, lens)
    carriers = _carriers(rig, camera, robot_views.arm)
    names = [joint.name for joint in rig.arms[robot_views.arm].joints]
    moves: dict[int, JointMove] = {}
    for i, j, joint in _single_moves(robot_views.joints):
        nudged = robot_views.joints[i].copy()
        nudged[joint] += NUDGE_RAD
        expected = rotation_to_vector((invert(carriers(nudged)) @ carriers(robot_views.joints[i]))[:3, :3])
        seen = rotation_to_vector((boards[j] @ invert(boards[i]))[:3, :3])
        turn = float(robot_views.joints[j, joint] - robot_views.joints[i, joint])
        # `expected` is the axis times the nudge, seen from the camera, and points back: the board moves
        # against the camera.
        along = float(seen @ expected) / NUDGE_RAD
        cosine = abs(along) / max(float(np.linalg.norm(seen)), 1e-12)
        axis = float(np.rad2deg(np.arccos(np.clip(cosine, 0, 1))))
        moves.setdefault(joint, JointMove(names[joint], float(np.rad2deg(turn)), along / turn, axis))
    if not moves:
        raise CalibrationError(
            "no two samples differ in one joint alone; take one, then one more after each joint has been "
            "moved by 5 degrees and back"
        )
    return [moves[joint] for joint in sorted(moves)]


def zero_offsets(rig: Rig, camera: str, robot_views: RobotViews) -> list[ZeroOffset]:
    """Estimate zero offsets of the inner joints together with the camera's place.

    The first joint's zero is part of where the base stands, the last one's of where the camera (or the
    carried board) sits: neither can be told from pictures, and neither moves a box. Sigma is from
    leaving out a fifth of the views in turn.

    Raises:
        CalibrationError: Data that contradict each other, as for `solve_hand_eye`.
    """
    chain = Robot.from_rig(rig, robot_views.arm).chain
    mounting: Mounting = "eye_to_hand" if rig.cameras[camera].parent == "world" else "eye_in_hand"
    lens = rig.geometry.camera(camera)
    full = _offsets(chain, lens, mounting, robot_views, np.arange(len(robot_views.views)))
    groups = min(MIN_GROUPS, len(robot_views.views) // 4)
    every = np.arange(len(robot_views.views))
    parts = np.array(
        [_offsets(chain, lens, mounting, robot_views, every[every % groups != k]) for k in range(groups)]
    )
    # The jackknife: estimates that share most of their views spread less than independent ones would.
    sigma = np.sqrt((groups - 1) / groups * np.sum((parts - parts.mean(axis=0)) ** 2, axis=0))
    inner = chain.names[1:-1]
    return [ZeroOffset(n, float(o), float(s)) for n, o, s in zip(inner, full, sigma, strict=True)]


def _offsets(
    chain: Chain, lens: Camera, mounting: Mounting, robot_views: RobotViews, chosen: NDArray[np.intp]
) -> FloatArray:
    """Return the estimated turn (n - 2,) of each inner joint about its own axis."""
    joints = robot_views.joints[chosen]
    modes = zero_modes(chain, joints)
    views: Sequence[View] = [robot_views.views[i] for i in chosen]
    solved = solve_hand_eye(robot_views.flange_poses[chosen], views, lens, mounting, arm_errors=modes)
    return np.asarray(solved.arm_correction)


def zero_modes(chain: Chain, joints: FloatArray) -> FloatArray:
    """Return how the zeros of the inner joints move the flange (n, 6, num_joints - 2), first one first."""
    blocks = geometry_errors(chain, joints).reshape(len(joints), 6, chain.num_joints - 1, COLUMNS)
    last_first = blocks[..., Z_TURN]  # joints n-1, n-2, ..., 1
    return np.asarray(last_first[..., ::-1][..., :-1])


def _carriers(rig: Rig, camera: str, arm: str) -> Callable[[FloatArray], FloatArray]:
    """Return what gives, at joints (n,), a pose (4, 4) that moves as the camera sees a still board move."""
    robot, X = Robot.from_rig(rig, arm), np.asarray(rig.cameras[camera].T_parent_camera)
    if rig.cameras[camera].parent != "world":
        return lambda q: np.asarray(robot.forward(q) @ X)
    T_base_camera = invert(rig.arms[arm].T_world_base) @ X
    return lambda q: np.asarray(invert(robot.forward(q)) @ T_base_camera)


def _single_moves(joints: FloatArray) -> list[tuple[int, int, int]]:
    """Return (from, to, joint) for every pair of samples that differ in one joint alone."""
    found = []
    for i in range(len(joints)):
        for j in range(i + 1, len(joints)):
            change = np.abs(joints[j] - joints[i])
            joint = int(change.argmax())
            if change[joint] > MIN_MOVE_RAD and np.delete(change, joint).max() < STILL_RAD:
                found.append((i, j, joint))
    return found
