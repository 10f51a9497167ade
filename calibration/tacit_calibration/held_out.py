"""Judge a hand-eye calibration by views that were not used to make it, and say what contradicts it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray, invert, pose_error
from tacit_calibration.estimation.degeneracy import MIN_VIEWS
from tacit_calibration.estimation.increments import increment_of
from tacit_calibration.estimation.rigid import CLOSED_FORMS
from tacit_calibration.hand_eye import HandEyeData, HandEyeResult, solve_hand_eye
from tacit_calibration.ways import (
    ADJUSTED,
    LEARNT,
    MODELLED,
    SCALED,
    SMOOTH,
    OwnWay,
    RigidWay,
    Trial,
    check_count,
    errors_of,
    tried,
)

SIGMAS = 3.0
PLACE = 3
"""Numbers by which a view measures a shift; camera's and board's places and the size are taken from them."""
ODD_SIZE = 0.003
"""A third of a percent is 1 mm at .3 m: less is not worth a word, however sure."""
WRONG_ARM, SURELY_WRONG_ARM, CLEARLY_WRONG_ARM = 3.0, 5.0, 0.07
"""An arm is called wrong where a smooth error makes all views e^5 times as likely, which noise alone does
once in a thousand calibrations (half a chi-square with one degree beyond 10), or e^3, once in 140, where
learning it also gains 7 % on views left out. Where both leave out other views, that gain decides."""
Track = Callable[[Sequence[OwnWay | RigidWay], str], Iterable[OwnWay | RigidWay]]
"""Goes through the ways and shows how far it is; the text names the work."""


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


def leave_one_out(data: HandEyeData, full: HandEyeResult | None = None) -> Iterator[LeftOut]:
    """Calibrate without each view in turn, and ask the view that was left out.

    Args:
        data: At least one view more than `solve_hand_eye` needs.
        full: The calibration from all of them, where it is at hand.

    Raises:
        CalibrationError: Too few views to spare one.
    """
    check_count(len(data.views) - 1, MIN_VIEWS)
    full = full or solve_hand_eye(*data)
    for i, view in enumerate(data.views):
        left_out = np.arange(len(data.views)) == i
        without, asked = solve_hand_eye(*data.of(~left_out)), data.of(left_out)
        error = pose_error(without.T_parent_camera, full.T_parent_camera)
        px, _ = errors_of(asked, without.board_in_camera(asked.flange_poses))
        yield LeftOut(view.name, float(px[0]), float(error.translation), float(error.rotation))


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
    def learnt(self) -> bool:
        """Whether something of the arm was learnt too."""
        return len(self.result.arm_correction) > 0


def solve_by_held_out(
    data: HandEyeData,
    arm_errors: FloatArray | None = None,
    plain: HandEyeResult | None = None,
    track: Track = lambda ways, _: ways,
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
        track: Shows how far it is.

    Raises:
        CalibrationError: As `solve_hand_eye`.
    """
    plain = plain or solve_hand_eye(*data)
    # Joints say more of an arm's errors than poses do: .34 against .68 mm on synthetic arms.
    learns = OwnWay(SMOOTH, data, smooth=True) if arm_errors is None else OwnWay(LEARNT, data, arm_errors)
    ways: list[OwnWay | RigidWay] = [OwnWay(MODELLED, data, plain=plain), learns]
    ways += [RigidWay(name, data) for name in (*CLOSED_FORMS, ADJUSTED)]
    trials, failed = _tried(ways, track)
    if MODELLED in failed:
        reason = f"not judged by views left out: {failed[MODELLED]}"
        return Judged(plain, (), _size_contradiction(plain), (reason,))
    contradictions = _size_contradiction(plain)
    barred = {learns.name} if data.mounting == "eye_to_hand" else set[str]()
    if contradictions:
        # A size that is known within its error would only add that error: it is learnt where clearly wrong.
        ways.append(OwnWay(SCALED, data, scaled=True))
        more, failed_too = _tried(ways[-1:], track)
        trials, failed = trials + more, failed | failed_too
        # An arm that may be learnt also swallows a board of another size; the simpler reason stands.
        arm_it_is = _arm_explains(trials)
        barred.add(SCALED if arm_it_is else learns.name)
        contradictions = () if arm_it_is else contradictions
    judged = _chosen(trials, ways, barred, contradictions)
    unable = (f"{name} could not be judged by views left out: {problem}" for name, problem in failed.items())
    return replace(judged, warnings=(*judged.warnings, *unable))


def _tried(
    ways: Sequence[OwnWay | RigidWay], track: Track
) -> tuple[list[Trial], dict[str, CalibrationError]]:
    """Return the trials of the ways, and {way: why it could not be tried}."""
    trials, failed = list[Trial](), dict[str, CalibrationError]()
    for way in track(ways, "views left out"):
        try:
            trials.append(tried(way))
        except CalibrationError as problem:  # too few views without a fifth, or too few that agree there
            failed[way.name] = problem
    return trials, failed


def without_held_out(plain: HandEyeResult) -> Judged:
    """Return a calibration with what contradicts it in itself, where no view is to be left out."""
    return Judged(plain, (), _size_contradiction(plain))


def _chosen(
    trials: Sequence[Trial],
    ways: Sequence[OwnWay | RigidWay],
    barred: Collection[str],
    contradictions: tuple[str, ...],
) -> Judged:
    """Return the calibration by the best of the ways that were tried: a rigid one must be clearly better."""
    free = [trial for trial in trials if not trial.rigid and trial.name not in barred]
    best = min(free, key=lambda trial: trial.error)
    own = next(way for way in ways if isinstance(way, OwnWay) and way.name == best.name)
    better = [trial for trial in trials if trial.rigid and trial.beats(best)]
    chosen = min(better, key=lambda trial: trial.error) if better else best
    result = own.result
    for way in ways:
        if isinstance(way, RigidWay) and way.name == chosen.name:
            result = way.result(result)
            contradictions += (
                f"{chosen.name}, which takes the robot as exact, predicts views left out clearly better: "
                f"{np.median(chosen.px):.2f} px instead of {np.median(best.px):.2f}; is the robot better "
                "than these views make it look, or do some not belong here? Compare errors view by view",
            )
    spread = _with_choice(result, [trial for trial in free if trial is not chosen], chosen)
    widened = replace(result, covariance=spread)
    others = sorted((t for t in trials if t is not chosen), key=lambda trial: trial.error)
    warnings = _consensus(widened, chosen, trials) + _arm_warning(trials, ways)
    return Judged(widened, (chosen, *others), contradictions, warnings)


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


def _arm_explains(trials: Sequence[Trial]) -> bool:
    """Return whether a learnt arm predicts clearly better than a learnt size of the board."""
    learnt, scaled = ([t for t in trials if t.name in names] for names in ((LEARNT, SMOOTH), (SCALED,)))
    return bool(learnt) and (not scaled or learnt[0].beats(scaled[0]))


def _arm_warning(trials: Sequence[Trial], ways: Sequence[OwnWay | RigidWay]) -> tuple[str, ...]:
    """Return a warning where much of the robot's error is smooth in its pose, as a wrong model makes it."""
    by_name = {trial.name: trial for trial in trials}
    own = {way.name: way.result for way in ways if isinstance(way, OwnWay) and way.name in by_name}
    name = next((name for name in (LEARNT, SMOOTH) if name in own), None)
    if name is None:
        return ()
    learnt, modelled = own[name], own[MODELLED]
    needed = WRONG_ARM if np.mean(by_name[name].gains(by_name[MODELLED])) > CLEARLY_WRONG_ARM else np.inf
    if (learnt.used == modelled.used).all():
        is_wrong = learnt.likelihood - modelled.likelihood > min(needed, SURELY_WRONG_ARM)
    else:
        is_wrong = needed < np.inf
    if not is_wrong:
        return ()
    return (
        "the arm's model is off: its errors are smooth in its pose; check joint zeros, use the vendor's "
        "calibrated parameters",
    )


def _size_contradiction(result: HandEyeResult) -> tuple[str, ...]:
    from scipy.special import ndtr, stdtrit  # slow to import

    off, sigma = abs(result.size - 1), result.size_sigma
    # Sigma is estimated from the same few views: beyond three of it lies more than a normal tail (Student).
    freedom = max(PLACE * np.count_nonzero(result.used) - 2 * PLACE - 1, 1)
    allowed = float(stdtrit(freedom, ndtr(SIGMAS)))
    if off < max(allowed * sigma, ODD_SIZE):
        return ()
    return (
        f"by the arm's moves the squares are {result.size:.4f} +- {sigma:.4f} times as large as given, "
        f"{off / sigma:.1f} sigma off; measure a square, or calibrate the lens again: fx off by as much "
        "looks the same",
    )
