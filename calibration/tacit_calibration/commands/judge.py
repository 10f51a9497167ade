"""What views left out say of a hand-eye calibration, and of the arm's model behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, pose_error
from tacit_calibration.commands.place import say, track
from tacit_calibration.estimation.unsure import TYPICAL, Unsure
from tacit_calibration.hand_eye import HandEyeData, HandEyeResult
from tacit_calibration.held_out import Judged, leave_one_out, solve_by_held_out
from tacit_calibration.samples import RobotViews


def judge(
    lens: Camera,
    views: RobotViews,
    solved: HandEyeResult,
    arm_errors: FloatArray | None,
    unsure: Unsure = TYPICAL,
) -> tuple[Judged, dict[str, Any]]:
    """Let views that were left out judge a calibration, and the arm's model behind it.

    Args:
        lens: The camera's lens.
        views: Poses and pictures.
        solved: The calibration with the arm as modelled.
        arm_errors: How the arm's geometry may be wrong (n, 6, m); None where its joints are not known.
        unsure: How well lens and board are known.

    Returns:
        The calibration to keep with what contradicts it; and for the record errors by view and by way
        [px], empty where there are too few views to spare any.
    """
    data = HandEyeData(views.flange_poses, views.views, lens, solved.mounting, unsure)
    record: dict[str, Any] = {}
    try:
        answers = list(track(leave_one_out(data, solved), "leaving each view out", len(views.views)))
    except CalibrationError as problem:
        say(f"not judged view by view: {problem}")
    else:
        worst = max(answers, key=lambda answer: answer.shift_m)
        say(
            f"each view left out in turn: {np.median([a.rms_px for a in answers]):.2f} px in the middle; "
            f"without {worst.name} the camera moves most, {1e3 * worst.shift_m:.2f} mm"
        )
        record["left_out_px"] = {answer.name: answer.rms_px for answer in answers}
    judged = solve_by_held_out(data, arm_errors, solved, track)
    record |= {
        "contradictions": list(judged.contradictions),
        "warnings": [*judged.result.warnings, *judged.warnings],
    }
    if not judged.trials:
        _say_warnings(judged)
        return judged, record
    _say_trials(judged)
    by_way = {t.name: {"px": float(np.median(t.px)), "mm": float(np.median(t.mm))} for t in judged.trials}
    record |= {"held_out_px": float(np.median(judged.trials[0].px)), "chosen": judged.trials[0].name}
    return judged, record | {"ways": by_way}


def _say_trials(judged: Judged) -> None:
    """Print every way of calibrating with its held-out error and how far its camera lies from the chosen."""
    say("views left out by fifths, median error by way of calibrating; how far its camera lies off:")
    chosen = judged.trials[0]
    own = float(np.linalg.norm(judged.result.camera_pose.sigma_translation))
    for trial in judged.trials:
        apart = pose_error(trial.X, judged.result.T_parent_camera)
        sigmas = float(apart.translation) / max(own, 1e-9)
        far = (
            f"{1e3 * float(apart.translation):6.2f} mm {np.rad2deg(float(apart.rotation)):5.2f} deg, "
            f"{sigmas:.1f} sigma"
        )
        say(
            f"  {trial.name:24} {np.median(trial.px):6.2f} px {np.median(trial.mm):6.2f} mm   "
            + ("kept" if trial is chosen else far)
        )
    _say_warnings(judged)


def _say_warnings(judged: Judged) -> None:
    for warning in judged.warnings:
        say(f"WARNING {warning}")
