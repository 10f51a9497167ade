"""What views left out say of a hand-eye calibration, and of the arm's model behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.robot import Robot
from tacit.rig import Rig
from tacit_calibration.commands.place import say
from tacit_calibration.estimation.arm_errors import geometry_errors
from tacit_calibration.hand_eye import HandEyeData, HandEyeResult
from tacit_calibration.held_out import leave_one_out, solve_by_held_out
from tacit_calibration.samples import RobotViews

WRONG_ARM = 0.7
"""Held-out error with a learnt arm below this part of that without: the model is wrong enough to mend."""


def judge(
    rig: Rig, camera: str, views: RobotViews, solved: HandEyeResult
) -> tuple[HandEyeResult, dict[str, Any]]:
    """Let views that were left out judge a calibration, and the arm's model behind it.

    Args:
        rig: With the camera's lens.
        camera: Its name.
        views: Poses and pictures.
        solved: The calibration with the arm as modelled.

    Returns:
        The calibration to keep, with the arm's geometry learnt where that is better; and for the
        record errors by view and by model [px], empty where there are too few views to spare any.
    """
    lens, chain = rig.geometry.camera(camera), Robot.from_rig(rig, views.arm).chain
    data = HandEyeData(views.flange_poses, views.views, lens, solved.mounting)
    try:
        answers = leave_one_out(data, solved)
    except CalibrationError as problem:
        say(f"not judged by views left out: {problem}")
        return solved, {}
    worst = max(answers, key=lambda answer: answer.shift_m)
    say(
        f"each view left out in turn: {np.median([a.rms_px for a in answers]):.2f} px in the middle; without "
        f"{worst.name} the camera moves most, {1e3 * worst.shift_m:.2f} mm"
    )
    judged = solve_by_held_out(data, geometry_errors(chain, views.joints), solved)
    record: dict[str, Any] = {"left_out_px": {answer.name: answer.rms_px for answer in answers}}
    if judged.modelled_px is None or judged.learnt_px is None:
        return solved, record
    _say_of_arm(judged.modelled_px, judged.learnt_px, judged.learnt)
    kept = judged.learnt_px if judged.learnt else judged.modelled_px
    by_model = {"arm_modelled_px": judged.modelled_px, "arm_learnt_px": judged.learnt_px}
    return judged.result, record | {"held_out_px": kept, "arm_learnt": judged.learnt} | by_model


def _say_of_arm(modelled_px: float, learnt_px: float, learnt: bool) -> None:
    both = f"{modelled_px:.2f} px with the arm as modelled, {learnt_px:.2f} px with its geometry learnt"
    say(f"views left out by fifths: {both}")
    if learnt:
        say("the latter is better, so the camera's place is that of the learnt arm")
    if learnt_px < WRONG_ARM * modelled_px:
        say("WARNING the arm's model is off; check joint zeros, use the vendor's calibrated parameters")
