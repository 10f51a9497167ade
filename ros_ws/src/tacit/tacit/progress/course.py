"""What a signal does over time: how noisy it is, how long it has not risen, whether it holds a level.

Each takes one value at a time with the time that has passed; none knows what the value means.
"""

from __future__ import annotations

import math

NOISE_S = 1.0
"""Time constant of the measured noise [s]."""
CHANCE_NOISES, SURE_NOISES = 1.5, 3.0
"""A rise of less than a noise and a half may be chance, one of three is none, however small. On a steady ramp
the average lags behind, so the noise is the rise within the time of smoothing: each three of those count."""
GAIN = 0.01
"""What counts as a rise of an estimate with the noise of a trained model."""
LEAST_GAIN = 1e-4
"""A smaller rise is rounding, or the last of an average that settles."""


class Smoothed:
    """Exponential average of a noisy value, and how far the value lies from it in the mean.

    Args:
        time_s: Time constant [s].
    """

    def __init__(self, time_s: float) -> None:
        self._time_s = time_s
        self._raw: float | None = None
        self.value = 0.0
        self.noise = 0.0
        self.is_rising = False
        """Whether the raw value is above the one before."""

    def update(self, raw: float, step_s: float) -> float:
        """Take a value `step_s` after the one before, and return the average."""
        if self._raw is None:
            self._raw = self.value = raw
        self.is_rising = raw > self._raw
        self._raw = raw
        self.value += (1.0 - math.exp(-step_s / self._time_s)) * (raw - self.value)
        self.noise += (1.0 - math.exp(-step_s / NOISE_S)) * (abs(raw - self.value) - self.noise)
        return self.value


class Held:
    """Whether a value holds a level: on after `dwell_s` above `above`, off after as long below `below`.

    Between the two the count is kept, so that noise at the edge neither switches nor forgets.
    """

    def __init__(self, above: float, below: float, dwell_s: float) -> None:
        self._above, self._below, self._dwell_s = above, below, dwell_s
        self._for_s = 0.0
        self.is_on = False

    def update(self, value: float, step_s: float) -> bool:
        """Take a value `step_s` after the one before, and return whether the level is held."""
        far, near = (self._below, self._above) if self.is_on else (self._above, self._below)
        leaves = value < far if self.is_on else value > far
        returns = value > near if self.is_on else value < near
        if leaves:
            self._for_s += step_s
        elif returns:
            self._for_s = 0.0
        if leaves and self._for_s >= self._dwell_s:
            self.is_on, self._for_s = not self.is_on, 0.0
        return self.is_on


class Course:
    """A value that should rise: how long it has not, and whether it has fallen back.

    Args:
        gain: Rise of the maximum that counts; None: `GAIN`, or more where noise explains that, and less
            where there is none.
        drop: Fall below the maximum that is a regression.
        recovery: Distance from the maximum at which it ends.
    """

    def __init__(self, gain: float | None, drop: float, recovery: float) -> None:
        self._gain, self._drop, self._recovery = gain, drop, recovery
        self._maximum = -math.inf
        self.gained = math.inf
        """The value at the last rise that counted; before the first one the lowest so far, whatever a first
        frame may have said."""
        self._has_risen = False
        self.gained_at_s = 0.0
        self.known_s = 0.0
        """Time without a rise in which the task was known to be in one of its steps [s]."""
        self.regressed = False

    def update(self, value: float, noise: float, now_s: float, known_step_s: float) -> None:
        """Take one value.

        Args:
            value: Smoothed.
            noise: Of the signal that it was smoothed from.
            now_s: Time since the start [s].
            known_step_s: Time since the value before, 0 where the task was between its steps [s].
        """
        self._maximum = max(self._maximum, value)
        fallen = self._maximum - value
        if fallen > self._drop:
            self.regressed = True
        elif fallen < self._recovery:
            self.regressed = False
        self.known_s += known_step_s
        by_noise = min(max(GAIN, CHANCE_NOISES * noise), SURE_NOISES * noise + LEAST_GAIN)
        gain = by_noise if self._gain is None else self._gain
        if not self._has_risen:
            self.gained = min(self.gained, value)
        if value > self.gained + gain:
            self._has_risen = True
            self.gained, self.gained_at_s, self.known_s = value, now_s, 0.0
