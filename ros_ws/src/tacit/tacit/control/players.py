"""Who says where the robot is to go: a policy's chunks, a person, a recording. The controller takes any."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tacit.geometry.transforms import FloatArray


class Mover(Protocol):
    """A person who moves the robot; `tacit.teleop` has one."""

    def begin(self) -> None:
        """Note that the robot is this person's from now on: nothing of before is to move it."""

    def target(self, position: FloatArray, dt: float) -> FloatArray | None:
        """Return where to be `dt` [s] after the command `position` (S,); None to stand still."""


class Player(Protocol):
    """Says the target of each tick of a run; `tacit.bundle.player.ChunkPlayer` is one."""

    disagreement: float

    def reset(self) -> None:
        """Forget the run before."""

    def add(self, chunk: NDArray[np.floating], stamp_ns: int) -> None:
        """Take a chunk (K, S)."""

    def command(self, now_ns: int) -> FloatArray | None:
        """Return the target (S,) of the tick at `now_ns`; None where there is none."""

    def rows_left(self, now_ns: int) -> int:
        """Return how many targets are left."""


class RecordedPlayer:
    """Plays what was commanded in an episode, from the first tick that asks on.

    Args:
        tick_ns: Stamps of the recording (T,).
        action: Commanded states (T, S) [rad, m].
        speed: 1 as it was recorded, 0.5 half as fast.
    """

    def __init__(self, tick_ns: NDArray[np.int64], action: FloatArray, speed: float = 1.0) -> None:
        self._times = (np.asarray(tick_ns) - tick_ns[0]) / speed
        self._action = np.asarray(action, dtype=np.float64)
        self.disagreement = 0.0
        self.reset()

    def reset(self) -> None:
        """Begin at the first tick of the recording."""
        self._began_ns: int | None = None
        self.is_over = False

    def add(self, chunk: NDArray[np.floating], stamp_ns: int) -> None:
        """Refuse: a recording takes nothing in."""
        raise ValueError("a recording takes no chunks")

    def command(self, now_ns: int) -> FloatArray | None:
        """Return the recorded command (S,) that is due, between two ticks their mean by time."""
        if self._began_ns is None:
            self._began_ns = now_ns
        elapsed = now_ns - self._began_ns
        self.is_over = elapsed >= self._times[-1]
        after = int(np.clip(np.searchsorted(self._times, elapsed), 1, max(1, len(self._times) - 1)))
        if len(self._times) == 1:
            return self._action[0].copy()
        span = self._times[after] - self._times[after - 1]
        share = float(np.clip((elapsed - self._times[after - 1]) / span, 0.0, 1.0)) if span > 0 else 1.0
        return np.asarray((1 - share) * self._action[after - 1] + share * self._action[after])

    def rows_left(self, now_ns: int) -> int:
        """Return how many ticks of the recording are still to come."""
        elapsed = 0 if self._began_ns is None else now_ns - self._began_ns
        return int((self._times > elapsed).sum())
