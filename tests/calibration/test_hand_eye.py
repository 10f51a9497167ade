"""Hand-eye calibration on synthetic robots: exact data give the exact pose, noise gives honest sigmas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_eye_scenes import B_ON_TABLE, CAMERA, B, X, joint_scene, scene

from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, invert, pose_error
from tacit_calibration.estimation.arm_errors import TYPICAL_LENGTH_M, geometry_errors
from tacit_calibration.estimation.closed_form import park
from tacit_calibration.estimation.increments import increment_of, small_pose
from tacit_calibration.estimation.noise import NoiseScale
from tacit_calibration.hand_eye import HandEyeData, solve_hand_eye
from tacit_calibration.held_out import leave_one_out
from tacit_calibration.ways import OwnWay, tried

MOUNTINGS = ["eye_in_hand", "eye_to_hand"]


@pytest.mark.parametrize("mounting", MOUNTINGS)
def test_exact_views_give_the_exact_pose(mounting):
    result = solve_hand_eye(*scene(0, 10, 0.0, 0.0, 0.0, mounting), CAMERA, mounting)
    error = pose_error(result.T_parent_camera, X)
    assert error.translation < 1e-5
    assert error.rotation < 1e-5
    assert pose_error(result.T_anchor_board, B).translation < 1e-5
    assert result.rms_px < 1e-2
    assert result.used.all()


def test_closed_form_start_is_exact_without_noise():
    poses, views = scene(1, 8, 0.0, 0.0, 0.0, "eye_in_hand")
    boards = invert(poses @ X) @ B
    start = park(invert(poses[1:]) @ poses[:-1], boards[1:] @ invert(boards[:-1]))
    np.testing.assert_allclose(start, X, atol=1e-9)


# Views, pixel noise, robot deg and mm, and what the mean error must not exceed [mm].
CASES = {
    "A": (15, 0.3, 0.0, 0.0, 0.20),
    "B": (15, 0.3, 0.02, 0.05, 0.25),
    "C": (15, 0.3, 0.1, 0.5, 0.62),
    "F": (15, 1.0, 0.05, 0.2, 0.75),
}


@pytest.mark.parametrize("case", CASES)
def test_error_stays_below_the_bar_and_matches_its_sigma(case):
    num, px, deg, mm, bar = CASES[case]
    squares, variances, errors = [], [], []
    for seed in range(8):
        result = solve_hand_eye(*scene(seed, num, px, deg, mm, "eye_in_hand"), CAMERA, "eye_in_hand")
        local = (invert(X) @ result.T_parent_camera)[:3, 3]
        errors.append(np.linalg.norm(local) * 1e3)
        squares.append(local @ local)
        variances.append(np.sum(result.camera_pose.sigma_translation**2))
        assert result.used.all()  # no good view is left out
    assert np.mean(errors) < bar
    assert 0.5 < np.sqrt(np.mean(squares) / np.mean(variances)) < 1.6


def test_the_robots_own_noise_is_found():
    result = solve_hand_eye(*scene(3, 20, 0.3, 0.1, 0.5, "eye_to_hand"), CAMERA, "eye_to_hand")
    assert result.noise.pixel == pytest.approx(0.3, rel=0.1)
    assert np.rad2deg(result.noise.rotation) == pytest.approx(0.1, rel=0.4)
    # Shifts count at the board: a turn of the flange moves it across its lever, two of three axes each.
    lever = np.linalg.norm(B[:3, 3])
    at_board = np.hypot(0.5e-3, np.deg2rad(0.1) * lever * np.sqrt(2 / 3))
    assert result.noise.translation == pytest.approx(at_board, rel=0.4)
    assert result.rms_px > 3 * result.noise.pixel  # what an overlay with the measured joints shows


def test_a_perfect_robot_is_recognised_as_one():
    result = solve_hand_eye(*scene(4, 20, 0.3, 0.0, 0.0, "eye_in_hand"), CAMERA, "eye_in_hand")
    assert np.rad2deg(result.noise.rotation) < 0.01
    assert result.noise.translation < 3e-5


@pytest.mark.parametrize("mounting", MOUNTINGS)
def test_where_the_tool_frame_lies_changes_nothing(mounting):
    poses, views = scene(3, 15, 0.3, 0.1, 0.5, mounting)
    tool = from_rotation(rotation_from_vector([0.3, -1.0, 0.4]), [-0.3, 0.5, 0.2])
    flange = solve_hand_eye(poses, views, CAMERA, mounting)
    moved = solve_hand_eye(poses @ tool, views, CAMERA, mounting)
    camera = tool @ moved.T_parent_camera if mounting == "eye_in_hand" else moved.T_parent_camera
    assert pose_error(camera, flange.T_parent_camera).translation < 2e-5
    np.testing.assert_allclose(
        moved.camera_pose.sigma_translation, flange.camera_pose.sigma_translation, rtol=0.02
    )


def test_known_robot_noise_is_taken_as_given():
    data = scene(5, 10, 0.3, 0.05, 0.2, "eye_in_hand")
    known = NoiseScale(0.3, np.deg2rad(0.05), 2e-4)
    careless = NoiseScale(0.3, np.deg2rad(0.5), 2e-3)
    surer = solve_hand_eye(*data, CAMERA, "eye_in_hand", fixed_noise=known)
    assert surer.noise.rotation == pytest.approx(known.rotation)
    unsure = solve_hand_eye(*data, CAMERA, "eye_in_hand", fixed_noise=careless)
    assert (unsure.camera_pose.sigma_translation > 2 * surer.camera_pose.sigma_translation).all()


@pytest.mark.parametrize("mounting", MOUNTINGS)
def test_views_that_contradict_the_others_are_left_out_and_named(mounting):
    poses, views = scene(2, 15, 0.3, 0.02, 0.05, mounting)
    poses[4] = poses[4] @ small_pose(np.array([0.03, 0, 0, 0, 0.012, 0]))  # the arm was still moving
    poses[[8, 9]] = poses[[9, 8]]  # two pictures got each other's pose
    result = solve_hand_eye(poses, views, CAMERA, mounting)
    assert set(result.dropped) == {"4", "8", "9"}
    assert pose_error(result.T_parent_camera, X).translation < 8e-4
    assert result.rms_px < 1.5 < min(result.dropped.values())


def test_one_misread_corner_does_not_move_the_camera():
    poses, views = scene(6, 12, 0.2, 0.0, 0.0, "eye_in_hand")
    clean = solve_hand_eye(poses, views, CAMERA, "eye_in_hand")
    corners = views[3].corners_px.copy()
    corners[17] += [25.0, -10.0]
    views[3] = replace(views[3], corners_px=corners)
    result = solve_hand_eye(poses, views, CAMERA, "eye_in_hand")
    assert pose_error(result.T_parent_camera, clean.T_parent_camera).translation < 1e-4


def test_leaving_one_out_moves_the_camera_by_about_its_sigma():
    poses, views = scene(7, 14, 0.3, 0.05, 0.2, "eye_in_hand")
    result = solve_hand_eye(poses, views, CAMERA, "eye_in_hand")
    answers = list(leave_one_out(HandEyeData(poses, views, CAMERA, "eye_in_hand")))
    assert [answer.name for answer in answers] == list(result.names)
    # Jackknife: the shifts add up to the sampling variance, within a factor of two for 14 views.
    jackknife = np.sqrt(13 / 14 * sum(answer.shift_m**2 for answer in answers))
    assert 0.5 < jackknife / np.linalg.norm(result.camera_pose.sigma_translation) < 2.0
    in_sample = np.sqrt(np.mean(result.view_rms_px**2))
    assert np.sqrt(np.mean([answer.rms_px**2 for answer in answers])) > in_sample


def test_a_view_that_was_left_out_is_judged_without_being_used():
    poses, views = scene(8, 12, 0.2, 0.0, 0.05, "eye_in_hand")
    poses[5] = poses[5] @ small_pose(np.array([0, 0.02, 0, 0.01, 0, 0]))
    answers = {
        answer.name: answer for answer in leave_one_out(HandEyeData(poses, views, CAMERA, "eye_in_hand"))
    }
    assert max(answers.values(), key=lambda answer: answer.rms_px).name == "5"
    assert answers["5"].shift_m < 1e-5  # it had no say before either
    with pytest.raises(CalibrationError, match="7 would be left to calibrate with, expected 8"):
        next(leave_one_out(HandEyeData(poses[:8], views[:8], CAMERA, "eye_in_hand")))


def test_columns_of_arm_errors_are_what_a_displaced_joint_does():
    arm = joint_scene(num=2)
    columns = geometry_errors(arm.robot.chain, arm.joints)
    nominal = arm.robot.forward_batch(arm.joints)
    for joint, column in ((5, 0), (3, 16), (1, 27)):  # joints 6, 4, 2: turn about x, shift y, shift x
        axis = column % 6
        origins = arm.robot.chain.origins.copy()
        displaced = np.zeros(6)
        displaced[axis] = 1e-6 * (1.0 if axis < 3 else TYPICAL_LENGTH_M)
        # The displacement sits between the fixed origin and the joint's motion.
        origins[joint] = origins[joint] @ small_pose(displaced)
        wrong = replace(arm.robot, chain=replace(arm.robot.chain, origins=origins))
        moved = increment_of(invert(nominal) @ wrong.forward_batch(arm.joints))
        np.testing.assert_allclose(columns[:, :, column], moved / 1e-6, atol=1e-4)


def test_a_wrong_arm_is_learnt_with_the_camera():
    arm = joint_scene(seed=1, num=15, px=0.2)
    columns = geometry_errors(arm.robot.chain, arm.joints)
    truth = np.zeros(columns.shape[-1])
    truth[[2, 8, 20]] = np.deg2rad([0.1, -0.1, 0.08])
    reported = arm.robot.forward_batch(arm.joints) @ invert(small_pose(columns @ truth))
    plain = solve_hand_eye(reported, arm.views, CAMERA, "eye_in_hand")
    learnt = solve_hand_eye(reported, arm.views, CAMERA, "eye_in_hand", arm_errors=columns)
    assert learnt.arm_correction.shape == truth.shape
    assert learnt.noise.rotation < plain.noise.rotation / 3
    corrected = learnt.board_in_camera(reported, columns)
    true_boards = invert(arm.robot.forward_batch(arm.joints) @ X) @ B_ON_TABLE
    assert pose_error(corrected, true_boards).translation.max() < 3e-4
    assert pose_error(plain.board_in_camera(reported), true_boards).translation.max() > 6e-4


def held_out_px(data: HandEyeData, arm_errors: np.ndarray | None) -> float:
    return float(np.median(tried(OwnWay("", data, arm_errors)).px))


def test_held_out_views_decide_whether_the_arm_is_worth_correcting():
    arm = joint_scene(seed=2, num=15, px=0.2)
    columns = geometry_errors(arm.robot.chain, arm.joints)
    ways = None, columns
    poses, rng = arm.robot.forward_batch(arm.joints), np.random.default_rng(0)
    wrong = poses @ small_pose(columns @ rng.normal(0, np.deg2rad(0.05), columns.shape[-1]))
    plain, learnt = (held_out_px(HandEyeData(wrong, arm.views, CAMERA, "eye_in_hand"), c) for c in ways)
    assert learnt < 0.6 * plain
    noisy = poses @ small_pose(rng.normal(0, 1, (15, 6)) * ([5e-4] * 3 + [2e-4] * 3))
    plain, learnt = (held_out_px(HandEyeData(noisy, arm.views, CAMERA, "eye_in_hand"), c) for c in ways)
    assert learnt > 0.9 * plain  # there was nothing to learn
    with pytest.raises(CalibrationError, match="5 would be left"):
        held_out_px(HandEyeData(noisy[:7], arm.views[:7], CAMERA, "eye_in_hand"), None)


def test_motion_that_cannot_tell_the_pose_is_refused():
    poses, views = scene(0, 10, 0.1, 0.0, 0.0, "eye_in_hand")
    with pytest.raises(CalibrationError, match="at least 8"):
        solve_hand_eye(poses[:5], views[:5], CAMERA, "eye_in_hand")
    with pytest.raises(CalibrationError, match="9 views but 10 robot poses"):
        solve_hand_eye(poses, views[:9], CAMERA, "eye_in_hand")
    still = np.repeat(poses[:1], 10, axis=0)
    with pytest.raises(CalibrationError, match="turns by 0 deg"):
        solve_hand_eye(still, views, CAMERA, "eye_in_hand")
    one_axis = [poses[0] @ from_rotation(rotation_from_vector([0, 0, a])) for a in np.linspace(0, 1, 10)]
    with pytest.raises(CalibrationError, match="one axis"):
        solve_hand_eye(np.array(one_axis), views, CAMERA, "eye_in_hand")


def test_weak_motion_is_warned_of():
    result = solve_hand_eye(*scene(0, 8, 0.1, 0.0, 0.0, "eye_in_hand", 6.0), CAMERA, "eye_in_hand")
    assert any("8 views" in warning for warning in result.warnings)
    poses, views = scene(0, 14, 0.1, 0.0, 0.0, "eye_in_hand")
    assert solve_hand_eye(poses, views, CAMERA, "eye_in_hand").warnings == ()
    unsure = solve_hand_eye(*scene(0, 12, 2.0, 0.3, 1.0, "eye_in_hand", 12.0), CAMERA, "eye_in_hand")
    assert any("unsure by" in warning for warning in unsure.warnings)
    poor = solve_hand_eye(*scene(0, 14, 0.2, 0.7, 3.0, "eye_in_hand"), CAMERA, "eye_in_hand")
    assert any("robot's poses are off by" in warning for warning in poor.warnings)
    repeated = np.concatenate([poses, poses[:2]])
    result = solve_hand_eye(repeated, [*views, *views[:2]], CAMERA, "eye_in_hand")
    assert result.warnings == ("2 views repeat an earlier robot pose; they add little",)
