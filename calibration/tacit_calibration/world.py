"""Where arms, boards and fixed cameras stand to each other, each with its covariance.

Two arms meet through something both know: a board that lies still before both wrist cameras, or a
fixed camera that saw a board on either flange. `hand_eye` gives both poses; here they are chained.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, invert, pose_error
from tacit_calibration.detection import View
from tacit_calibration.estimation.board_pose import Corners, board_poses, linearise, residuals, view_rms
from tacit_calibration.estimation.degeneracy import check_poses, check_views
from tacit_calibration.estimation.increments import UncertainPose, adjoint, increment_of, small_pose
from tacit_calibration.estimation.noise import LinearViews, NoiseScale, infer
from tacit_calibration.hand_eye import HandEyeResult

MIN_BOARD_VIEWS = 3
MAX_ROUNDS, SETTLED = 10, 1e-9
FLOOR_PX = 0.05
MAX_BOARD_PX = 5.0
"""Beyond this a single picture of a board is not that board, or not that lens."""
DISAGREE = 30.0
"""Chi-square with 6 degrees exceeds 30 once in 25,000."""


def base_to_base(first: HandEyeResult, second: HandEyeResult) -> UncertainPose:
    """Return T_base1_base2 of two arms that were calibrated with one thing in common.

    Args:
        first: Of the first arm. Eye in hand: its camera saw the board; eye to hand: it carried a board.
        second: Of the second arm, the same way: the same board, not moved between the two, or the
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


def locate_board(
    flange_poses: FloatArray, views: Sequence[View], camera: Camera, T_flange_camera: UncertainPose
) -> UncertainPose:
    """Return T_base_board of a still board, seen by a wrist camera that is already calibrated.

    Args:
        flange_poses: T_base_flange (n, 4, 4), three or more.
        views: The n views taken there.
        camera: The lens.
        T_flange_camera: From hand-eye calibration; its covariance is carried on.

    Raises:
        CalibrationError: Too few views, or a pose that is not rigid.
    """
    G = check_poses(flange_poses, [view.name for view in views])
    check_views(views, len(G), MIN_BOARD_VIEWS)
    corners, X = Corners.of(views), T_flange_camera.T
    B = _middle(G @ X @ board_poses(views, camera))
    corrections = np.zeros((len(G), 6))
    for _ in range(MAX_ROUNDS):
        on_flange = invert(G @ small_pose(corrections)) @ B
        poses = invert(X) @ on_flange
        found = linearise(corners, camera, poses)
        freedom = np.sum(2 * corners.counts - 6)
        pixel = max(float(np.sqrt(found.remaining.sum() / freedom)), FLOOR_PX)
        lever = -adjoint(invert(on_flange))
        y = found.minimum + (lever @ corrections[..., None])[..., 0]
        by_board = np.broadcast_to(np.eye(6), lever.shape).copy()
        linear = LinearViews(y, pixel**2 * found.covariance, by_board, lever)
        posterior = infer(linear, pixel)
        B, corrections = B @ small_pose(posterior.mean), posterior.corrections
        if np.abs(posterior.mean).max() < SETTLED:
            break
    by_camera = -adjoint(invert(poses))
    carried = _carried(linear, posterior.noise, by_camera)
    return UncertainPose(B, posterior.covariance + carried @ T_flange_camera.covariance @ carried.T)


def locate_camera(views: Sequence[View], camera: Camera, T_world_board: UncertainPose) -> UncertainPose:
    """Return T_world_camera of a fixed camera from pictures of a board whose place is known.

    Args:
        views: One or more pictures taken while neither moved.
        camera: The lens.
        T_world_board: The board.

    Raises:
        CalibrationError: No view, or one that does not fit the lens.
    """
    check_views(views, len(views), 1)
    corners = Corners.of(views)
    pose = _middle(board_poses(views, camera))
    for _ in range(MAX_ROUNDS):
        found = linearise(corners, camera, np.broadcast_to(pose, (len(views), 4, 4)))
        information = found.information.sum(axis=0)
        step = -np.linalg.solve(information, found.gradient.sum(axis=0))
        pose = pose @ small_pose(step)
        if np.abs(step).max() < SETTLED:
            break
    error = residuals(corners, camera, np.broadcast_to(pose, (len(views), 4, 4)))
    worst = view_rms(corners, error)
    if worst.max() > MAX_BOARD_PX:
        name = views[int(worst.argmax())].name
        raise CalibrationError(
            f"{name}: the board misses by {worst.max():.1f} px; did camera or board move between pictures, "
            "or is this another board or lens?"
        )
    pixel = max(float(np.sqrt(np.sum(error**2) / (error.size - 6))), FLOOR_PX)
    seen = UncertainPose(pose, pixel**2 * np.linalg.inv(information))
    return T_world_board @ seen.inverse()


def disagreement(first: UncertainPose, second: UncertainPose) -> float:
    """Return how far two independent estimates of one pose lie apart: chi-square with 6 degrees.

    About 6 when both are honest; beyond 30 something moved, or one of them is wrong.
    """
    apart = increment_of(invert(first.T) @ second.T)
    back = adjoint(invert(first.T) @ second.T)
    spread = first.covariance + back @ second.covariance @ back.T
    return float(apart @ np.linalg.solve(spread, apart))


def combine(poses: Sequence[UncertainPose]) -> UncertainPose:
    """Return the weighted mean of independent estimates of one pose.

    Raises:
        CalibrationError: Two of them contradict each other.
    """
    total = poses[0]
    for i, pose in enumerate(poses[1:], start=2):
        chi_square = disagreement(total, pose)
        if chi_square > DISAGREE:
            error = pose_error(total.T, pose.T)
            raise CalibrationError(
                f"estimate {i} contradicts the others by {1e3 * error.translation:.1f} mm and "
                f"{np.rad2deg(error.rotation):.2f} deg (chi-square {chi_square:.0f}); did something move?"
            )
        apart = increment_of(invert(total.T) @ pose.T)
        back = adjoint(invert(total.T) @ pose.T)
        other = back @ pose.covariance @ back.T
        gain = total.covariance @ np.linalg.inv(total.covariance + other)
        mean, covariance = gain @ apart, total.covariance - gain @ total.covariance
        total = UncertainPose(total.T @ small_pose(mean), (covariance + covariance.T) / 2)
    return total


def _carried(linear: LinearViews, noise: NoiseScale, by_camera: FloatArray) -> FloatArray:
    """Return how an error of the camera's pose (6,) moves the estimated board (6, 6)."""
    weight = np.linalg.inv(linear.covariance(noise))
    return -np.linalg.solve(weight.sum(axis=0), (weight @ by_camera).sum(axis=0))


def _middle(poses: FloatArray) -> FloatArray:
    """Return the pose (4, 4) of n with the least median distance to the others."""
    error = pose_error(poses[:, None], poses[None])
    return poses[int(np.argmin(np.median(error.translation + error.rotation, axis=1)))]
