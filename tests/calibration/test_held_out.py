"""Held-out views choose how to calibrate, and name data that contradict themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, B, X, joint_scene, scene

from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, invert, pose_error
from tacit_calibration.estimation.arm_errors import SmoothErrors, geometry_errors
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.estimation.rigid import CLOSED_FORMS, adjusted, jackknife
from tacit_calibration.hand_eye import HandEyeData
from tacit_calibration.held_out import solve_by_held_out
from tacit_calibration.ways import MODELLED, SCALED, SMOOTH, Trial


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_are_exact_without_noise(name):
    poses, _ = scene(1, 8, 0.0, 0.0, 0.0, "eye_in_hand")
    answer = CLOSED_FORMS[name](poses, invert(poses @ X) @ B)
    np.testing.assert_allclose(answer.X, X, atol=1e-9)
    np.testing.assert_allclose(answer.B, B, atol=1e-9)
    assert jackknife(CLOSED_FORMS[name], poses, invert(poses @ X) @ B).max() < 1e-15


def test_bundle_adjustment_mends_a_start_that_is_off():
    poses, views = scene(1, 8, 0.0, 0.0, 0.0, "eye_in_hand")
    start = CLOSED_FORMS["Shah"](poses, invert(poses @ X) @ B)
    moved = start._replace(X=start.X @ small_pose(np.array([0.01, -0.02, 0.01, 3e-3, -2e-3, 4e-3])))
    assert pose_error(adjusted(poses, views, CAMERA, moved).X, X).translation < 1e-6


def test_smooth_errors_move_the_camera_by_a_linear_function_of_its_place():
    poses, _ = scene(1, 8, 0.0, 0.0, 0.0, "eye_in_hand")
    carried, rng = np.array([0.3, -0.4, 0.1]), np.random.default_rng(0)
    smooth = SmoothErrors.around(poses, carried)
    sizes = rng.normal(0, 1e-5, 18)
    moved = poses @ small_pose(smooth.at(poses) @ sizes)
    place, after = (T[:, :3, :3] @ carried + T[:, :3, 3] for T in (poses, moved))
    expected = 0.3 * (place - place.mean(axis=0)) @ sizes[9:].reshape(3, 3).T
    np.testing.assert_allclose(after - place, expected, atol=1e-9)
    turn = moved[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], 1, 2)
    expected = rotation_from_vector((place - place.mean(axis=0)) @ sizes[:9].reshape(3, 3).T)
    np.testing.assert_allclose(turn, expected, atol=1e-9)


def test_a_smooth_error_is_learnt_without_the_arms_joints():
    arm = joint_scene(seed=3, num=18)
    columns = geometry_errors(arm.robot.chain, arm.joints)
    wrong = np.random.default_rng(0).normal(0, np.deg2rad(0.1), columns.shape[-1])
    poses = arm.robot.forward_batch(arm.joints) @ small_pose(columns @ wrong)
    # A table of tool poses whose origin lies far from the camera, as teach pendants give it.
    tool = from_rotation(rotation_from_vector([0.2, 1.0, 0.1]), [-0.3, 0.4, 0.1])
    judged = solve_by_held_out(HandEyeData(poses @ tool, arm.views, CAMERA, "eye_in_hand"))
    assert judged.trials[0].name == SMOOTH
    assert judged.px(SMOOTH) < 0.8 * judged.px(MODELLED)
    assert {trial.name for trial in judged.trials} > {"Park", "Shah"}
    off = pose_error(tool @ judged.result.T_parent_camera, X).translation
    assert off < 3 * np.linalg.norm(judged.result.camera_pose.sigma_translation)
    assert not judged.contradictions
    assert all("the arm's model is off" in warning for warning in judged.warnings)


def test_squares_of_another_size_are_a_contradiction():
    poses, views = scene(2, 15, 0.3, 0.02, 0.05, "eye_in_hand")
    larger = [replace(view, points_m=0.99 * view.points_m) for view in views]
    wrong = solve_by_held_out(HandEyeData(poses, larger, CAMERA, "eye_in_hand"))
    assert "sigma off; measure a square" in wrong.contradictions[0]
    assert wrong.trials[0].name == SCALED
    # Learning the size also mends the place, which the wrong size has moved.
    assert pose_error(wrong.result.T_parent_camera, X).translation < 1.2e-3


def test_a_way_beats_another_only_beyond_the_scatter_of_views():
    rng = np.random.default_rng(0)
    base = np.exp(rng.normal(0, 0.5, 12))
    mine = Trial("mine", np.eye(4), base, base, False, 1e-3)
    better = replace(mine, px=0.7 * base, mm=0.7 * base)
    scattered = base * np.exp(rng.normal(-0.05, 0.8, 12))
    assert better.beats(mine)
    assert not mine.beats(better)
    assert not replace(mine, px=scattered, mm=scattered).beats(mine)
    assert not replace(mine, px=0.95 * base, mm=0.95 * base).beats(mine)  # surely, but hardly
