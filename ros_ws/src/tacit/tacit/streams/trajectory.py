"""A command of many points: where to be at which time, followed until a newer command replaces it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trajectory:
    """The points of one message.

    A recorder that took the first point for the command would write down "stand still": planners begin
    with where the arm is.

    Attributes:
        times_ns: When each point is due, after the stamp of the message (K,) i8, strictly rising; negative
            where the motion had begun before.
        positions: The points (K, n), canonical.
    """

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]

    def starting(self, after_ns: int) -> Trajectory:
        """Return the same motion, begun so long after the stamp (before it, where negative)."""
        return Trajectory(self.times_ns + after_ns, self.positions)

    def at(self, after_ns: int) -> NDArray[np.float64]:
        """Return the command (n,) in force `after_ns` after the stamp.

        Linear between two points; the first point before it is due, the last one for ever after.
        """
        return np.array([np.interp(after_ns, self.times_ns, column) for column in self.positions.T])


class Follower:
    """Gives the commands of a trajectory one after another, as its time passes.

    Args:
        trajectory: What is followed.
        stamp_ns: Stamp of its message.
        period_ns: Of the stream that carries it: how often a command is given.
    """

    def __init__(self, trajectory: Trajectory, stamp_ns: int, period_ns: int) -> None:
        self._trajectory, self._stamp_ns = trajectory, stamp_ns
        last_ns = int(trajectory.times_ns[-1])
        # One after the other: a motion of a year, which a message may claim, has too many for a list.
        self._left = chain(range(0, last_ns, period_ns), (last_ns,))
        self._next_ns: int | None = next(self._left)

    def due(self, before_ns: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield (stamp [ns], command (n,)) of what is due before `before_ns` and was not given yet."""
        while self._next_ns is not None and self._stamp_ns + self._next_ns < before_ns:
            after_ns, self._next_ns = self._next_ns, next(self._left, None)
            yield self._stamp_ns + after_ns, self._trajectory.at(after_ns)
