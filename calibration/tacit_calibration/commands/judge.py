"""What views left out say of a hand-eye calibration, and of the arm's model behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import CalibrationError
from tacit.rig import Rig
from tacit.robot import Robot
from tacit_calibration.arm_errors import geometry_errors
from tacit_calibration.commands.place import say
from tacit_calibration.hand_eye import HandEyeResult
from tacit_calibration.held_out import held_out_px, leave_one_out
from tacit_calibration.samples import RobotViews

WORTH_CORRECTING = 0.7
"""Held-out error with a corrected arm below this part of that without: its model is wrong, not noisy."""


def judge(rig: Rig, camera: str, views: RobotViews, solved: HandEyeResult) -> dict[str, Any]:
    """Say and return what views that were left out think of a calibration.

    Args:
        rig: With the camera's lens.
        camera: Its name.
        views: Poses and pictures.
        solved: The calibration from all of them.

    Returns:
        For the record: errors by view [px], and with the arm as modelled and as learnt [px]; empty
        where there are too few views to spare any.
    """
    lens, chain = rig.geometry.camera(camera), Robot.from_rig(rig, views.arm).chain
    data = views.flange_poses, views.views, lens, solved.mounting
    try:
        answers = leave_one_out(*data, full=solved)
        plain = held_out_px(*data)
        learnt = held_out_px(*data, arm_errors=geometry_errors(chain, views.joints))
    except CalibrationError as problem:
        say(f"not judged by views left out: {problem}")
        return {}
    worst = max(answers, key=lambda answer: answer.shift_m)
    say(
        f"each view left out in turn: {np.median([a.rms_px for a in answers]):.2f} px in the middle; without "
        f"{worst.name} the camera moves most, {1e3 * worst.shift_m:.2f} mm"
    )
    if learnt < WORTH_CORRECTING * plain:
        say(
            f"WARNING the arm's model is off: views left out miss by {plain:.2f} px, with its geometry "
            f"learnt too by {learnt:.2f} px; check joint zeros and use the vendor's calibrated parameters"
        )
    return {
        "left_out_px": {answer.name: answer.rms_px for answer in answers},
        "held_out_px": plain,
        "held_out_learnt_arm_px": learnt,
    }
