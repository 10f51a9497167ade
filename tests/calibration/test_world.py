"""Two arms, boards and fixed cameras: the chain is right, and so is how sure it says it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, B, X, scene

from tacit.errors import CalibrationError
from tacit.geometry.transforms import from_rotation, invert, pose_error, rotation_from_rpy
from tacit_calibration.estimation.increments import UncertainPose, exact, increment_of, small_pose
from tacit_calibration.hand_eye import solve_hand_eye
from tacit_calibration.world import base_to_base, combine, disagreement, locate_board, locate_camera

LEFT_RIGHT = from_rotation(rotation_from_rpy([0.02, -0.01, 2.9]), [0.1, 0.9, 0.01])


def arm(seed: int, mounting: str, T_base_reference: np.ndarray, **noise: float):
    """An arm whose base lies elsewhere: same views, its poses seen from the other base."""
    settings = {"px": 0.3, "deg": 0.02, "mm": 0.05} | noise
    poses, views = scene(seed, 12, settings["px"], settings["deg"], settings["mm"], mounting)
    return solve_hand_eye(T_base_reference @ poses, views, CAMERA, mounting)


@pytest.mark.parametrize("mounting", ["eye_in_hand", "eye_to_hand"])
def test_two_arms_meet_in_a_board_or_a_camera(mounting):
    left = arm(0, mounting, np.eye(4), px=0.0, deg=0.0, mm=0.0)
    right = arm(1, mounting, invert(LEFT_RIGHT), px=0.0, deg=0.0, mm=0.0)
    error = pose_error(base_to_base(left, right).T, LEFT_RIGHT)
    assert error.translation < 3e-5
    assert error.rotation < 1e-4


def test_base_to_base_is_as_far_off_as_it_says():
    scores = []
    for seed in range(6):
        found = base_to_base(
            arm(2 * seed, "eye_in_hand", np.eye(4)), arm(2 * seed + 1, "eye_in_hand", invert(LEFT_RIGHT))
        )
        scores.append(disagreement(found, exact(LEFT_RIGHT)))
        assert pose_error(found.T, LEFT_RIGHT).translation < 5e-3
    assert 2 < np.mean(scores) < 14  # chi-square with 6 degrees


def test_arms_calibrated_in_different_ways_do_not_meet():
    with pytest.raises(
        CalibrationError, match="first arm was calibrated eye_in_hand, the second eye_to_hand"
    ):
        base_to_base(arm(0, "eye_in_hand", np.eye(4)), arm(1, "eye_to_hand", np.eye(4)))


def test_a_calibrated_wrist_camera_finds_a_board():
    known = UncertainPose(X, np.diag([1e-3] * 3 + [5e-4] * 3) ** 2)
    scores = []
    for seed in range(6):
        poses, views = scene(20 + seed, 5, 0.3, 0.02, 0.1, "eye_in_hand")
        rng = np.random.default_rng(seed)
        believed = known.T @ small_pose(rng.multivariate_normal(np.zeros(6), known.covariance))
        found = locate_board(poses, views, CAMERA, replace(known, T=believed))
        scores.append(disagreement(found, exact(B)))
        assert pose_error(found.T, B).translation < 3e-3
    assert 1.5 < np.mean(scores) < 15
    sure = locate_board(poses, views, CAMERA, exact(X))
    assert (found.sigma_translation > sure.sigma_translation).all()
    with pytest.raises(CalibrationError, match="2 views, 2 robot poses; expected at least 3"):
        locate_board(poses[:2], views[:2], CAMERA, exact(X))


def test_a_fixed_camera_is_found_from_a_board_whose_place_is_known():
    poses, views = scene(30, 1, 0.3, 0.0, 0.0, "eye_in_hand")
    truth = poses[0] @ X
    found = locate_camera(views, CAMERA, exact(B))
    assert pose_error(found.T, truth).translation < 5e-3
    assert disagreement(found, exact(truth)) < 25
    loose = locate_camera(views, CAMERA, UncertainPose(B, np.diag([1e-3] * 6) ** 2))
    assert (loose.sigma_translation > found.sigma_translation).all()


def test_pictures_of_a_board_that_moved_are_not_averaged():
    _, views = scene(31, 2, 0.1, 0.0, 0.0, "eye_in_hand")
    with pytest.raises(CalibrationError, match="did camera or board move"):
        locate_camera(views, CAMERA, exact(B))


def test_two_estimates_are_weighted_by_their_covariance():
    rng = np.random.default_rng(0)
    sure, unsure = np.diag([1e-4] * 6) ** 2, np.diag([1e-3] * 6) ** 2
    first = UncertainPose(X @ small_pose(rng.normal(0, 1e-4, 6)), sure)
    second = UncertainPose(X @ small_pose(rng.normal(0, 1e-3, 6)), unsure)
    both = combine([first, second])
    np.testing.assert_allclose(np.diag(both.covariance), 1 / (1 / 1e-8 + 1 / 1e-6), rtol=0.01)
    towards = increment_of(invert(first.T) @ both.T) / increment_of(invert(first.T) @ second.T)
    np.testing.assert_allclose(towards, 1e-8 / (1e-8 + 1e-6), atol=2e-3)
    with pytest.raises(CalibrationError, match="estimate 2 contradicts the others by 50.0 mm"):
        combine([first, UncertainPose(first.T @ small_pose(np.array([0, 0, 0, 0.05, 0, 0])), unsure)])
