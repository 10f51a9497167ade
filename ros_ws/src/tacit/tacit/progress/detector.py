"""Is the task done, does it fail, stall or fall back? Hysteresis over the noisy outputs of an estimator.

Pure and causal, O(1) per frame; fed by the progress node with stamps, never with the wall clock.
"""

from __future__ import annotations

import math
from typing import Literal

from tacit.bundle.manifest import Manifest
from tacit.bundle.runtime import ProgressEstimate
from tacit.config import Config, parse
from tacit.progress.course import Course, Held, Smoothed
from tacit.rig import Positive

TaskState = Literal["running", "done", "failed", "stalled", "regressed", "invalid"]
StopOn = Literal["nothing", "done", "failed", "both"]
"""What of a task's state ends the run of a policy."""

BEFORE = 0.95
"""Smoothed progress that counts as complete for bundles without thresholds: trained models end at .98."""
ARRIVED = 0.999
"""A steady progress without a threshold counts as complete above this; see `CompletionDetector`."""
ARRIVAL_NOISES = 2.0
BACKGROUND_SHARE = 0.5
"""Probability of being between steps from which a frame tells nothing about a stall."""
UNKNOWN_FACTOR = 4.0
"""Between its steps a task may rest this much longer before it is called stalled all the same."""
EARLY = 0.1
"""Below this progress the length of the task, as told by its pace, is a guess: more time is given."""


class DetectorConfig(Config):
    """Thresholds of `CompletionDetector`; those of a bundle are fitted by `tacit evaluate progress --tune`.

    Success and failure are probabilities: above `..._above` for `..._dwell_s` they are on, below `..._below`
    as long they are off. `done_above` is for estimators that tell progress alone: the smoothed progress
    that counts as complete; None: as near to 1 as its noise allows. A stall is `stall_after_s` without a
    rise by `stall_gain` (None: by more than noise), and at least `stall_share` of the task's length:
    `length_s`, or where that is None what the pace so far promises. The motion thresholds are for models
    that also tell whether the task goes on (1), stands (0) or goes back (-1): stall and regression are then
    judged by the sum of that over time [s], since an estimate that is only being revised also rests and
    falls.
    """

    smoothing_s: Positive = 0.3
    done_above: float | None = None
    done_below: float = 0.85
    dwell_s: Positive = 0.5
    not_before_s: float = 1.0
    success_above: float = 0.6
    success_below: float = 0.4
    success_dwell_s: Positive = 0.15
    failure_above: float = 0.6
    failure_below: float = 0.4
    failure_dwell_s: Positive = 0.3
    stall_gain: Positive | None = None
    stall_after_s: Positive = 5.0
    stall_share: float = 0.25
    length_s: float | None = None
    regression_drop: Positive = 0.2
    regression_recovery: Positive = 0.1
    motion_gain_s: Positive = 0.8
    motion_drop_s: Positive = 1.0


def stopping_states(stop_on: StopOn) -> frozenset[TaskState]:
    """Return the states that end the run of a policy."""
    done: frozenset[TaskState] = frozenset({"done"} if stop_on in ("done", "both") else ())
    return done | (frozenset({"failed"}) if stop_on in ("failed", "both") else frozenset())


def detector_of(manifest: Manifest) -> DetectorConfig:
    """Return the thresholds of a bundle; those of a bundle that has none are as they were before it could."""
    if manifest.detector is None:
        return DetectorConfig(done_above=BEFORE)
    return parse(DetectorConfig, manifest.detector, "bundle: detector")


class CompletionDetector:
    """Turns what an estimator says at each frame into a task state.

    `done` latches. An estimator that tells success is believed: progress then has no say in it, since a
    missed grasp goes through all the motions. One that tells progress alone must show that nothing is left:
    the average, within its noise, is at 1 and the value has stopped rising; a task of 22 steps has .95
    behind it before its last step begins. `failed` holds while a failure is told, and `failure` is its
    kind; a retry may end it. `stalled`: no rise for too long (see `DetectorConfig`); time between steps
    does not count, there a task may rest. `regressed`: the average fell by `regression_drop` below its
    maximum; ends within `regression_recovery` of it. A value that is not finite is `invalid` for its frame
    and changes nothing else.
    """

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self.reset()

    def reset(self) -> None:
        """Start a new episode."""
        config = self.config
        self._first_ns: int | None = None
        self._last_ns = 0
        self._progress = Smoothed(config.smoothing_s)
        self._above_s = 0.0
        self._done = False
        self._success = Held(config.success_above, config.success_below, config.success_dwell_s)
        self._failure = Held(config.failure_above, config.failure_below, config.failure_dwell_s)
        self._kinds: dict[str, float] = {}
        self._by_progress = Course(config.stall_gain, config.regression_drop, config.regression_recovery)
        self._by_motion = Course(config.motion_gain_s, config.motion_drop_s, config.motion_drop_s / 2)
        self._gone_s = 0.0

    @property
    def smoothed(self) -> float:
        """The smoothed progress; 0 before the first frame."""
        return self._progress.value

    @property
    def is_done(self) -> bool:
        """Whether `done` was reached since the last reset."""
        return self._done

    @property
    def failure(self) -> str:
        """The kind of the failure that holds, as it was told most of the time; "" where none does."""
        return max(self._kinds, key=self._kinds.__getitem__) if self._failure.is_on and self._kinds else ""

    def update(
        self,
        progress: float,
        stamp_ns: int,
        motion: float | None = None,
        *,
        success: float | None = None,
        failure: float | None = None,
        kind: str = "",
        background: float | None = None,
    ) -> TaskState:
        """Take one frame and return the state; None is what the estimator does not tell.

        Args:
            progress: Estimate in 0..1, noisy.
            stamp_ns: Stamp of the frame; a stamp that does not advance counts as no time passed.
            motion: Whether the task goes back, stands or goes on (-1..1).
            success: Probability that the task is done, and well.
            failure: Probability that something is going wrong.
            kind: What most likely goes wrong, where failure is told.
            background: Probability that no step of the task runs.
        """
        told = (progress, *(value for value in (success, failure) if value is not None))
        if not all(map(math.isfinite, told)):
            return "invalid"
        step_s = self._advance(stamp_ns)
        self._progress.update(progress, step_s)
        self._note_failure(failure, kind, step_s)
        if success is None:
            self._count_arrival(step_s)
        elif self._success.update(success, step_s):
            self._done = True
        course = self._follow(motion, background, step_s)
        if self._done:
            return "done"
        if self._failure.is_on:
            return "failed"
        if course.regressed:
            return "regressed"
        return "stalled" if self._is_stalled(course) else "running"

    def take(self, estimate: ProgressEstimate, stamp_ns: int, value: float | None = None) -> TaskState:
        """Take what a bundle says of a frame, and return the state.

        Args:
            estimate: Of the frame.
            stamp_ns: Its stamp.
            value: What to judge completion by, instead of the progress.
        """
        return self.update(
            estimate.progress if value is None else value,
            stamp_ns,
            estimate.motion,
            success=estimate.success,
            failure=estimate.failure,
            kind=estimate.kind,
            background=estimate.background,
        )

    @property
    def _age_s(self) -> float:
        return (self._last_ns - (self._first_ns or 0)) / 1e9

    def _advance(self, stamp_ns: int) -> float:
        """Take the stamp of a frame and return the time since the one before [s]."""
        if self._first_ns is None:
            self._first_ns = self._last_ns = stamp_ns
        step_s = max(0, stamp_ns - self._last_ns) / 1e9
        self._last_ns = max(stamp_ns, self._last_ns)
        return step_s

    def _note_failure(self, failure: float | None, kind: str, step_s: float) -> None:
        if failure is None:
            return
        if not self._failure.update(failure, step_s) and failure < self.config.failure_below:
            self._kinds = {}
        elif kind:
            self._kinds[kind] = self._kinds.get(kind, 0.0) + failure * max(step_s, 1e-9)

    def _count_arrival(self, step_s: float) -> None:
        """Judge by progress alone whether nothing is left."""
        config, average = self.config, self._progress.value
        above = config.done_above
        if above is None:
            above = min(ARRIVED, 1.0 - ARRIVAL_NOISES * self._progress.noise)
            above = max(above, (1.0 + config.done_below) / 2)
        if average > above:
            self._above_s += step_s
        elif average < config.done_below:
            self._above_s = 0.0
        rests = config.done_above is not None or not self._progress.is_rising
        if self._above_s >= config.dwell_s and self._age_s >= config.not_before_s and rests:
            self._done = True

    def _follow(self, motion: float | None, background: float | None, step_s: float) -> Course:
        """Return the course that tells stall and regression, brought up to this frame."""
        known_s = 0.0 if background is not None and background > BACKGROUND_SHARE else step_s
        if motion is None or not math.isfinite(motion):
            self._by_progress.update(self._progress.value, self._progress.noise, self._age_s, known_s)
            return self._by_progress
        self._gone_s += motion * step_s
        self._by_motion.update(self._gone_s, 0.0, self._age_s, known_s)
        return self._by_motion

    def _is_stalled(self, course: Course) -> bool:
        patience_s = self._patience_s()
        quiet_s = self._age_s - course.gained_at_s
        return course.known_s >= patience_s or quiet_s >= UNKNOWN_FACTOR * patience_s

    def _patience_s(self) -> float:
        """Return how long the task may rest [s]."""
        config, progress = self.config, self._by_progress
        length_s = config.length_s
        if length_s is None:
            reached = progress.gained
            if reached <= 0:  # an estimator at work is never at 0, and what has not begun cannot stall
                return math.inf
            length_s = progress.gained_at_s / reached * (1.0 + EARLY / reached)
        return max(config.stall_after_s, config.stall_share * length_s)
