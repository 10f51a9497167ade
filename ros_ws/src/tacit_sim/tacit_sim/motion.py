"""From stop to stop at a moderate pace: targets tick by tick, with a rest at each stop."""

from __future__ import annotations

import numpy as np

from tacit.geometry.transforms import FloatArray

PACE = 0.35
"""Part of the rig's velocity limits; smoothstep peaks at 1.5 times the mean."""


class Tour:
    """Goes through states (N, S), resting at each.

    Args:
        stops: Where to go (N, S) [rad, m].
        velocity: Limits (S,) [1/s].
        rate_hz: Ticks per second.
        rest_s: Rest at each stop [s].
    """

    def __init__(self, stops: FloatArray, velocity: FloatArray, rate_hz: float, rest_s: float) -> None:
        self._stops = np.asarray(stops, dtype=np.float64)
        self._velocity, self._rate_hz = velocity, rate_hz
        self._rest_ticks = round(rest_s * rate_hz)
        self._stop = -1
        self._from: FloatArray = self._stops[0]
        self._tick, self._move_ticks = 0, 0

    @property
    def is_over(self) -> bool:
        """True once the last rest has ended."""
        return self._stop >= len(self._stops)

    def next(self, measured: FloatArray) -> FloatArray:
        """Return the target (S,) of this tick; the last stop when the tour is over.

        Args:
            measured: State (S,); only the first call needs it, to start from where the arm is.
        """
        if self._stop < 0:
            self._go(0, np.asarray(measured, dtype=np.float64))
        elif self._tick > self._move_ticks + self._rest_ticks and not self.is_over:
            self._go(self._stop + 1, self._stops[self._stop])
        if self.is_over:
            return self._stops[-1]
        part = min(self._tick / max(self._move_ticks, 1), 1.0)
        self._tick += 1
        return self._from + (self._stops[self._stop] - self._from) * (part * part * (3 - 2 * part))

    def _go(self, stop: int, start: FloatArray) -> None:
        self._stop, self._from, self._tick = stop, start, 0
        if not self.is_over:
            seconds = float(np.max(np.abs(self._stops[stop] - start) / (PACE * self._velocity)))
            self._move_ticks = int(np.ceil(seconds * self._rate_hz))
