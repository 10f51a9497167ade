"""Ways to calibrate a camera's place, each with its answer and its error on views that it did not see.

`held_out` chooses among them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray, invert
from tacit_calibration.estimation.arm_errors import SmoothErrors
from tacit_calibration.estimation.board_pose import Corners, board_poses, residuals, rms, view_rms
from tacit_calibration.estimation.degeneracy import carrier_poses
from tacit_calibration.estimation.increments import increment_of
from tacit_calibration.estimation.rigid import CLOSED_FORMS, RigidAnswer, adjusted, jackknife, park_martin
from tacit_calibration.hand_eye import HandEyeData, HandEyeResult, solve_hand_eye

FOLDS = 5
FEWEST = 6
"""Views that a fit on part of the data needs; fewer than a person may bring, since others judge it."""
MODELLED, LEARNT = "robot as reported", "arm's geometry learnt"
SMOOTH, SCALED = "smooth arm error learnt", "board size learnt"
ADJUSTED = "bundle adjustment"
SURE, CLEARLY = 3.0, 0.1
TINY = 1e-6
"""Errors of exact data must not become infinite when compared by their logarithm."""
UNKNOWN_SIZE = 0.1
"""Relative standard deviation of a board's size that only the arm's moves tell."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One way to calibrate, its answer from all views, and its error on views that it did not see.

    Attributes:
        name: What it does.
        X: T_parent_camera (4, 4) from all views.
        px: Error (n,) of each view while it was left out: RMS over its corners [px].
        mm: How far the middle of the board lies off then (n,) [mm].
        rigid: Whether it takes the robot as exact.
        sigma_m: Standard deviation of the camera's place by its own account [m].
    """

    name: str
    X: FloatArray
    px: FloatArray
    mm: FloatArray
    rigid: bool
    sigma_m: float

    @property
    def error(self) -> float:
        """One number to compare by: the geometric mean of the median pixels and millimetres."""
        return float(np.sqrt(np.median(self.px) * np.median(self.mm)))

    def gains(self, other: Trial) -> FloatArray:
        """Return the logarithm (n,) of how much smaller its errors are, view by view.

        Two errors of one view share what is hard about it, so their ratio is compared, not their size.
        """
        return np.log(other.px * other.mm) / 2 - np.log(self.px * self.mm) / 2

    def beats(self, other: Trial) -> bool:
        """Whether it is better by more than a tenth, and by more than the scatter from view to view."""
        ratio = self.gains(other)
        sigma = np.std(ratio, ddof=1) / np.sqrt(len(ratio))
        return bool(np.mean(ratio) > max(SURE * sigma, CLEARLY))


class Way(Protocol):
    """One way to calibrate some data."""

    @property
    def name(self) -> str:
        """What it does."""

    @property
    def data(self) -> HandEyeData:
        """What it calibrates."""

    def predict(self, held: NDArray[np.bool_]) -> tuple[HandEyeData, FloatArray]:
        """Calibrate without the views of a mask (n,); return those views and T_camera_board (k, 4, 4)."""

    def summed_up(self, px: FloatArray, mm: FloatArray) -> Trial:
        """Return the trial with these errors (n,) on views left out."""


def tried(way: Way) -> Trial:
    """Let views left out by fifths judge one way to calibrate.

    Raises:
        CalibrationError: Too few views to spare a fifth, or too few that agree without one.
    """
    n = len(way.data.views)
    px, mm = np.zeros(n), np.zeros(n)
    for held in folds(n):
        px[held], mm[held] = errors_of(*way.predict(held))
    return way.summed_up(px, mm)


@dataclass(frozen=True, eq=False)
class OwnWay:
    """To estimate the robot's error: as noise, and as what may be learnt along with the camera.

    Attributes:
        arm_errors: How the arm's geometry may be wrong (n, 6, m); None where that is not learnt.
        smooth: Whether an error is learnt that is smooth in the poses.
        scaled: Whether the board's size is learnt.
        plain: The calibration of all views, where it is at hand.
    """

    name: str
    data: HandEyeData
    arm_errors: FloatArray | None = None
    smooth: bool = False
    scaled: bool = False
    plain: HandEyeResult | None = None

    @property
    def learns(self) -> bool:
        """Whether it learns something of the arm."""
        return self.smooth or self.arm_errors is not None

    def predict(self, held: NDArray[np.bool_]) -> tuple[HandEyeData, FloatArray]:
        """Calibrate without the views of a mask (n,); return those views and T_camera_board (k, 4, 4)."""
        kept, asked = self.data.of(~held), self.data.of(held)
        if self.scaled:
            scale = solve_hand_eye(*kept, minimum=FEWEST).size
            kept, asked = _resized(kept, scale), _resized(asked, scale)
        errors = self._errors(kept)
        learnt = None if errors is None else errors(~held, kept.flange_poses)
        result = solve_hand_eye(*kept, arm_errors=learnt, minimum=FEWEST)
        applied = None if errors is None else errors(held, asked.flange_poses)
        return asked, result.board_in_camera(asked.flange_poses, applied)

    @functools.cached_property
    def result(self) -> HandEyeResult:
        """The calibration of all views."""
        if self.plain is not None:
            return self.plain
        data = _resized(self.data, solve_hand_eye(*self.data).size) if self.scaled else self.data
        if self.smooth:
            smooth = _smooth_errors(data)
            result = solve_hand_eye(*data, arm_errors=smooth.at(data.flange_poses))
            return replace(result, smooth=smooth)
        return solve_hand_eye(*data, arm_errors=self.arm_errors)

    def summed_up(self, px: FloatArray, mm: FloatArray) -> Trial:
        """Return the trial with these errors (n,) on views left out."""
        sigma = float(np.linalg.norm(self.result.camera_pose.sigma_translation))
        return Trial(self.name, self.result.T_parent_camera, px, mm, False, sigma)

    def _errors(self, kept: HandEyeData) -> Callable[[NDArray[np.bool_], FloatArray], FloatArray] | None:
        """Return what gives (n, 6, m) for views by mask and pose: by joints, else by poses, else nothing."""
        if self.smooth:
            smooth = _smooth_errors(kept)
            return lambda _, poses: smooth.at(poses)
        columns = self.arm_errors
        return None if columns is None else lambda chosen, _: columns[chosen]


@dataclass(frozen=True, eq=False)
class RigidWay:
    """To take the robot as exact: a closed form, or bundle adjustment."""

    name: str
    data: HandEyeData

    def predict(self, held: NDArray[np.bool_]) -> tuple[HandEyeData, FloatArray]:
        """Calibrate without the views of a mask (n,); return those views and T_camera_board (k, 4, 4)."""
        answer, asked = self._answer(self.data.of(~held)), self.data.of(held)
        carrier = carrier_poses(asked.flange_poses, asked.mounting)
        return asked, invert(carrier @ answer.X) @ answer.B

    def summed_up(self, px: FloatArray, mm: FloatArray) -> Trial:
        """Return the trial with these errors (n,) on views left out."""
        solve = CLOSED_FORMS.get(self.name, CLOSED_FORMS["Shah"])
        sigma = float(np.sqrt(jackknife(solve, *_seen(self.data)).sum()))
        return Trial(self.name, self._answer(self.data).X, px, mm, True, sigma)

    def result(self, ours: HandEyeResult) -> HandEyeResult:
        """Return the calibration of all views; its distance from ours is part of its uncertainty."""
        data, (X, B) = self.data, self._answer(self.data)
        shift = increment_of(invert(X) @ ours.T_parent_camera)
        covariance = ours.covariance.copy()
        covariance[:6, :6] += np.outer(shift, shift)
        found = replace(
            ours,
            T_parent_camera=X,
            T_anchor_board=B,
            covariance=covariance,
            arm_correction=np.zeros(0),
            smooth=None,
        )
        corners = Corners.of(data.views)
        off = residuals(corners, data.camera, found.board_in_camera(data.flange_poses))
        split = tuple(np.split(off, np.cumsum(corners.counts)[:-1]))
        kept = rms(off[ours.used[corners.view]])
        return replace(found, residuals_px=split, view_rms_px=view_rms(corners, off), rms_px=kept)

    def _answer(self, data: HandEyeData) -> RigidAnswer:
        carrier, boards = _seen(data)
        if self.name in CLOSED_FORMS:
            return CLOSED_FORMS[self.name](carrier, boards)
        return adjusted(carrier, data.views, data.camera, CLOSED_FORMS["Shah"](carrier, boards))


def folds(n: int) -> list[NDArray[np.bool_]]:
    """Return masks (n,): every fifth view, as a person moves on from one part of the image to the next.

    Raises:
        CalibrationError: Too few views to spare a fifth.
    """
    check_count(n - -(-n // FOLDS), FEWEST)
    return [np.arange(n) % FOLDS == fold for fold in range(FOLDS)]


def check_count(count: int, minimum: int) -> None:
    """Refuse to leave views out where too few would remain.

    Raises:
        CalibrationError: It says how many.
    """
    if count < minimum:
        raise CalibrationError(f"held-out views: {count} would be left to calibrate with, expected {minimum}")


def errors_of(asked: HandEyeData, boards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far predicted boards T_camera_board (n, 4, 4) lie off: (n,) [px], (n,) [mm]."""
    corners = Corners.of(asked.views)
    px = view_rms(corners, residuals(corners, asked.camera, boards))
    seen = board_poses(asked.views, asked.camera, near=boards)
    middle = np.array([np.append(view.points_m.mean(axis=0), 1.0) for view in asked.views])
    apart = np.einsum("nij,nj->ni", boards - seen, middle)[:, :3]
    return np.maximum(px, TINY), np.maximum(1e3 * np.linalg.norm(apart, axis=1), TINY)


def _smooth_errors(data: HandEyeData) -> SmoothErrors:
    answer = park_martin(*_seen(data))
    carried = answer.X if data.mounting == "eye_in_hand" else answer.B
    return SmoothErrors.around(data.flange_poses, carried[:3, 3])


def _seen(data: HandEyeData) -> tuple[FloatArray, FloatArray]:
    """Return what closed forms take: poses of what carries the camera, and T_camera_board (n, 4, 4)."""
    return carrier_poses(data.flange_poses, data.mounting), board_poses(data.views, data.camera)


def _resized(data: HandEyeData, scale: float) -> HandEyeData:
    """Return the data as if the board were larger by a factor, which only the arm's moves tell."""
    views = [replace(view, points_m=scale * view.points_m) for view in data.views]
    return data._replace(views=views, unsure=data.unsure._replace(size=UNKNOWN_SIZE))
