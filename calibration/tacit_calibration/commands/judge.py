"""What views left out say of a hand-eye calibration, and of the arm's model behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, pose_error
from tacit_calibration.commands.place import say
from tacit_calibration.hand_eye import HandEyeData, HandEyeResult
from tacit_calibration.held_out import LEARNT, SMOOTH, Judged, leave_one_out, solve_by_held_out
from tacit_calibration.samples import RobotViews

WRONG_ARM = 0.7
"""Held-out error with a learnt arm below this part of that without: the model is wrong enough to mend."""


def judge(
    lens: Camera, views: RobotViews, solved: HandEyeResult, arm_errors: FloatArray | None
) -> tuple[Judged, dict[str, Any]]:
    """Let views that were left out judge a calibration, and the arm's model behind it.

    Args:
        lens: The camera's lens.
        views: Poses and pictures.
        solved: The calibration with the arm as modelled.
        arm_errors: How the arm's geometry may be wrong (n, 6, m); None where its joints are not known.

    Returns:
        The calibration to keep with what contradicts it; and for the record errors by view and by way
        [px], empty where there are too few views to spare any.
    """
    data = HandEyeData(views.flange_poses, views.views, lens, solved.mounting)
    try:
        answers = leave_one_out(data, solved)
    except CalibrationError as problem:
        say(f"not judged by views left out: {problem}")
        return Judged(solved), {}
    worst = max(answers, key=lambda answer: answer.shift_m)
    say(
        f"each view left out in turn: {np.median([a.rms_px for a in answers]):.2f} px in the middle; without "
        f"{worst.name} the camera moves most, {1e3 * worst.shift_m:.2f} mm"
    )
    record: dict[str, Any] = {"left_out_px": {answer.name: answer.rms_px for answer in answers}}
    judged = solve_by_held_out(data, arm_errors, solved)
    if not judged.trials:
        return judged, record
    _say_trials(judged)
    by_way = {t.name: {"px": float(np.median(t.px)), "mm": float(np.median(t.mm))} for t in judged.trials}
    record |= {"held_out_px": float(np.median(judged.trials[0].px)), "chosen": judged.trials[0].name}
    return judged, record | {"ways": by_way, "contradictions": list(judged.contradictions)}


def _say_trials(judged: Judged) -> None:
    """Print every way of calibrating with its held-out error and how far its camera lies from the chosen."""
    say("views left out by fifths, median error by way of calibrating; how far its camera lies off:")
    chosen = judged.trials[0]
    for trial in judged.trials:
        apart = pose_error(trial.X, chosen.X)
        far = f"{1e3 * float(apart.translation):6.2f} mm {np.rad2deg(float(apart.rotation)):5.2f} deg"
        say(
            f"  {trial.name:24} {np.median(trial.px):6.2f} px {np.median(trial.mm):6.2f} mm   "
            + ("kept" if trial is chosen else far)
        )
    modelled = judged.modelled_px or 0.0
    learnt = [px for name in (LEARNT, SMOOTH) if (px := judged.px(name)) is not None]
    if min(learnt, default=np.inf) < WRONG_ARM * modelled:
        say(
            "WARNING the arm's model is off: its errors are smooth in its pose; check joint zeros, "
            "use the vendor's calibrated parameters"
        )
    for warning in judged.warnings:
        say(f"WARNING {warning}")
