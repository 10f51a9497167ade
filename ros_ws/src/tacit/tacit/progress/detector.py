"""Is the task done, does it stall, does it fall back? Hysteresis over a noisy progress signal.

Pure and causal, O(1) per frame; fed by the progress node with stamps, never with the wall clock.
"""

from __future__ import annotations

import math
from typing import Literal

from tacit.config import Config
from tacit.rig import Positive

TaskState = Literal["running", "done", "stalled", "regressed", "invalid"]


class DetectorConfig(Config):
    """Thresholds of `CompletionDetector`. Defaults: 0 false and 0 missed of 400 synthetic episodes.

    `done_above` counts, `done_below` clears, between them the count is kept. Tune on real episodes.
    The last two are for models that also tell whether the task goes on (1), stands (0) or goes back (-1):
    stall and regression are then judged by the sum of that over time [s], since an estimate that is only
    being revised also rests and falls.
    """

    smoothing_s: Positive = 0.3
    done_above: float = 0.95
    done_below: float = 0.85
    dwell_s: Positive = 0.5
    not_before_s: float = 1.0
    stall_gain: Positive = 0.01
    stall_after_s: Positive = 5.0
    regression_drop: Positive = 0.2
    regression_recovery: Positive = 0.1
    motion_gain_s: Positive = 0.8
    motion_drop_s: Positive = 1.0


class CompletionDetector:
    """Turns progress in 0..1 into a task state.

    Progress is smoothed by an exponential average (time constant `smoothing_s`). `done` latches once
    the average has spent `dwell_s` above `done_above`. `stalled`: the maximum has not grown by
    `stall_gain` for `stall_after_s`; ends with new gain. `regressed`: the average fell by
    `regression_drop` below its maximum; ends within `regression_recovery` of it. A value that is not
    finite is `invalid` for its frame and changes nothing else.
    """

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self.reset()

    def reset(self) -> None:
        """Start a new episode."""
        self._first_ns: int | None = None
        self._last_ns = 0
        self._average = 0.0
        self._above_s = 0.0
        self._done = False
        config = self.config
        self._by_progress = _Course(config.stall_gain, config.regression_drop, config.regression_recovery)
        self._by_motion = _Course(config.motion_gain_s, config.motion_drop_s, config.motion_drop_s / 2)
        self._gone_s = 0.0

    @property
    def smoothed(self) -> float:
        """The smoothed progress; 0 before the first frame."""
        return self._average

    @property
    def is_done(self) -> bool:
        """Whether `done` was reached since the last reset."""
        return self._done

    def update(self, progress: float, stamp_ns: int, motion: float | None = None) -> TaskState:
        """Take one frame and return the state.

        Args:
            progress: Estimate in 0..1, noisy.
            stamp_ns: Stamp of the frame; a stamp that does not advance counts as no time passed.
            motion: Whether the task goes back, stands or goes on (-1..1); None: unknown.
        """
        if not math.isfinite(progress):
            return "invalid"
        step_s = 0.0 if self._first_ns is None else max(0, stamp_ns - self._last_ns) / 1e9
        if self._first_ns is None:
            self._first_ns, self._average = stamp_ns, progress
        self._last_ns = max(stamp_ns, self._last_ns)
        self._average += (1.0 - math.exp(-step_s / self.config.smoothing_s)) * (progress - self._average)
        self._count_done(step_s)
        course, value = self._by_progress, self._average
        if motion is not None and math.isfinite(motion):
            self._gone_s += motion * step_s
            course, value = self._by_motion, self._gone_s
        stalled = course.update(value, self._last_ns) >= self.config.stall_after_s * 1e9
        if self._done:
            return "done"
        if course.regressed:
            return "regressed"
        return "stalled" if stalled else "running"

    def _count_done(self, step_s: float) -> None:
        if self._average > self.config.done_above:
            self._above_s += step_s
        elif self._average < self.config.done_below:
            self._above_s = 0.0
        age_s = (self._last_ns - (self._first_ns or 0)) / 1e9
        if self._above_s >= self.config.dwell_s and age_s >= self.config.not_before_s:
            self._done = True


class _Course:
    """A value that should rise: how long it has not, and whether it has fallen back.

    Args:
        gain: Rise of the maximum that counts.
        drop: Fall below the maximum that is a regression.
        recovery: Distance from the maximum at which it ends.
    """

    def __init__(self, gain: float, drop: float, recovery: float) -> None:
        self._gain, self._drop, self._recovery = gain, drop, recovery
        self._maximum = -math.inf
        self._gain_maximum = -math.inf
        self._gain_ns = 0
        self.regressed = False

    def update(self, value: float, stamp_ns: int) -> int:
        """Take one value and return the time since the last gain [ns]."""
        self._maximum = max(self._maximum, value)
        fallen = self._maximum - value
        if fallen > self._drop:
            self.regressed = True
        elif fallen < self._recovery:
            self.regressed = False
        if value > self._gain_maximum + self._gain:
            self._gain_maximum, self._gain_ns = value, stamp_ns
        return stamp_ns - self._gain_ns


class Decimator:
    """Picks frames at a fixed rate by their stamps, however much faster they come.

    Args:
        rate_hz: Wanted rate. A frame is due once it is within a quarter period of its turn.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = 1e9 / rate_hz
        self.reset()

    def reset(self) -> None:
        """The next frame is due."""
        self._due_ns: float | None = None

    def is_due(self, stamp_ns: int) -> bool:
        """Tell whether the frame at `stamp_ns` is to be used; turns do not drift."""
        if self._due_ns is None or abs(stamp_ns - self._due_ns) > 4 * self._period_ns:
            self._due_ns = float(stamp_ns)
        if stamp_ns < self._due_ns - 0.25 * self._period_ns:
            return False
        turns = max(0, round((stamp_ns - self._due_ns) / self._period_ns))
        self._due_ns += (turns + 1) * self._period_ns
        return True
