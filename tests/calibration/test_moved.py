"""A camera that lies far from where the rig had it is said to, and the frame that would explain it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hand_eye_scenes import X

from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, from_translation, invert
from tacit_calibration.commands.moved import say_move
from tacit_calibration.estimation.increments import small_pose

HAND = from_rotation(rotation_from_vector([0, 0, -np.pi / 4]), [0, 0, 0.1034])


@pytest.mark.parametrize(
    ("frame", "looks"),
    [
        (from_translation([0, 0, 0.1034]), r"lies (9[6-9]|10\d|11[01]) mm along z off"),
        (from_rotation(rotation_from_vector([np.pi / 2, 0, 0])), r"lies (8[7-9]|9[0-3]) deg about x off"),
        (HAND, r"lies (9[6-9]|10\d|11[01]) mm along z and -4\d deg about z off"),
    ],
)
def test_poses_that_end_in_a_tool_are_recognised_by_its_frame(capsys, frame, looks):
    rng = np.random.default_rng(0)
    for _ in range(100):
        measured_by_hand = X @ small_pose(rng.normal(0, 1, 6) * ([np.deg2rad(0.7)] * 3 + [2e-3] * 3))
        say_move(measured_by_hand, invert(frame) @ X, False, "flange")
        assert re.search(looks, capsys.readouterr().out)


def test_a_small_move_is_told_and_a_remounted_camera_is_a_warning(capsys):
    say_move(X, X @ small_pose(np.array([0.02, 0, 0, 4e-3, 0, 0])), True, "flange")
    printed = capsys.readouterr().out
    assert "4.0 mm and 1.1 deg from where it was calibrated before" in printed
    assert "far" not in printed
    say_move(X, X @ small_pose(np.array([0.3, 0.2, 0.1, 0.04, 0.03, 0.05])), True, "flange")
    printed = capsys.readouterr().out
    assert "WARNING that is far: was the camera remounted" in printed
    assert "looks like" not in printed
