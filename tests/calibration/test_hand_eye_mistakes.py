"""What people get wrong before a hand-eye calibration is refused, each mistake by its name."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, GRID, X, joint_scene, scene

from tacit.errors import CalibrationError
from tacit.geometry.transforms import invert
from tacit_calibration.estimation.diagnosis import explain_joints
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.hand_eye import solve_hand_eye
from tacit_calibration.held_out import without_held_out

MOUNTINGS = ["eye_in_hand", "eye_to_hand"]


def good(mounting: str = "eye_in_hand", num: int = 12):
    return scene(0, num, 0.3, 0.02, 0.05, mounting)


@pytest.mark.parametrize("mounting", MOUNTINGS)
def test_inverted_robot_poses_are_called_swapped_frames(mounting):
    poses, views = good(mounting)
    with pytest.raises(CalibrationError, match="swapped frames: .*T_flange_base was given for T_base_flange"):
        solve_hand_eye(invert(poses), views, CAMERA, mounting)


@pytest.mark.parametrize("mounting", MOUNTINGS)
def test_a_camera_on_the_other_side_is_called_so(mounting):
    poses, views = good(mounting)
    other = MOUNTINGS[1 - MOUNTINGS.index(mounting)]
    with pytest.raises(CalibrationError, match=f"camera is {mounting} and not {other}"):
        solve_hand_eye(poses, views, CAMERA, other)


@pytest.mark.parametrize("mounting", MOUNTINGS)
@pytest.mark.parametrize("given_mm", [24.0, 26.0])
def test_a_wrong_square_size_is_measured_by_the_arm(mounting, given_mm):
    poses, views = good(mounting)
    scaled = [replace(view, points_m=view.points_m * given_mm / 25.0) for view in views]
    with pytest.raises(CalibrationError, match="wrong square size") as refused:
        solve_hand_eye(poses, scaled, CAMERA, mounting)
    said = float(re.search(r"squares are ([\d.]+)", str(refused.value))[1])
    assert said == pytest.approx(25.0 / given_mm, abs=0.006)


def test_a_board_printed_within_a_percent_is_accepted():
    poses, views = good()
    printed = [replace(view, points_m=view.points_m * 1.005) for view in views]
    result = solve_hand_eye(poses, printed, CAMERA, "eye_in_hand")
    assert np.linalg.norm(result.T_parent_camera[:3, 3] - X[:3, 3]) < 0.005
    assert result.dropped == {}


def test_a_lens_that_is_off_by_a_percent_is_a_contradiction():
    poses, views = good(num=14)
    longer = replace(CAMERA, K=CAMERA.K * [[1.012, 1, 1], [1, 1.012, 1], [1, 1, 1]])
    off, right = (
        without_held_out(solve_hand_eye(poses, views, lens, "eye_in_hand")) for lens in (longer, CAMERA)
    )
    assert "fx off by as much looks the same" in off.contradictions[0]
    assert right.contradictions == ()


def test_millimetres_for_metres_are_called_units():
    poses, views = good()
    in_mm = poses.copy()
    in_mm[:, :3, 3] *= 1e3
    with pytest.raises(CalibrationError, match="wrong units: .*factor of (99.|100.)"):
        solve_hand_eye(in_mm, views, CAMERA, "eye_in_hand")
    board_in_mm = [replace(view, points_m=view.points_m * 1e3) for view in views]
    with pytest.raises(CalibrationError, match="wrong units"):
        solve_hand_eye(poses, board_in_mm, CAMERA, "eye_in_hand")


def test_a_mirrored_board_is_called_mirrored():
    poses, views = good()
    mirrored = [replace(view, points_m=view.points_m * [-1, 1, 1]) for view in views]
    with pytest.raises(CalibrationError, match="mirrored board"):
        solve_hand_eye(poses, mirrored, CAMERA, "eye_in_hand")


def test_a_rotation_with_determinant_minus_one_is_named_with_its_picture():
    poses, views = good()
    poses[3, :3, 0] *= -1
    with pytest.raises(CalibrationError, match="flange pose of 3: rotation has determinant -1"):
        solve_hand_eye(poses, views, CAMERA, "eye_in_hand")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda T: T * 1.01, "bottom row"),
        (lambda T: T + np.pad(np.full((3, 3), 0.01), (0, 1)), "not orthonormal"),
        (lambda T: T * np.nan, "not finite"),
    ],
)
def test_a_pose_that_is_not_rigid_is_named(change, message):
    poses, views = good()
    poses[7] = change(poses[7])
    with pytest.raises(CalibrationError, match=f"flange pose of 7: .*{message}"):
        solve_hand_eye(poses, views, CAMERA, "eye_in_hand")


@pytest.mark.parametrize(("shift", "word"), [(1, "earlier"), (-1, "later")])
def test_poses_of_the_neighbouring_pictures_are_noticed(shift, word):
    poses, views = good(num=14)
    with pytest.raises(CalibrationError, match=f"belong to other pictures: .*one picture {word}"):
        solve_hand_eye(np.roll(poses, shift, axis=0), views, CAMERA, "eye_in_hand")


def test_shuffled_poses_are_called_those_of_other_pictures():
    poses, views = good(num=14)
    shuffled = np.random.default_rng(0).permutation(poses)
    with pytest.raises(CalibrationError, match="belong to other pictures: .* goes with the pose of"):
        solve_hand_eye(shuffled, views, CAMERA, "eye_in_hand")


def test_another_lens_is_noticed_on_single_pictures():
    poses, views = good()
    rng = np.random.default_rng(0)
    noisy = [replace(v, corners_px=v.corners_px + rng.normal(0, 5, v.corners_px.shape)) for v in views]
    with pytest.raises(CalibrationError, match="lens does not fit the pictures"):
        solve_hand_eye(poses, noisy, CAMERA, "eye_in_hand")


def test_a_board_that_moved_half_way_leaves_no_majority():
    poses, views = good(num=12)
    moved = small_pose(np.array([0, 0, 0, 0.06, 0, 0]))
    for i in range(6):
        poses[i] = moved @ poses[i]
    with pytest.raises(CalibrationError, match="contradict"):
        solve_hand_eye(poses, views, CAMERA, "eye_in_hand")


def test_a_view_that_gives_no_pose_is_named():
    poses, views = good()
    row = slice(0, 8)
    for part in (row, slice(0, 5)):
        cut = replace(views[4], corners_px=views[4].corners_px[part], points_m=views[4].points_m[part])
        with pytest.raises(CalibrationError, match="4: . corners, or all on one line"):
            solve_hand_eye(poses, [*views[:4], cut, *views[5:]], CAMERA, "eye_in_hand")


@pytest.fixture(scope="module")
def arm():
    return joint_scene()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda q: np.rad2deg(q), "in degrees, expected radians"),
        (lambda q: q * [1, 1, -1, 1, 1, 1], "j3 has the wrong sign"),
        (lambda q: q[:, ::-1], "they look like j6, j5, j4, j3, j2, j1"),
        (lambda q: q[:, [0, 1, 3, 2, 4, 5]], "they look like j1, j2, j4, j3, j5, j6"),
        (lambda q: np.rad2deg(q[:, ::-1]), "in degrees and in reverse order"),
    ],
)
def test_wrong_joints_are_explained(arm, mistake, message):
    joints = mistake(arm.joints)
    with pytest.raises(CalibrationError, match="turn by different angles|contradict each other"):
        solve_hand_eye(arm.robot.forward_batch(joints), arm.views, CAMERA, "eye_in_hand")
    explained = explain_joints(arm.robot, joints, arm.views, CAMERA, "eye_in_hand")
    assert explained is not None
    assert message in explained


def test_right_joints_need_no_explanation(arm):
    assert explain_joints(arm.robot, arm.joints, arm.views, CAMERA, "eye_in_hand") is None


def test_nonsense_is_not_explained_away(arm):
    joints = np.random.default_rng(1).uniform(-2, 2, arm.joints.shape)
    assert explain_joints(arm.robot, joints, arm.views, CAMERA, "eye_in_hand") is None


def test_the_grid_of_these_scenes_is_seen_from_its_front():
    assert GRID[1, 0] > GRID[0, 0]
    solve_hand_eye(*good(), CAMERA, "eye_in_hand")
