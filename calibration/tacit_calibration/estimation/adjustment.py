"""The adjustment behind `hand_eye`: camera, board and one correction of each robot pose, estimated together.

Robots err by more in some poses than a normal distribution has it: far out, near a singularity, after
another approach. So errors are taken from a Student t distribution: a view that misses by more than the
others do counts less (Lange et al. 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, invert
from tacit_calibration.detection import View
from tacit_calibration.estimation.board_pose import Corners, board_poses, linearise, residuals, view_rms
from tacit_calibration.estimation.closed_form import ClosedForm
from tacit_calibration.estimation.degeneracy import MIN_VIEWS, Mounting
from tacit_calibration.estimation.increments import adjoint, increment_of, small_pose
from tacit_calibration.estimation.noise import LinearViews, NoiseScale, Posterior, infer, misfit, surprise
from tacit_calibration.estimation.unsure import answers

FLOOR_PX = 0.05
"""No detector is better; exact synthetic corners would otherwise divide by zero."""
DRAWN_PX = FLOOR_PX * 2.0 ** np.arange(6)
"""Noise of corners that were drawn where pairs of poses put the board: these fit exactly and tell nothing of
it, but a plane that is seen flat tips and nears more than it turns and shifts, which the robot does not."""
MAX_ROUNDS, SETTLED, NEAR = 20, 0.03, 0.3
"""Steps, in standard deviations of what is estimated: below 3 % it is done; below 30 % noise sizes no longer
change their grid."""
FREEDOM = 4.0
"""Of the t distribution: the usual value where it is not estimated; costs 2 % where errors are normal."""
MAX_SURPRISE = 150.0
"""Misfit, as chi-square with 6 degrees, of a view that does not belong here: once in a thousand views whose
errors are such a t distribution, once in 1e29 where they are normal. Exchanged pictures miss by more."""
MAX_DROPPED = 0.4
"""When more views contradict, nobody can say which half is right."""
START_FACTOR = 4.0
"""The first fit leaves out views beyond four times the median error; those that agree come back."""
NUMBERS = 6
"""A view measures where its board is and how it is turned."""


@dataclass(frozen=True, eq=False)
class Adjustment:
    """The data, and the current estimate of camera X, board B and each robot pose's correction.

    Attributes:
        G: T_base_flange (n, 4, 4), ending in what the robot carries.
        X: T_parent_camera (4, 4).
        B: T_anchor_board (4, 4).
        corrections: Errors (n, 6) of the robot poses, as increments.
        modes: How an error of the arm moves each robot pose (n, 6, m).
        used: Mask (n,) of the views that agree.
        weights: How much each view (n,) counts; 1 is what its noise says.
        corners: Of the n views.
        camera: The lens.
        mounting: Where the camera sits.
        drawn_px: Noise of corners that were drawn and not found.
    """

    G: FloatArray
    X: FloatArray
    B: FloatArray
    corrections: FloatArray
    modes: FloatArray
    used: NDArray[np.bool_]
    weights: FloatArray
    corners: Corners
    camera: Camera
    mounting: Mounting
    drawn_px: float = FLOOR_PX

    @classmethod
    def start(
        cls,
        G: FloatArray,
        views: Sequence[View],
        camera: Camera,
        mounting: Mounting,
        first: ClosedForm,
        boards: FloatArray,
    ) -> Adjustment:
        """Start at the closed form; each correction is what makes its own picture fit."""
        corners, n = Corners.of(views), len(G)
        rest = np.zeros((n, 6)), np.zeros((n, 6, 0)), np.ones(n, dtype=bool), np.ones(n)
        problem = cls(G, first.X, first.B, *rest, corners, camera, mounting)
        # A board that the closed form puts behind the camera says nothing of which side is meant.
        guess = problem.poses()
        guess = np.where((guess[:, 2, 3] > 0)[:, None, None], guess, boards)
        boards = board_poses(views, camera, near=guess)
        error = view_rms(corners, problem.uncorrected())
        used = error <= START_FACTOR * np.median(error) + FLOOR_PX
        return replace(problem, corrections=problem.corrections_to(boards), used=used)

    def poses(self) -> FloatArray:
        """Return T_camera_board (n, 4, 4) as estimated."""
        return invert(self.X) @ self._board_in_parent()

    def corrections_to(self, boards: FloatArray) -> FloatArray:
        """Return the corrections (n, 6) that put the board exactly at T_camera_board (n, 4, 4)."""
        if self.mounting == "eye_in_hand":
            return increment_of(invert(self.G) @ self.B @ invert(self.X @ boards))
        return increment_of(invert(self.G) @ self.X @ boards @ invert(self.B))

    def uncorrected(self, arm_correction: FloatArray | None = None) -> FloatArray:
        """Return residuals (M, 2) [px] with the robot poses as measured, of an arm that may be learnt."""
        learnt = np.zeros_like(self.corrections) if arm_correction is None else self.modes @ arm_correction
        return residuals(self.corners, self.camera, replace(self, corrections=learnt).poses())

    def linearised(self) -> tuple[LinearViews, float]:
        """Return the views around the current estimate, and the pixel noise that no pose explains."""
        poses = self.poses()
        found = linearise(self.corners, self.camera, poses)
        used = self.used
        freedom = np.sum(2 * self.corners.counts[used] - 6)
        pixel = max(float(np.sqrt(max(found.remaining[used].sum(), 0.0) / freedom)), self.drawn_px)
        lever = self._lever()
        y = found.minimum + (lever @ self.corrections[..., None])[..., 0]
        # Moving the camera moves the board in its picture the other way: hence the minus.
        by_board = np.broadcast_to(np.eye(6), lever.shape)
        design = np.concatenate([-adjoint(invert(poses)), by_board, lever @ self.modes], axis=-1)
        return LinearViews(y, pixel**2 * found.covariance, design, lever, self.modes.shape[-1]), pixel

    def solved(self, fixed_noise: NoiseScale | None) -> tuple[Adjustment, Posterior]:
        """Return the optimum over the views in use."""
        problem, near = self._with_noise_of_drawn(fixed_noise), None
        for _ in range(MAX_ROUNDS):
            linear, pixel = problem.linearised()
            posterior = infer(problem.counted(linear), pixel, fixed_noise, near)
            problem = problem.moved(linear, posterior)
            largest = np.abs(posterior.mean[:12] / np.sqrt(np.diag(posterior.covariance)[:12])).max()
            if largest < SETTLED:
                break
            near = posterior if largest < NEAR else None
        return problem, posterior

    def counted(self, linear: LinearViews) -> LinearViews:
        """Return the views in use, each as unsure as its weight says."""
        return linear.counting(self.weights).of(self.used)

    def moved(self, linear: LinearViews, posterior: Posterior) -> Adjustment:
        """Return the problem at the estimate that its views lead to, weighed by how far they miss it."""
        step, shared, used = posterior.mean[:12], posterior.mean[12:], self.used
        corrections = self.corrections.copy()
        own = posterior.corrections / np.sqrt(self.weights[used])[:, None]
        corrections[used] = own + self.modes[used] @ shared
        X, B = self.X @ small_pose(step[:6]), self.B @ small_pose(step[6:12])
        weights = (FREEDOM + NUMBERS) / (FREEDOM + misfit(linear, posterior))
        return replace(self, X=X, B=B, corrections=corrections, weights=weights)

    def _with_noise_of_drawn(self, fixed_noise: NoiseScale | None) -> Adjustment:
        """Return the problem with the noise that explains drawn corners best."""
        linear, pixel = self.linearised()
        if pixel > self.drawn_px:
            return self
        linear, likelihood = self.counted(linear), []
        for size in DRAWN_PX:
            scaled = linear._replace(pixel_covariance=(size / pixel) ** 2 * linear.pixel_covariance)
            likelihood.append(infer(scaled, size, fixed_noise).likelihood)
        return replace(self, drawn_px=float(DRAWN_PX[np.argmax(likelihood)]))

    def settled(self, fixed_noise: NoiseScale | None) -> tuple[Adjustment, Posterior]:
        """Return the optimum over all views that agree: a view joins or leaves by its surprise."""
        problem, seen = self, set()
        # Views may leave and come back; a set that was tried before ends it, so it cannot swing for ever.
        while True:
            problem, posterior = problem.solved(fixed_noise)
            seen.add(problem.used.tobytes())
            linear, _ = problem.linearised()
            used = surprise(linear, posterior, problem.used) < MAX_SURPRISE
            _check_kept(used, problem)
            if used.tobytes() in seen:
                return problem, posterior
            problem = replace(problem, used=used)

    def answers(self) -> FloatArray:
        """Return how the boards found (n, 6, 4) answer errors of lens and board, see `unsure.answers`."""
        return answers(self.corners, self.camera, self.poses())

    def _board_in_parent(self) -> FloatArray:
        robot = self.G @ small_pose(self.corrections)
        return (invert(robot) if self.mounting == "eye_in_hand" else robot) @ self.B

    def _lever(self) -> FloatArray:
        """Return how an increment of a correction moves the board's increment (n, 6, 6)."""
        if self.mounting == "eye_in_hand":
            return -adjoint(invert(self._board_in_parent()))
        return np.broadcast_to(adjoint(invert(self.B)), (len(self.G), 6, 6))


def _check_kept(used: NDArray[np.bool_], problem: Adjustment) -> None:
    if used.sum() < max(MIN_VIEWS - 2, (1 - MAX_DROPPED) * len(used)):
        raise CalibrationError(
            f"{np.count_nonzero(~used)} of {len(used)} views contradict the rest; did the board or its "
            "holder move, were pictures taken while the arm moved, or do joints belong to other pictures?"
        )
