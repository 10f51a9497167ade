"""Sigma of a camera's place holds what is unsure of its lens and its board."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, B, X, scene

from benches.calibration_scenes import CASES, make_scene
from tacit.geometry.transforms import invert, pose_error
from tacit_calibration.estimation.board_pose import Corners, refined
from tacit_calibration.estimation.increments import increment_of
from tacit_calibration.estimation.unsure import EXACT, Unsure, answers
from tacit_calibration.hand_eye import solve_hand_eye

SMALL = 1e-4


@pytest.mark.parametrize("part", range(4))
def test_a_board_is_found_elsewhere_by_another_lens_or_size(part):
    """The derivative equals what is found when the lens or the board itself is taken for another."""
    poses, views = scene(0, 6, 0.0, 0.0, 0.0, "eye_in_hand")
    boards, corners = invert(poses @ X) @ B, Corners.of(views)
    f = CAMERA.K[0, 0]
    change = [np.diag([f, f, 0.0]), np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 3))]
    change[1][0, 2] = change[2][1, 2] = f
    # What was seen came from a true lens that is SMALL away; ours is taken for it.
    other = replace(CAMERA, K=CAMERA.K - SMALL * change[part])
    size = 1 - SMALL if part == 3 else 1.0
    taken = [replace(view, points_m=size * view.points_m) for view in views]
    found = refined(Corners.of(taken), other, boards, rounds=10)
    expected = increment_of(invert(boards) @ found) / SMALL
    got = answers(corners, CAMERA, boards)[..., part]
    np.testing.assert_allclose(got, expected, atol=0.05 * np.abs(expected).max())


def test_a_lens_that_is_unsure_widens_the_place_and_changes_no_answer():
    poses, views = scene(1, 12, 0.3, 0.02, 0.05, "eye_in_hand")
    exact, unsure, vague = (
        solve_hand_eye(poses, views, CAMERA, "eye_in_hand", known)
        for known in (EXACT, Unsure(2e-3), Unsure(0.5))
    )
    np.testing.assert_array_equal(exact.T_parent_camera, unsure.T_parent_camera)
    sigmas = [np.linalg.norm(result.camera_pose.sigma_translation) for result in (exact, unsure, vague)]
    assert sigmas[1] > 1.1 * sigmas[0]
    # However little is known of the lens, the arm's moves tell the scale.
    assert sigmas[2] < 2 * sigmas[1]


def test_a_wrong_size_does_not_hide_behind_the_noise_that_it_makes():
    """The robot is as good as it is, so a size is told as surely when it is wrong."""
    taken = make_scene(CASES["C"], 2).taken
    found = []
    for factor in (1.0, 0.98):
        views = [replace(view, points_m=factor * view.points_m) for view in taken.views]
        found.append(solve_hand_eye(taken.flange_poses, views, CAMERA, "eye_in_hand"))
    right, wrong = found
    assert wrong.size == pytest.approx(right.size / 0.98, rel=2e-3)
    assert wrong.size_sigma == pytest.approx(right.size_sigma, rel=0.4)


def test_sigma_covers_lenses_and_boards_that_are_off_by_as_much_as_is_said():
    case, errors, sigmas, blind = CASES["H"], [], [], []
    for seed in range(10):
        made = make_scene(case, seed)
        for known, kept in ((case.unsure, sigmas), (EXACT, blind)):
            result = solve_hand_eye(*made.taken[:2], CAMERA, "eye_in_hand", known)
            kept.append(np.linalg.norm(result.camera_pose.sigma_translation))
        errors.append(pose_error(result.T_parent_camera, made.X).translation)
    ratio, without = (np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(s))) for s in (sigmas, blind))
    assert 0.6 < ratio < 1.4
    assert without > 1.3 * ratio
