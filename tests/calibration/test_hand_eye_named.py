"""Squares of another size, and two poses exchanged, are named in every scene; a good scene is not accused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, X, scene

from tacit.errors import CalibrationError
from tacit.geometry.transforms import invert
from tacit_calibration.estimation.unsure import TYPICAL
from tacit_calibration.hand_eye import solve_hand_eye
from tacit_calibration.held_out import without_held_out

SEEDS = range(3)
MOUNTINGS = ["eye_in_hand", "eye_to_hand"]


def said(poses, views, mounting) -> str:
    """What a user reads of a calibration: why it is refused, or what contradicts it."""
    try:
        result = solve_hand_eye(poses, views, CAMERA, mounting, TYPICAL)
    except CalibrationError as problem:
        return str(problem)
    judged = without_held_out(result)
    return " | ".join([*judged.contradictions, *(f"{name} left out" for name in result.dropped)])


@pytest.mark.parametrize("mounting", MOUNTINGS)
def test_two_poses_exchanged_are_left_out_and_the_others_are_not_accused(mounting):
    for seed in SEEDS:
        poses, views = scene(seed, 15, 0.3, 0.02, 0.05, mounting)
        assert said(poses, views, mounting) == ""
        assert said(poses[[1, 0, *range(2, 15)]], views, mounting) == "0 left out | 1 left out"


@pytest.mark.parametrize("mounting", MOUNTINGS)
@pytest.mark.parametrize("num", [1, 3])
def test_poses_that_look_away_from_the_board_are_left_out(num, mounting):
    poses, views = scene(0, 12, 0.3, 0.02, 0.05, mounting)
    half_turn = X @ np.diag([1.0, -1.0, -1.0, 1.0]) @ invert(X)
    away = poses @ half_turn if mounting == "eye_in_hand" else half_turn @ poses
    heard = said(np.concatenate([away[:num], poses[num:]]), views, mounting)
    assert heard == " | ".join(f"{name} left out" for name in range(num))


@pytest.mark.parametrize("mounting", MOUNTINGS)
@pytest.mark.parametrize("factor", [0.98, 0.99, 1.01, 1.02])
def test_squares_that_are_off_by_a_percent_are_named(factor, mounting):
    for seed in SEEDS:
        poses, views = scene(seed, 15, 0.3, 0.02, 0.05, mounting)
        sized = [replace(view, points_m=factor * view.points_m) for view in views]
        assert "by the arm's moves the squares are" in said(poses, sized, mounting)
