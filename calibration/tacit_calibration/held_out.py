"""Judge a hand-eye calibration by views that were not used to make it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray, pose_error
from tacit_calibration.estimation.board_pose import Corners, residuals, view_rms
from tacit_calibration.estimation.degeneracy import MIN_VIEWS
from tacit_calibration.hand_eye import HandEyeData, HandEyeResult, solve_hand_eye

FOLDS = 5


@dataclass(frozen=True)
class LeftOut:
    """What one view says of a calibration made without it.

    Attributes:
        name: The view.
        rms_px: Its error under the calibration of the others [px].
        shift_m: How far its absence moves the camera [m].
        turn_rad: How far it turns it [rad].
    """

    name: str
    rms_px: float
    shift_m: float
    turn_rad: float


def leave_one_out(data: HandEyeData, full: HandEyeResult | None = None) -> list[LeftOut]:
    """Calibrate without each view in turn, and ask the view that was left out.

    Args:
        data: At least one view more than `solve_hand_eye` needs.
        full: The calibration from all of them, where it is at hand.

    Raises:
        CalibrationError: Too few views to spare one.
    """
    _check_count(len(data.views), MIN_VIEWS + 1)
    full = full or solve_hand_eye(*data)
    answers = []
    for i, view in enumerate(data.views):
        left_out = np.arange(len(data.views)) == i
        without = solve_hand_eye(*data.of(~left_out))
        error = pose_error(without.T_parent_camera, full.T_parent_camera)
        rms = _view_errors(without, data.of(left_out))[0]
        answers.append(LeftOut(view.name, float(rms), float(error.translation), float(error.rotation)))
    return answers


@dataclass(frozen=True, eq=False)
class Judged:
    """A calibration, and what made it: the arm as modelled, or its geometry learnt along.

    Attributes:
        result: The better of both by views left out.
        modelled_px: Held-out error with the arm as modelled; None with too few views to tell.
        learnt_px: The same with its geometry learnt and corrected.
    """

    result: HandEyeResult
    modelled_px: float | None = None
    learnt_px: float | None = None

    @property
    def learnt(self) -> bool:
        """Whether the arm's geometry was learnt too."""
        return len(self.result.arm_correction) > 0


def solve_by_held_out(
    data: HandEyeData, arm_errors: FloatArray, plain: HandEyeResult | None = None
) -> Judged:
    """Calibrate with the arm's geometry learnt where views left out say that it helps.

    A camera that rides on the flange sees what rides on it too without the arm in between, so there the
    true place is wanted. A fixed camera is wanted where the arm's model, right or wrong, meets it: with
    `eye_to_hand` both errors are told, and the model stays. Any gain decides: on synthetic arms whose
    errors are pure noise, learning costs 4 % of accuracy at most, as the sizes to learn come out as nothing.

    Args:
        data: The n views and their poses.
        arm_errors: From `arm_errors.geometry_errors` (n, 6, m).
        plain: The calibration with the arm as modelled, where it is at hand.

    Raises:
        CalibrationError: As `solve_hand_eye`.
    """
    plain = plain or solve_hand_eye(*data)
    try:
        modelled_px, learnt_px = held_out_px(data), held_out_px(data, arm_errors)
    except CalibrationError:  # too few views, or too few without a fifth: nobody to ask
        return Judged(plain)
    if data.mounting == "eye_in_hand" and learnt_px < modelled_px:
        return Judged(solve_hand_eye(*data, arm_errors=arm_errors), modelled_px, learnt_px)
    return Judged(plain, modelled_px, learnt_px)


def held_out_px(data: HandEyeData, arm_errors: FloatArray | None = None) -> float:
    """Return the median error [px] of views that were left out by fifths.

    Called with and without `arm_errors` it decides whether the arm's geometry is worth correcting.

    Args:
        data: The n views and their poses.
        arm_errors: (n, 6, m) to learn the arm's geometry too and to correct the left-out poses by it.

    Raises:
        CalibrationError: Too few views to spare a fifth.
    """
    n = len(data.views)
    _check_count(n - -(-n // FOLDS), MIN_VIEWS)
    errors = []
    for fold in range(FOLDS):
        # Every fifth view, not a fifth in a row: a person moves on from one part of the image to the next.
        held = np.arange(n) % FOLDS == fold
        learnt, applied = (None, None) if arm_errors is None else (arm_errors[~held], arm_errors[held])
        without = solve_hand_eye(*data.of(~held), arm_errors=learnt)
        errors.append(_view_errors(without, data.of(held), applied))
    return float(np.median(np.concatenate(errors)))


def _view_errors(
    result: HandEyeResult, data: HandEyeData, arm_errors: FloatArray | None = None
) -> FloatArray:
    corners, boards = Corners.of(data.views), result.board_in_camera(data.flange_poses, arm_errors)
    return view_rms(corners, residuals(corners, data.camera, boards))


def _check_count(count: int, minimum: int) -> None:
    if count < minimum:
        raise CalibrationError(f"held-out views: {count} would be left to calibrate with, expected {minimum}")
