"""Judge a hand-eye calibration by views that were not used to make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray, invert, pose_error
from tacit_calibration.estimation.arm_errors import SmoothErrors
from tacit_calibration.estimation.board_pose import Corners, board_poses, residuals, rms, view_rms
from tacit_calibration.estimation.degeneracy import MIN_VIEWS, carrier_poses
from tacit_calibration.estimation.diagnosis import size_of_board
from tacit_calibration.estimation.increments import increment_of
from tacit_calibration.estimation.rigid import CLOSED_FORMS, RigidAnswer, adjusted, jackknife, park_martin
from tacit_calibration.hand_eye import HandEyeData, HandEyeResult, solve_hand_eye

FOLDS = 5
FEWEST = 6
"""Views that a fit on part of the data needs; fewer than a person may bring, since others judge it."""
MODELLED, LEARNT = "robot as reported", "arm's geometry learnt"
SMOOTH, SCALED = "smooth arm error learnt", "board size learnt"
ADJUSTED = "bundle adjustment"
SURE, CLEARLY, SIGMAS = 3.0, 0.1, 3.0
ODD_SCALE = 0.003
"""A third of a percent is 1 mm at .3 m: less is not worth a word, however sure."""
TINY = 1e-6
"""Errors of exact data must not become infinite when compared by their logarithm."""


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

    def beats(self, other: Trial) -> bool:
        """Whether it is better by more than the scatter from view to view explains, and by more than a tenth.

        Two errors of one view share what is hard about it, so their ratio is compared, not their size.
        """
        ratio = np.log(other.px * other.mm) / 2 - np.log(self.px * self.mm) / 2
        sigma = np.std(ratio, ddof=1) / np.sqrt(len(ratio))
        return bool(np.mean(ratio) > max(SURE * sigma, CLEARLY))


@dataclass(frozen=True, eq=False)
class Judged:
    """A calibration, and the trials that chose it.

    Attributes:
        result: By the trial with the least held-out error; its covariance holds the choice among those that
            estimate the robot's error.
        trials: The chosen one first, the others by their error; empty with too few views to tell.
        contradictions: What makes the result untrustworthy, in sentences.
        warnings: What makes it weaker than its numbers say.
    """

    result: HandEyeResult
    trials: tuple[Trial, ...] = ()
    contradictions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def px(self, name: str) -> float | None:
        """Return the median held-out error of a trial [px], None where it was not made."""
        return next((float(np.median(t.px)) for t in self.trials if t.name == name), None)

    @property
    def modelled_px(self) -> float | None:
        """Held-out error with the arm as modelled; None with too few views to tell."""
        return self.px(MODELLED)

    @property
    def learnt_px(self) -> float | None:
        """Held-out error with the arm's geometry learnt and corrected; None where it was not tried."""
        return self.px(LEARNT)

    @property
    def learnt(self) -> bool:
        """Whether something of the arm was learnt too."""
        return len(self.result.arm_correction) > 0


def solve_by_held_out(
    data: HandEyeData, arm_errors: FloatArray | None = None, plain: HandEyeResult | None = None
) -> Judged:
    """Calibrate in several ways and keep the one that predicts views best that it did not see.

    The ways: the robot's error estimated as noise; a smooth error of the arm learnt too, from its joints
    where they are known and from its poses where not; the board's size learnt; and three methods that take
    the robot as exact. One of the latter is kept where it is clearly better: then what we assume of the
    robot does not hold, which is a contradiction.

    A camera that rides on the flange sees what rides on it too without the arm in between, so there the
    true place is wanted. A fixed camera is wanted where the arm's model, right or wrong, meets it: with
    `eye_to_hand` the errors are told, and the model stays. Among the ways that estimate the robot's error
    any gain decides: on synthetic arms whose errors are pure noise, learning costs 4 % of accuracy at most,
    as the sizes to learn come out as nothing.

    Args:
        data: The n views and their poses.
        arm_errors: From `arm_errors.geometry_errors` (n, 6, m); None where the joints are not known.
        plain: The calibration with the arm as modelled, where it is at hand.

    Raises:
        CalibrationError: As `solve_hand_eye`.
    """
    plain = plain or solve_hand_eye(*data)
    own = {MODELLED: _Way(data), SCALED: _Way(data, scaled=True)}
    # Joints say more of an arm's errors than poses do: .34 against .68 mm on synthetic arms.
    own |= {SMOOTH: _Way(data, smooth=True)} if arm_errors is None else {LEARNT: _Way(data, arm_errors)}
    try:
        trials = [_own_trial(name, way, plain) for name, way in own.items()]
        trials += [_rigid_trial(name, data) for name in (*CLOSED_FORMS, ADJUSTED)]
    except CalibrationError:  # too few views without a fifth, or too few that agree: nobody to ask
        return Judged(plain)
    return _judged(data, own, trials, plain)


def _judged(data: HandEyeData, own: dict[str, _Way], trials: list[Trial], plain: HandEyeResult) -> Judged:
    contradictions = list(_scale_contradiction(data))
    stays = data.mounting == "eye_to_hand"
    # A size that is known within its error would only add that error: it is learnt where it is clearly wrong.
    barred = {
        name for name, way in own.items() if (stays and way.learns) or (way.scaled and not contradictions)
    }
    free = [trial for trial in trials if not trial.rigid and trial.name not in barred]
    best = min(free, key=lambda trial: trial.error)
    better = [t for t in trials if t.rigid and t.beats(best)]
    chosen = min(better, key=lambda trial: trial.error) if better else best
    result = plain if best.name == MODELLED else own[best.name].solved()
    if better:
        contradictions.append(
            f"{chosen.name}, which takes the robot as exact, predicts views left out clearly better: "
            f"{np.median(chosen.px):.2f} px instead of {np.median(best.px):.2f}"
        )
        result = _rigid_result(data, chosen, result)
    widened = replace(result, covariance=_with_choice(result, [t for t in free if t is not chosen], chosen))
    others = sorted((t for t in trials if t is not chosen), key=lambda trial: trial.error)
    return Judged(widened, (chosen, *others), tuple(contradictions), _consensus(widened, chosen, trials))


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
    _check_count(n - -(-n // FOLDS), FEWEST)
    return float(np.median(_held_out(_Way(data, arm_errors=arm_errors))[0]))


@dataclass(frozen=True, eq=False)
class _Way:
    """One way of estimating the robot's error: what it may learn along with the camera."""

    data: HandEyeData
    arm_errors: FloatArray | None = None
    smooth: bool = False
    scaled: bool = False

    @property
    def learns(self) -> bool:
        """Whether it learns something of the arm."""
        return self.smooth or self.arm_errors is not None

    def predict(self, held: NDArray[np.bool_]) -> tuple[HandEyeData, FloatArray]:
        """Calibrate without the views of a mask (n,); return those views and T_camera_board (k, 4, 4)."""
        kept, asked = self.data.of(~held), self.data.of(held)
        if self.scaled:
            scale = size_of_board(*kept)[0]
            kept, asked = _resized(kept, scale), _resized(asked, scale)
        errors = self._errors(kept)
        learnt = None if errors is None else errors(~held, kept.flange_poses)
        result = solve_hand_eye(*kept, arm_errors=learnt, minimum=FEWEST)
        applied = None if errors is None else errors(held, asked.flange_poses)
        return asked, result.board_in_camera(asked.flange_poses, applied)

    def solved(self) -> HandEyeResult:
        """Return the calibration of all views."""
        data = _resized(self.data, size_of_board(*self.data)[0]) if self.scaled else self.data
        if self.smooth:
            smooth = _smooth_errors(data)
            result = solve_hand_eye(*data, arm_errors=smooth.at(data.flange_poses))
            return replace(result, smooth=smooth)
        return solve_hand_eye(*data, arm_errors=self.arm_errors)

    def _errors(self, kept: HandEyeData) -> Callable[[NDArray[np.bool_], FloatArray], FloatArray] | None:
        """Return what gives (n, 6, m) for views by mask and pose: by joints, else by poses, else nothing."""
        if self.smooth:
            smooth = _smooth_errors(kept)
            return lambda _, poses: smooth.at(poses)
        columns = self.arm_errors
        return None if columns is None else lambda chosen, _: columns[chosen]


def _smooth_errors(data: HandEyeData) -> SmoothErrors:
    answer = park_martin(*_seen(data))
    carried = answer.X if data.mounting == "eye_in_hand" else answer.B
    return SmoothErrors.around(data.flange_poses, carried[:3, 3])


def _own_trial(name: str, way: _Way, plain: HandEyeResult) -> Trial:
    px, mm = _held_out(way)
    result = plain if name == MODELLED else way.solved()
    sigma = float(np.linalg.norm(result.camera_pose.sigma_translation))
    return Trial(name, result.T_parent_camera, px, mm, False, sigma)


def _rigid_trial(name: str, data: HandEyeData) -> Trial:
    px, mm = np.zeros(len(data.views)), np.zeros(len(data.views))
    for held in _folds(len(data.views)):
        answer = _rigid(name, data.of(~held))
        asked = data.of(held)
        boards = invert(carrier_poses(asked.flange_poses, data.mounting) @ answer.X) @ answer.B
        px[held], mm[held] = _errors_of(asked, boards)
    solve = CLOSED_FORMS.get(name, CLOSED_FORMS["Shah"])
    sigma = float(np.sqrt(jackknife(solve, *_seen(data)).sum()))
    return Trial(name, _rigid(name, data).X, px, mm, True, sigma)


def _rigid(name: str, data: HandEyeData) -> RigidAnswer:
    carrier, boards = _seen(data)
    if name in CLOSED_FORMS:
        return CLOSED_FORMS[name](carrier, boards)
    return adjusted(carrier, data.views, data.camera, CLOSED_FORMS["Shah"](carrier, boards))


def _rigid_result(data: HandEyeData, chosen: Trial, ours: HandEyeResult) -> HandEyeResult:
    """Return a rigid method's answer as a result; its distance from ours is part of its uncertainty."""
    X, B = _rigid(chosen.name, data)
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


def _with_choice(result: HandEyeResult, others: Sequence[Trial], chosen: Trial) -> FloatArray:
    """Return the covariance (12, 12) with the spread of other answers that are nearly as good.

    A way whose errors on n views are larger by a ratio r counts r^-n: the ratio of likelihoods of n numbers
    whose size is that of the errors.
    """
    covariance, total = result.covariance.copy(), 1.0
    spread = np.zeros((6, 6))
    for trial in others:
        weight = min(chosen.error / trial.error, 1.0) ** len(trial.px)
        shift = increment_of(invert(result.T_parent_camera) @ trial.X)
        spread, total = spread + weight * np.outer(shift, shift), total + weight
    covariance[:6, :6] += spread / total
    return covariance


def _consensus(result: HandEyeResult, chosen: Trial, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return a warning where closed forms agree on another place than ours, by more than both explain."""
    closed = [trial for trial in trials if trial.name in CLOSED_FORMS and trial is not chosen]
    own = float(np.linalg.norm(result.camera_pose.sigma_translation))
    far = [np.linalg.norm(t.X[:3, 3] - result.T_parent_camera[:3, 3]) for t in closed]
    allowed = [SIGMAS * np.hypot(own, t.sigma_m) for t in closed]
    if not closed or any(d <= limit for d, limit in zip(far, allowed, strict=True)):
        return ()
    return (
        f"the camera lies {1e3 * min(far):.1f} mm from where {' and '.join(t.name for t in closed)} put it, "
        f"more than {SIGMAS:g} times what both are unsure of; compare with a ruler, take more views",
    )


def _scale_contradiction(data: HandEyeData) -> tuple[str, ...]:
    scale, sigma = size_of_board(*data)
    if abs(scale - 1) < max(SIGMAS * sigma, ODD_SCALE):
        return ()
    return (
        f"by the arm's moves the squares are {scale:.4f} +- {sigma:.4f} times as large as given, "
        f"{abs(scale - 1) / sigma:.1f} sigma off; measure a square, or calibrate the lens again",
    )


def _held_out(way: _Way) -> tuple[FloatArray, FloatArray]:
    """Return the errors (n,) [px] and (n,) [mm] of every view while it was left out."""
    px, mm = np.zeros(len(way.data.views)), np.zeros(len(way.data.views))
    for held in _folds(len(way.data.views)):
        asked, boards = way.predict(held)
        px[held], mm[held] = _errors_of(asked, boards)
    return px, mm


def _folds(n: int) -> list[NDArray[np.bool_]]:
    """Return masks (n,): every fifth view, as a person moves on from one part of the image to the next."""
    _check_count(n - -(-n // FOLDS), FEWEST)
    return [np.arange(n) % FOLDS == fold for fold in range(FOLDS)]


def _errors_of(asked: HandEyeData, boards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far predicted boards T_camera_board (n, 4, 4) lie off: (n,) [px], (n,) [mm]."""
    corners = Corners.of(asked.views)
    px = view_rms(corners, residuals(corners, asked.camera, boards))
    seen = board_poses(asked.views, asked.camera, near=boards)
    middle = np.array([np.append(view.points_m.mean(axis=0), 1.0) for view in asked.views])
    apart = np.einsum("nij,nj->ni", boards - seen, middle)[:, :3]
    return np.maximum(px, TINY), np.maximum(1e3 * np.linalg.norm(apart, axis=1), TINY)


def _seen(data: HandEyeData) -> tuple[FloatArray, FloatArray]:
    """Return what closed forms take: poses of what carries the camera, and T_camera_board (n, 4, 4)."""
    return carrier_poses(data.flange_poses, data.mounting), board_poses(data.views, data.camera)


def _resized(data: HandEyeData, scale: float) -> HandEyeData:
    """Return the data as if the board were larger by a factor."""
    return data._replace(views=[replace(view, points_m=scale * view.points_m) for view in data.views])


def _view_errors(result: HandEyeResult, data: HandEyeData) -> FloatArray:
    corners, boards = Corners.of(data.views), result.board_in_camera(data.flange_poses)
    return view_rms(corners, residuals(corners, data.camera, boards))


def _check_count(count: int, minimum: int) -> None:
    if count < minimum:
        raise CalibrationError(f"held-out views: {count} would be left to calibrate with, expected {minimum}")
