"""Synthetic robots that look at a board, for `tacit bench calibration`: eight seconds of a lab per seed.

Cases A to F err independently from view to view; in G the arm itself is wrong (joint zeros, lengths,
twists), so its errors are smooth in the joints and no two arms are alike. In H lens and board are not quite
what they are said to be, by as much as is usual.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tacit.geometry.camera import PinholeCamera
from tacit.geometry.kinematics import DH_MODELS, DhParameters, chain_from_dh, rotate_z
from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_rpy, rotation_from_vector
from tacit.geometry.transforms import from_rotation, invert
from tacit_calibration.detection import View
from tacit_calibration.estimation.arm_errors import geometry_errors
from tacit_calibration.estimation.increments import FloatArray, small_pose
from tacit_calibration.estimation.unsure import EXACT, TYPICAL, Unsure

CAMERA = PinholeCamera(
    np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), (0.05, -0.1, 0.001, -0.0005, 0.02), 640, 480
)
POINTS = np.array([[(c - 3.5) * 0.025, (r - 2.5) * 0.025, 0.0] for r in range(6) for c in range(8)])
X = from_rotation(rotation_from_rpy(np.deg2rad([3, -14, 88])), [0.035, -0.062, 0.048])
B = from_rotation(rotation_from_rpy(np.deg2rad([2, -1, 30])), [-0.38, 0.05, 0.012])
B_ON_TABLE = B @ np.diag([1.0, -1, -1, 1])
"""Cases A to F look at the board from below, where no arm that stands on the table can go; G does not."""
BORDER_PX = 5.0
NUM_HELD_OUT = 15
ARM = "nova5"
JOINT_NAMES = tuple(f"joint{i}" for i in range(1, 7))
ZERO_SIGMA, TWIST_SIGMA, LENGTH_SIGMA_M = np.deg2rad(0.05), np.deg2rad(0.03), 3e-4
"""Uncalibrated light arms are off by .5-1.5 mm at the flange; these errors add up to about 1 mm."""
REPEATABILITY_DEG, REPEATABILITY_MM = 0.005, 0.03
START = np.array([0.0, 0.4, 1.6, 0.0, -1.57, 0.0])
"""Elbow bent, tool down: where the inverse kinematics of case G starts."""


@dataclass(frozen=True)
class Case:
    """Views per calibration, pixel noise, the robot's noise per axis, how far the views spread, the bar."""

    num: int
    px: float
    robot_deg: float
    robot_mm: float
    spread_deg: float
    bar_mm: float | None
    kinematic: bool = False
    unsure: Unsure = EXACT


CASES = {
    "A": Case(15, 0.3, 0.0, 0.0, 40, 0.20),
    "B": Case(15, 0.3, 0.02, 0.05, 40, 0.25),
    "C": Case(15, 0.3, 0.1, 0.5, 40, 0.62),
    "D": Case(30, 0.3, 0.1, 0.5, 40, 0.40),
    "E": Case(15, 0.3, 0.05, 0.2, 12, 1.25),
    "F": Case(15, 1.0, 0.05, 0.2, 40, 0.75),
    "G": Case(15, 0.3, REPEATABILITY_DEG, REPEATABILITY_MM, 40, None, kinematic=True),
    "H": Case(15, 0.3, 0.05, 0.2, 40, 0.90, unsure=TYPICAL),
}


class Arm(NamedTuple):
    """An arm as its model says, as it was built, and where the camera sits on the modelled flange.

    Errors beyond the last joint cannot be told from another place of the camera, and a robot that
    computes with the model needs that place.
    """

    modelled: Robot
    built: Robot
    X: FloatArray


class Pictures(NamedTuple):
    """Flange poses T_base_flange (n, 4, 4) as the robot reports them, and the n views taken there.

    `arm_errors` (n, 6, m) is how the arm's geometry may be wrong; None where nothing is known of joints.
    """

    flange_poses: FloatArray
    views: list[View]
    arm_errors: FloatArray | None


class Scene(NamedTuple):
    """One calibration's pictures, further ones of the same arm, and the truth T_flange_camera (4, 4)."""

    taken: Pictures
    held_out: Pictures
    X: FloatArray


def make_scene(case: Case, seed: int) -> Scene:
    """Return one calibration by a camera in the hand, and views that it may not use."""
    rng = np.random.default_rng(seed)
    arm = _draw_arm(rng) if case.kinematic else None
    board = B if arm is None else B_ON_TABLE
    camera, points = _draw_camera(rng, case.unsure)
    joints: list[FloatArray] = []
    poses: list[FloatArray] = []
    views: list[View] = []
    while len(views) < case.num + NUM_HELD_OUT:
        T_camera_board = invert(_look_at(rng, case.spread_deg))
        pixels = camera.project(points @ T_camera_board[:3, :3].T + T_camera_board[:3, 3])
        if not _inside(pixels):
            continue
        flange = board @ invert(X @ T_camera_board)
        if arm is not None:
            reached = arm.built.inverse(flange, START)
            if not reached.ok:
                continue
            joints.append(reached.q)
            flange = arm.modelled.forward(reached.q)
        scale = [np.deg2rad(case.robot_deg)] * 3 + [case.robot_mm / 1e3] * 3
        poses.append(flange @ invert(small_pose(rng.normal(0, 1, 6) * scale)))
        views.append(View(f"{len(views):02d}", pixels + rng.normal(0, case.px, pixels.shape), POINTS))
    G, n = np.array(poses), case.num
    errors = None if arm is None else geometry_errors(arm.modelled.chain, np.array(joints))
    taken, held_out = (
        Pictures(G[part], views[part], None if errors is None else errors[part])
        for part in (slice(n), slice(n, None))
    )
    return Scene(taken, held_out, X if arm is None else arm.X)


def _draw_camera(rng: np.random.Generator, unsure: Unsure) -> tuple[PinholeCamera, FloatArray]:
    """Return the lens and the corners (N, 3) as they are; given are `CAMERA` and `POINTS`."""
    if unsure == EXACT:
        return CAMERA, POINTS
    focal, cx, cy, size = rng.normal(0, [unsure.focal, unsure.centre, unsure.centre, unsure.size])
    K = CAMERA.K + CAMERA.K[0, 0] * np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 0]])
    return replace(CAMERA, K=K), (1 + size) * POINTS


def _draw_arm(rng: np.random.Generator) -> Arm:
    limits = np.full(6, -np.pi), np.full(6, np.pi)
    sigma = np.array([ZERO_SIGMA, LENGTH_SIGMA_M, LENGTH_SIGMA_M, TWIST_SIGMA])
    rows = DH_MODELS[ARM]
    wrong = [DhParameters(*(np.array(row) + sigma * rng.normal(0, 1, 4))) for row in rows]
    modelled, built = (Robot(chain_from_dh(r, JOINT_NAMES), *limits) for r in (rows, wrong))
    last_zero = rotate_z(wrong[-1].offset - rows[-1].offset)
    return Arm(modelled, built, invert(modelled.chain.end) @ last_zero @ built.chain.end @ X)


def _look_at(rng: np.random.Generator, spread_deg: float) -> FloatArray:
    """Return T_board_camera: from .28-.5 m, up to `spread_deg` off the normal, shifted, rolled."""
    polar, around = np.deg2rad(rng.uniform(0, spread_deg)), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), -np.cos(polar)])
    position = rng.uniform(0.28, 0.5) * direction + rng.normal(0, 0.015, 3)
    z = -direction + rng.normal(0, 0.03, 3)
    z /= np.linalg.norm(z)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    roll = rotation_from_vector([0, 0, np.pi * min(1.0, spread_deg / 45) * rng.uniform(-1, 1)])
    return from_rotation(np.column_stack([x, np.cross(z, x), z]) @ roll, position)


def _inside(pixels: FloatArray) -> bool:
    limit = np.array([CAMERA.width, CAMERA.height]) - 1 - BORDER_PX
    return bool(((pixels > BORDER_PX) & (pixels < limit)).all())
