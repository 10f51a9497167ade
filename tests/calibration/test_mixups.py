"""Poses of other pictures, of a link before the flange, of a tool: each is named."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, scene
from scipy.spatial.transform import Rotation

from tacit.geometry.robot import Robot
from tacit.rig import load_rig
from tacit_calibration.estimation.board_pose import board_poses
from tacit_calibration.estimation.mixups import named_mixup
from tacit_calibration.pose_arm import beside_model

NUM = 14
NAMES = [f"{i}.png" for i in range(NUM)]
AS_TEXT = sorted(range(NUM), key=lambda i: NAMES[i])
SEEDS = range(3)


def turned_about_a_joint(flange: np.ndarray, seed: int) -> np.ndarray:
    """Poses of the link before the last joint, whose axis lies askew in the flange."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    angles = rng.uniform(-2, 2, len(flange))
    T = np.tile(np.eye(4), (len(flange), 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * axis / np.linalg.norm(axis)).as_matrix()
    return flange @ T


MIXUPS = {
    "shuffled": (lambda G, seed: np.random.default_rng(seed).permutation(G), "fit .* goes with the pose"),
    "one late": (lambda G, _: np.roll(G, 1, axis=0), "each is taken one picture earlier"),
    "three early": (lambda G, _: np.roll(G, -3, axis=0), "each is taken 3 pictures later"),
    "reversed": (lambda G, _: G[::-1], "from the last to the first"),
    "sorted as text": (lambda G, _: G[AS_TEXT], "sorted as text"),
    "a link before": (turned_about_a_joint, "wrong flange frame: a joint turns between"),
}


@pytest.mark.parametrize("mounting", ["eye_in_hand", "eye_to_hand"])
@pytest.mark.parametrize("kind", MIXUPS)
def test_a_mixup_is_named(kind, mounting):
    change, said = MIXUPS[kind]
    for seed in SEEDS:
        flange, views = scene(seed, NUM, 0.3, 0.1, 0.5, mounting)
        found = named_mixup(change(flange, seed), board_poses(views, CAMERA), NAMES, mounting)
        assert found is not None and re.search(said, found), found


def test_nothing_is_named_where_no_mixup_explains_the_turns():
    flange, views = scene(0, NUM, 0.3, 0.1, 0.5, "eye_in_hand")
    other = scene(1, NUM, 0.3, 0.1, 0.5, "eye_in_hand")[0]
    assert named_mixup(other, board_poses(views, CAMERA), NAMES, "eye_in_hand") is None


ROBOT = Robot.from_rig(load_rig("nova2_sim"))
Q = np.random.default_rng(0).uniform(-1.5, 1.5, (10, 6))
FLANGE = ROBOT.forward_batch(Q)
TOOL = np.eye(4)
TOOL[:3, :3], TOOL[:3, 3] = Rotation.from_rotvec([0, 0, 0.8]).as_matrix(), [0, 0, 0.1034]


@pytest.mark.parametrize("joints", [Q, np.rad2deg(Q)])
def test_poses_of_a_tool_are_named_and_taken_back_to_the_flange(joints):
    found = beside_model(FLANGE @ TOOL, joints, ROBOT)
    assert "these poses are of a tool, (0.0, 0.0, 103.4) mm and 45.8 deg from the rig" in found.notes[0]
    np.testing.assert_allclose(found.poses, FLANGE, atol=1e-9)
    found = beside_model(TOOL @ FLANGE, joints, ROBOT)
    assert "another base frame, (0.0, 0.0, 103.4) mm" in found.notes[0]


def test_right_poses_stay_as_the_controller_says_and_others_are_warned_of():
    calibrated = FLANGE.copy()
    calibrated[:, :3, 3] += np.random.default_rng(1).normal(0, 2e-4, (10, 3))
    found = beside_model(calibrated, Q, ROBOT)
    assert not found.warnings and (found.poses == calibrated).all()
    found = beside_model(FLANGE[::-1], Q, ROBOT)
    assert "elsewhere, by no fixed tool or base" in found.warnings[0]


def test_poses_beyond_the_arms_reach_are_warned_of():
    assert beside_model(FLANGE[:3], None, ROBOT).warnings == ()
    far = FLANGE[:3].copy()
    far[:, :3, 3] *= 3.0
    assert "cannot put its flange at 3 of 3 poses" in beside_model(far, None, ROBOT).warnings[0]
