"""What is wrong when robot and pictures contradict each other: the usual mistakes, tried one by one.

A camera on a rigid mount turns by the same angle as its arm, whatever the mount; so most mistakes
(units, joint order, pictures of other poses) are named before anything is calibrated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.robot import Robot
from tacit.geometry.transforms import FloatArray, invert
from tacit_calibration.detection import View
from tacit_calibration.estimation.board_pose import Corners, board_poses, residuals, view_rms
from tacit_calibration.estimation.closed_form import (
    ClosedForm,
    angle_disagreement,
    motions,
    solve_closed_form,
)
from tacit_calibration.estimation.degeneracy import Mounting, carrier_poses
from tacit_calibration.estimation.mixups import named_mixup

MAX_PNP_PX = 3.0
"""A sharp board fits within .5 px; 3 px is another lens, another image size, or another board."""
MAX_TURN = np.deg2rad(2.0)
"""Arms repeat within .1 deg and a board is seen within .5 deg: 2 deg is a mistake."""
EXPLAINED = 0.25
"""An explanation is named when it leaves less than a quarter of the contradiction."""
MIN_CONTRADICTION_M, MAX_CONTRADICTION_M = 5e-3, 30e-3
"""Below 5 mm there is nothing to explain; beyond 30 mm there is nothing to calibrate."""
MIN_SCALE_ERROR, SCALE_SIGMAS = 0.02, 6.0
"""Printers are off by less than 1 %; a wrong --square-mm by more than 2."""
MILLIMETRE_FACTOR = 50.0
MAX_PERMUTED_JOINTS = 6
"""All 720 orders of six joints take a second; of seven, ten."""


def check_agreement(
    flange_poses: FloatArray, boards: FloatArray, views: Sequence[View], camera: Camera, mounting: Mounting
) -> ClosedForm:
    """Return the closed form; refuse data that contradict each other, and name the likely mistake.

    Args:
        flange_poses: T_base_flange (n, 4, 4).
        boards: T_camera_board (n, 4, 4) of each picture alone.
        views: The pictures.
        camera: The lens.
        mounting: What the caller believes.

    Raises:
        CalibrationError: Mirrored board, another lens, poses of other pictures, wrong joints, swapped
            frames, or a wrong square size.
    """
    check_side(boards)
    _check_lens(boards, views, camera)
    carrier = carrier_poses(flange_poses, mounting)
    _check_turns(flange_poses, boards, [view.name for view in views], mounting)
    given = solve_closed_form(carrier, boards)
    if given.typical > MIN_CONTRADICTION_M:
        _check_not_swapped(carrier, boards, given, mounting)
    _check_scale(carrier, boards, given)
    if given.typical > MAX_CONTRADICTION_M:
        raise CalibrationError(
            f"robot and pictures contradict each other by {1e3 * given.typical:.0f} mm; do both belong to "
            "the same arm and moment, are joints in order, did the board stay?"
        )
    return given


def check_side(boards: FloatArray) -> None:
    """Refuse boards T_camera_board (n, 4, 4) that are seen from behind, as a mirrored picture looks.

    Raises:
        CalibrationError: Most pictures are mirrored.
    """
    towards = np.einsum("ni,ni->n", boards[:, :3, 2], boards[:, :3, 3])
    if np.mean(towards < 0) > 0.5:
        raise CalibrationError(
            "mirrored board: the corners lie as if seen from behind; does the driver flip the image, was "
            "the board printed mirrored, or are points given with z out of the board (expected into it)?"
        )


def explain_joints(
    robot: Robot, joints: FloatArray, views: Sequence[View], camera: Camera, mounting: Mounting
) -> str | None:
    """Return which mistake in the joints explains that robot and pictures contradict, if any does.

    Args:
        robot: The arm.
        joints: Joints (n, num_joints) as given, in the robot's order [rad].
        views: The pictures taken there.
        camera: The lens.
        mounting: Where the camera sits.

    Returns:
        A sentence, or None when the joints are fine or no usual mistake explains them.
    """
    boards = board_poses(views, camera)
    joints = np.asarray(joints, dtype=np.float64)
    given = _contradiction(robot, joints, boards, mounting)
    if given < MIN_CONTRADICTION_M:
        return None
    # Turns sort most candidates out quickly; joints with parallel axes differ in place alone.
    found = [
        (_contradiction(robot, candidate, boards, mounting), name)
        for name, candidate in _joint_mistakes(robot, joints)
        if np.median(angle_disagreement(robot.forward_batch(candidate), boards)) < MAX_TURN
    ]
    if not found or min(found)[0] > EXPLAINED * min(given, MAX_CONTRADICTION_M):
        return None
    left, name = min(found)
    agreed = f"agree within {1e3 * left:.1f} mm instead of {1e3 * given:.0f}"
    return f"joints: {name}; then robot and pictures {agreed}"


def _joint_mistakes(robot: Robot, joints: FloatArray) -> Iterator[tuple[str, FloatArray]]:
    names = robot.chain.names
    yield "they are in degrees, expected radians", np.deg2rad(joints)
    yield "they are in degrees and in reverse order", np.deg2rad(joints[:, ::-1])
    for i, name in enumerate(names):
        yield f"{name} has the wrong sign", joints * np.where(np.arange(len(names)) == i, -1.0, 1.0)
    if len(names) <= MAX_PERMUTED_JOINTS:
        for order in itertools.permutations(range(len(names))):
            listed = ", ".join(names[i] for i in np.argsort(order))
            yield f"wrong order, they look like {listed}", joints[:, order]


def _contradiction(robot: Robot, joints: FloatArray, boards: FloatArray, mounting: Mounting) -> float:
    return solve_closed_form(carrier_poses(robot.forward_batch(joints), mounting), boards).typical


def _check_lens(boards: FloatArray, views: Sequence[View], camera: Camera) -> None:
    corners = Corners.of(views)
    error = float(np.median(view_rms(corners, residuals(corners, camera, boards))))
    if error > MAX_PNP_PX:
        raise CalibrationError(
            f"the lens does not fit the pictures: single boards miss by {error:.1f} px, expected below 1; "
            "K and D must be those of this camera at this image size, and the board the printed one"
        )


def _check_turns(flange: FloatArray, boards: FloatArray, names: Sequence[str], mounting: Mounting) -> None:
    error = float(np.median(angle_disagreement(flange, boards)))  # inverted poses turn by the same angles
    if error < MAX_TURN:
        return
    mixup = named_mixup(flange, boards, names, mounting)
    if mixup is not None:
        raise CalibrationError(mixup)
    raise CalibrationError(
        f"robot and camera turn by different angles, {np.rad2deg(error):.0f} deg apart, expected below "
        f"{np.rad2deg(MAX_TURN):.0f}: joints in degrees, in another order or with another sign, another "
        "arm's model, poses of a frame that does not turn with the flange, or pictures that do not belong "
        "to the poses (another order)"
    )


def _check_not_swapped(
    carrier: FloatArray, boards: FloatArray, given: ClosedForm, mounting: Mounting
) -> None:
    swapped = solve_closed_form(invert(carrier), boards)
    if swapped.typical < EXPLAINED * given.typical:
        other = "eye_to_hand" if mounting == "eye_in_hand" else "eye_in_hand"
        raise CalibrationError(
            f"swapped frames: with inverted robot poses views agree within {1e3 * swapped.typical:.1f} mm "
            f"instead of {1e3 * given.typical:.0f} mm; T_flange_base was given for T_base_flange, or the "
            f"camera is {other} and not {mounting}"
        )


def _check_scale(carrier: FloatArray, boards: FloatArray, given: ClosedForm) -> None:
    scale, sigma = board_scale(carrier, boards, given)
    if abs(scale - 1) < max(MIN_SCALE_ERROR, SCALE_SIGMAS * sigma):
        return
    if not 1 / MILLIMETRE_FACTOR < scale < MILLIMETRE_FACTOR:
        raise CalibrationError(
            f"wrong units: robot and board differ by a factor of {scale:.4g}; both in metres? "
            "(--square-mm and --marker-mm are millimetres, DH rows and URDF metres)"
        )
    raise CalibrationError(
        f"wrong square size: by the arm's moves the squares are {scale:.3f} +- {sigma:.3f} times as large as "
        "given; measure them and set --square-mm and --marker-mm (or arm model or fx are off by as much)"
    )


def board_scale(carrier: FloatArray, boards: FloatArray, given: ClosedForm) -> tuple[float, float]:
    """Return how many times larger the board is than given, and the standard deviation of that.

    Solves (R_A - I) t_X = s R_X t_B' - t_A for t_X and s over pairs of views that agree.
    """
    # Views that contradict the rest would decide the scale: it is a least-squares answer.
    agreeing = given.disagreement <= 3 * given.typical
    a, b = motions(carrier[agreeing], boards[agreeing])
    seen = b[:, :3, 3] @ given.X[:3, :3].T
    left = np.concatenate([(a[:, :3, :3] - np.eye(3)).reshape(-1, 3), -seen.reshape(-1, 1)], axis=1)
    right = -a[:, :3, 3].ravel()
    solution, *_ = np.linalg.lstsq(left, right, rcond=None)
    # Pairs share their views: n views carry 3 (n - 1) numbers, not 3 n (n - 1) / 2.
    freedom = max(3 * (np.count_nonzero(agreeing) - 1) - 4, 1)
    copies = len(right) / (3 * (np.count_nonzero(agreeing) - 1))
    variance = np.sum((left @ solution - right) ** 2) / copies / freedom
    covariance = variance * copies * np.linalg.inv(left.T @ left)
    return float(solution[3]), float(np.sqrt(covariance[3, 3]))
