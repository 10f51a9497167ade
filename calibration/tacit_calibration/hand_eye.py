"""Where a camera sits: hand-eye calibration with the robot's own error in the model.

Maximum a posteriori over the camera pose X, the board pose B and a small correction of every robot
pose, with the sizes of pixel and robot noise estimated from the data (`noise`). Closed-form solvers
(`closed_form`) blame the camera for what the robot does; bundle adjustment with a perfect robot does
so even more. Views that contradict the rest are left out and named.

The robot's errors are turns and shifts of what it carries, about the camera (eye in hand) or the board
(eye to hand). Not about the origin of the poses: a tool frame may lie anywhere, and a turn about a point
half a metre away also shifts the camera by millimetres, so that wrong turns would explain shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import from_rotation, invert
from tacit_calibration.detection import View
from tacit_calibration.estimation.adjustment import Adjustment
from tacit_calibration.estimation.arm_errors import SmoothErrors
from tacit_calibration.estimation.board_pose import (
    board_poses,
    rms,
    view_rms,
)
from tacit_calibration.estimation.closed_form import ClosedForm
from tacit_calibration.estimation.degeneracy import (
    MIN_VIEWS,
    Mounting,
    carrier_poses,
    check_poses,
    check_views,
    motion_warnings,
)
from tacit_calibration.estimation.diagnosis import check_agreement
from tacit_calibration.estimation.increments import (
    FloatArray,
    UncertainPose,
    adjoint,
    small_pose,
)
from tacit_calibration.estimation.noise import NoiseScale, Posterior, infer
from tacit_calibration.estimation.unsure import EXACT, Unsure, size_by_moves, widened

__all__ = ["HandEyeResult", "Mounting", "NoiseScale", "solve_hand_eye"]

UNSURE = np.deg2rad(0.5), 3e-3
"""Standard deviations [rad, m] of the camera: either moves a box .3 m away by some 5 px at f = 600 px."""
MAX_NOISE, POOR_NOISE = (np.deg2rad(1.5), 6e-3), (np.deg2rad(0.5), 2e-3)
"""Robot errors [rad, m] per axis that no arm has, and that a poor arm has."""


class HandEyeData(NamedTuple):
    """What a camera pose is computed from; `solve_hand_eye(*data)` computes it.

    Attributes:
        flange_poses: T_base_flange (n, 4, 4) of each view, from measured joints.
        views: n views of the board.
        camera: The calibrated lens.
        mounting: Where the camera sits.
        unsure: How well lens and board are known.
    """

    flange_poses: FloatArray
    views: Sequence[View]
    camera: Camera
    mounting: Mounting
    unsure: Unsure = EXACT

    def of(self, chosen: NDArray[np.bool_]) -> HandEyeData:
        """Return the views that a mask (n,) chooses."""
        views = [view for view, is_chosen in zip(self.views, chosen, strict=True) if is_chosen]
        return self._replace(flange_poses=np.asarray(self.flange_poses)[chosen], views=views)


@dataclass(frozen=True, eq=False)
class HandEyeResult:
    """A camera pose and how far to trust it.

    Attributes:
        T_parent_camera: In the flange (eye in hand) or in the base (eye to hand), (4, 4).
        T_anchor_board: The board in the base (eye in hand) or on the flange (eye to hand), (4, 4).
        covariance: Covariance of the local increments of camera and board (12, 12), [rad, m] each.
        noise: Estimated sizes of pixel and robot noise.
        rms_px: Error with the measured robot poses [px]: what an overlay will show. Poses are corrected
            by what was learnt of the arm, where that was asked for, and by nothing else.
        view_rms_px: The same for each view (n,), left out or not.
        used: Mask (n,) of the views that agree with each other.
        names: Names of the n views.
        residuals_px: Projected minus found corners of each view, as in `rms_px` (N, 2).
        mounting: Where the camera sits.
        arm_correction: Estimated errors of the arm's geometry (m,), empty when they were not asked for.
        smooth: How `arm_correction` follows from poses, where it was learnt from them and not from joints.
        likelihood: Logarithm of how likely these views are, with the robot's errors at their likeliest size.
        size: How many times larger than given the board is by the robot's moves.
        size_sigma: Its standard deviation.
        warnings: What makes the result weaker than its numbers say.
    """

    T_parent_camera: FloatArray
    T_anchor_board: FloatArray
    covariance: FloatArray
    noise: NoiseScale
    rms_px: float
    view_rms_px: FloatArray
    used: NDArray[np.bool_]
    names: tuple[str, ...]
    residuals_px: tuple[FloatArray, ...]
    mounting: Mounting
    arm_correction: FloatArray
    smooth: SmoothErrors | None = None
    likelihood: float = 0.0
    size: float = 1.0
    size_sigma: float = np.inf
    warnings: tuple[str, ...] = ()

    @property
    def camera_pose(self) -> UncertainPose:
        """The camera in its parent, with its covariance."""
        return UncertainPose(self.T_parent_camera, self.covariance[:6, :6])

    @property
    def board_pose(self) -> UncertainPose:
        """The board in its anchor, with its covariance."""
        return UncertainPose(self.T_anchor_board, self.covariance[6:12, 6:12])

    def board_in_camera(self, flange_poses: FloatArray, arm_errors: FloatArray | None = None) -> FloatArray:
        """Return T_camera_board (n, 4, 4) at other robot poses, for pictures that were not used.

        Args:
            flange_poses: T_base_flange (n, 4, 4).
            arm_errors: (n, 6, m) to correct them by what was learnt of the arm's joints. Left out: as
                measured, or corrected by what was learnt from poses.
        """
        if arm_errors is None and self.smooth is not None:
            arm_errors = self.smooth.at(flange_poses)
        if arm_errors is not None:
            flange_poses = flange_poses @ small_pose(arm_errors @ self.arm_correction)
        carrier = carrier_poses(flange_poses, self.mounting)
        return invert(carrier @ self.T_parent_camera) @ self.T_anchor_board

    @property
    def dropped(self) -> dict[str, float]:
        """{name: RMS px} of views that contradict the others."""
        rows = zip(self.names, self.view_rms_px, self.used, strict=True)
        return {name: float(error) for name, error, used in rows if not used}


def solve_hand_eye(
    flange_poses: FloatArray,
    views: Sequence[View],
    camera: Camera,
    mounting: Mounting,
    unsure: Unsure = EXACT,
    *,
    arm_errors: FloatArray | None = None,
    fixed_noise: NoiseScale | None = None,
    minimum: int = MIN_VIEWS,
) -> HandEyeResult:
    """Find the camera from views of a fixed (eye in hand) or carried (eye to hand) board.

    Args:
        flange_poses: T_base_flange (n, 4, 4) of each view, from measured joints.
        views: n views of the board.
        camera: The calibrated lens.
        mounting: Where the camera sits.
        unsure: How well lens and board are known; the covariance holds it.
        arm_errors: How errors of the arm's own geometry move the flange (n, 6, m), see
            `arm_errors.geometry_errors`: then they are estimated too, as far as the views show them.
        fixed_noise: Robot noise to assume, where it is known better than these views can tell.
        minimum: Fewest views to accept; lower only where others judge the answer (`held_out`).

    Raises:
        CalibrationError: Too few views, turns that do not determine the pose, or data that
            contradict each other; the message names the likely mistake.
    """
    G = check_poses(flange_poses, [view.name for view in views])
    check_views(views, len(G), minimum)
    warnings = motion_warnings(G)
    boards = board_poses(views, camera)
    first = check_agreement(G, boards, views, camera, mounting)
    pivot = _pivot(first, mounting)
    seen = _seen_from(pivot, first, mounting)
    problem = Adjustment.start(G @ pivot, views, camera, mounting, seen, boards)
    if arm_errors is not None:
        problem = replace(problem, modes=adjoint(invert(pivot)) @ np.asarray(arm_errors, np.float64))
    problem, posterior = problem.settled(fixed_noise)
    _check_noise(posterior.noise)
    found, pixel = problem.linearised()
    linear, effect = problem.counted(found), problem.answers()[problem.used]
    size = size_by_moves(linear, pixel, effect, fixed_noise)
    posterior = replace(posterior, covariance=widened(linear, posterior, effect, unsure))
    result = _result(problem, posterior, views, warnings + _warnings(posterior), pivot)
    # Views count alike here, or explanations that weigh them differently could not be compared.
    alike = infer(found.of(problem.used), pixel, fixed_noise, posterior).likelihood
    return replace(result, size=size[0], size_sigma=size[1], likelihood=alike)


def _pivot(first: ClosedForm, mounting: Mounting) -> FloatArray:
    """Return the shift (4, 4) from the poses' own origin to what the robot carries."""
    carried = first.X if mounting == "eye_in_hand" else first.B
    return from_rotation(np.eye(3), carried[:3, 3])


def _seen_from(pivot: FloatArray, first: ClosedForm, mounting: Mounting) -> ClosedForm:
    """Return the closed form for poses that end at the pivot."""
    if mounting == "eye_in_hand":
        return first._replace(X=invert(pivot) @ first.X)
    return first._replace(B=invert(pivot) @ first.B)


def _result(
    problem: Adjustment,
    posterior: Posterior,
    views: Sequence[View],
    warnings: tuple[str, ...],
    pivot: FloatArray,
) -> HandEyeResult:
    found = problem.uncorrected(posterior.mean[12:])
    split = np.split(found, np.cumsum(problem.corners.counts)[:-1])
    kept = found[problem.used[problem.corners.view]]
    in_hand = problem.mounting == "eye_in_hand"
    return HandEyeResult(
        T_parent_camera=pivot @ problem.X if in_hand else problem.X,
        T_anchor_board=problem.B if in_hand else pivot @ problem.B,
        covariance=posterior.covariance,
        noise=posterior.noise,
        rms_px=rms(kept),
        view_rms_px=view_rms(problem.corners, found),
        used=problem.used,
        names=tuple(view.name for view in views),
        residuals_px=tuple(split),
        mounting=problem.mounting,
        arm_correction=posterior.mean[12:],
        warnings=warnings,
    )


def _check_noise(noise: NoiseScale) -> None:
    """Refuse a robot that no arm can be."""
    if noise.rotation > MAX_NOISE[0] or noise.translation > MAX_NOISE[1]:
        raise CalibrationError(
            f"robot poses and pictures contradict each other by {noise}; did the board or its holder move "
            "half way, are stamps of joints and pictures apart, or is it another arm's model?"
        )


def _warnings(posterior: Posterior) -> tuple[str, ...]:
    found, noise = [], posterior.noise
    if noise.rotation > POOR_NOISE[0] or noise.translation > POOR_NOISE[1]:
        found.append(f"the robot's poses are off by {noise}; check its model, zero positions and time stamps")
    camera = UncertainPose(np.eye(4), posterior.covariance[:6, :6])
    turn, place = camera.sigma_rotation.max(), camera.sigma_translation.max()
    if turn > UNSURE[0] or place > UNSURE[1]:
        found.append(
            f"the camera is unsure by {np.rad2deg(turn):.2f} deg and {1e3 * place:.1f} mm along its worst "
            "axis; tilt and roll the flange further, to both sides, and take more pictures"
        )
    return tuple(found)
