"""Two arms, boards and fixed cameras: the chain is right, and so is how sure it says it is."""

from __future__ import annotations

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, scene

from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_from_rpy
from tacit.geometry.transforms import from_rotation, invert, pose_error
from tacit_calibration.estimation.increments import UncertainPose, adjoint, exact, increment_of
from tacit_calibration.hand_eye import solve_hand_eye
from tacit_calibration.world import base_to_base

LEFT_RIGHT = from_rotation(rotation_from_rpy([0.02, -0.01, 2.9]), [0.1, 0.9, 0.01])


def disagreement(first: UncertainPose, second: UncertainPose) -> float:
    """Return how far two independent estimates of one pose lie apart: chi-square with 6 degrees.

    About 6 when both are honest; beyond 30 something moved, or one of them is wrong.
    """
    apart = increment_of(invert(first.T) @ second.T)
    back = adjoint(invert(first.T) @ second.T)
    spread = first.covariance + back @ second.covariance @ back.T
    return float(apart @ np.linalg.solve(spread, apart))


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
