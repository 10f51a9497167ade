"""Where arms, boards and fixed cameras stand to each other, each with its covariance.

Two arms meet through something both know: a board that lies still before both wrist cameras, or a
fixed camera that saw a board on either flange. `hand_eye` gives both poses; here they are chained.
"""

from __future__ import annotations

from tacit.errors import CalibrationError
from tacit_calibration.estimation.increments import UncertainPose
from tacit_calibration.hand_eye import HandEyeResult


def base_to_base(first: HandEyeResult, second: HandEyeResult) -> UncertainPose:
    """Return T_base1_base2 of two arms that were calibrated with one thing in common.

    Args:
        first: Result of the first arm. Eye in hand: its camera saw the board; eye to hand: it carried one.
        second: Result of the second arm, the same way: the same board, not moved in between, or the
            same fixed camera.

    Raises:
        CalibrationError: One was eye in hand and the other eye to hand.
    """
    if first.mounting != second.mounting:
        raise CalibrationError(
            f"base to base: the first arm was calibrated {first.mounting}, the second {second.mounting}; "
            "expected one still board before both wrist cameras, or one fixed camera for both"
        )
    if first.mounting == "eye_in_hand":
        return first.board_pose @ second.board_pose.inverse()
    return first.camera_pose @ second.camera_pose.inverse()
