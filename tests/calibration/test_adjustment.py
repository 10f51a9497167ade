"""Views that miss count less, and corners that were drawn have the noise that explains them."""

from __future__ import annotations

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, GRID, X, scene

from benches.calibration_mistakes import main as count_mistakes
from benches.calibration_scenes import CASES, make_scene
from tacit.geometry.transforms import pose_error
from tacit_calibration.detection import View
from tacit_calibration.estimation.adjustment import Adjustment
from tacit_calibration.estimation.board_pose import board_poses
from tacit_calibration.estimation.closed_form import solve_closed_form
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.hand_eye import HandEyeData, solve_hand_eye
from tacit_calibration.held_out import WRONG_ARM
from tacit_calibration.ways import OwnWay


def test_views_that_miss_by_more_than_the_others_count_less_and_stay():
    poses, views = scene(0, 14, 0.3, 0.02, 0.1, "eye_in_hand")
    off = np.array([[4e-3, -4e-3, 3e-3, 1e-3, 0.5e-3, -1e-3], [-3e-3, 0, 5e-3, -1e-3, 1e-3, 0.5e-3]])
    poses[[3, 9]] = poses[[3, 9]] @ small_pose(off / 3)
    boards = board_poses(views, CAMERA)
    first = solve_closed_form(poses, boards)
    start = Adjustment.start(poses, views, CAMERA, "eye_in_hand", first, boards)
    settled, _ = start.settled(None)
    assert settled.used.all()
    others = np.delete(settled.weights, [3, 9])
    assert settled.weights[[3, 9]].max() < 0.5 * others.min()
    assert 0.5 < others.mean() < 1.8


@pytest.mark.parametrize("px", [0.1, 0.4])
def test_the_noise_of_boards_that_are_known_by_their_poses_is_found(px):
    poses, views = scene(0, 20, px, 0.02, 0.05, "eye_in_hand")
    drawn = [
        View(view.name, CAMERA.project(GRID @ T[:3, :3].T + T[:3, 3]), GRID)
        for view, T in zip(views, board_poses(views, CAMERA), strict=True)
    ]
    found = solve_hand_eye(poses, drawn, CAMERA, "eye_in_hand")
    assert px / 2.1 < found.noise.pixel < 2.1 * px
    assert pose_error(found.T_parent_camera, X).translation < 1e-3


def test_an_arm_that_is_off_by_a_millimetre_shows_by_its_poses_alone():
    taken = make_scene(CASES["G"], 1).taken
    data = HandEyeData(taken.flange_poses, taken.views, CAMERA, "eye_in_hand")
    smooth, plain = OwnWay("", data, smooth=True).result, OwnWay("", data).result
    assert (smooth.used == plain.used).all()
    assert smooth.likelihood - plain.likelihood > WRONG_ARM


def test_mistakes_are_counted_by_what_is_said_of_them(capsys):
    assert (
        count_mistakes(["--seeds", "1", "--clean", "0", "--kinds", "inverted poses", "shuffled poses"]) == 0
    )
    printed = capsys.readouterr().out
    assert printed.count("named 1 of 1") == 6 and "shuffled poses, case E" in printed
