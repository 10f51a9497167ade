"""Chunks in time: which target holds now, when chunks overlap, arrive late, or run out.

Row i of a chunk is the target for `stamp + i * period`, whenever the chunk arrives: what its
inference took is skipped, never replayed. Pure: time is passed in, in nanoseconds of one clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tacit.config import Config, parse
from tacit.geometry.transforms import FloatArray

PlayMode = Literal["blend", "open_loop", "replace", "temporal_ensemble"]
PLAY_MODES: tuple[str, ...] = get_args(PlayMode)

DEFAULT_BLEND = 10
"""Rows of cross-fade: took the rms acceleration at chunk seams down about tenfold at 50 Hz."""

DEFAULT_DECAY = 0.01
"""m of the ensemble weights exp(-m i), i = 0 the oldest prediction (Zhao et al. 2023)."""


class PlaySpec(Config):
    """How the chunks of one policy are played; part of its bundle, because success depends on it.

    The defaults did best of all ways that were tried: one policy, 40 starts of `place_cube`, averaging
    with inference at every tick 40, `replace` every 12 ticks 31, `blend` every 10 ticks 20.

    Attributes:
        mode: How overlapping chunks are joined; see `ChunkPlayer`.
        every_ticks: Ticks from one inference to the next, where inference keeps up. `open_loop` asks for
            the next chunk when the present one nears its end instead.
        blend: Rows of cross-fade in mode `blend`.
        decay: m of the weights exp(-m i) in mode `temporal_ensemble`.
    """

    mode: PlayMode = "temporal_ensemble"
    every_ticks: Annotated[int, Field(ge=1)] = 1
    blend: Annotated[int, Field(ge=0)] = DEFAULT_BLEND
    decay: Annotated[float, Field(ge=0)] = DEFAULT_DECAY

    def __str__(self) -> str:
        if self.mode == "open_loop":
            return "open_loop, one chunk after the other"
        detail = {
            "blend": f", {self.blend} rows of cross-fade",
            "temporal_ensemble": f", decay {self.decay:g}",
        }
        often = "every tick" if self.every_ticks == 1 else f"every {self.every_ticks} ticks"
        return f"{self.mode}{detail.get(self.mode, '')}, inference at {often}"


@dataclass(frozen=True)
class PlayFlags:
    """How chunks are played, where it shall not be as the bundle says; each may be left out."""

    mode: PlayMode | None = None
    """How overlapping chunks are joined."""
    every: int | None = None
    """Ticks from one inference to the next."""
    blend: int | None = None
    """Rows of cross-fade in mode blend."""
    decay: float | None = None
    """m of the weights exp(-m i) in mode temporal_ensemble."""

    def applied(self, play: PlaySpec, chunk_size: int) -> PlaySpec:
        """Return `play` with what is given here.

        Another mode brings its own usual number of ticks: as many as it fades over for `blend`, so that
        one fade ends before the next begins, but at most half of a chunk's `chunk_size` rows; every tick
        for the rest.
        """
        given = {"mode": self.mode, "every_ticks": self.every, "blend": self.blend, "decay": self.decay}
        fields = play.model_dump() | {key: value for key, value in given.items() if value is not None}
        if self.every is None and fields["mode"] != play.mode:
            fades = fields["mode"] == "blend"
            fields["every_ticks"] = max(1, min(fields["blend"], chunk_size // 2)) if fades else 1
        return parse(PlaySpec, fields, "how chunks are played")


class TemporalEnsembler:
    """Average of all predictions for the current step, one new chunk at every step.

    w_i = exp(-m i), i = 0 the OLDEST prediction still reaching this step, normalised (Zhao et al.
    2023, arXiv:2304.13705, section IV-B). Predictions are counted, so a target that is exactly
    zero is a value like any other; the authors' code takes it for a missing one.
    """

    def __init__(self, chunk_size: int, m: float = DEFAULT_DECAY) -> None:
        self._m = m
        self._chunk_size = chunk_size
        self._chunks: deque[FloatArray] = deque(maxlen=chunk_size)

    def reset(self) -> None:
        """Forget all chunks."""
        self._chunks.clear()

    def update(self, chunk: NDArray[np.floating]) -> FloatArray:
        """Take the chunk (K, A) predicted at this step and return the action (A,) of this step.

        Raises:
            ValueError: The chunk does not have `chunk_size` rows.
        """
        if chunk.ndim != 2 or len(chunk) != self._chunk_size:
            raise ValueError(f"chunk of shape {chunk.shape}, expected ({self._chunk_size}, A)")
        self._chunks.append(np.asarray(chunk, dtype=np.float64))
        ages = range(len(self._chunks) - 1, -1, -1)
        rows = np.stack([past[age] for past, age in zip(self._chunks, ages, strict=True)])
        return _ensemble(rows, self._m)


@dataclass(frozen=True)
class _Trajectory:
    """Rows (K, A) from `start_ns` on, one a period; between two rows it is a straight line."""

    rows: FloatArray
    start_ns: int
    period_ns: int

    def position(self, now_ns: int) -> float:
        """Return where `now_ns` falls, in rows from the first."""
        return (now_ns - self.start_ns) / self.period_ns

    def holds(self, now_ns: int) -> bool:
        """Tell whether the last row is not over yet."""
        return self.position(now_ns) < len(self.rows)

    def at(self, now_ns: int) -> FloatArray:
        """Return the target (A,); before the first and after the last row, that row."""
        position = min(max(self.position(now_ns), 0.0), len(self.rows) - 1.0)
        index = min(int(position), len(self.rows) - 2) if len(self.rows) > 1 else 0
        fraction = position - index
        if fraction == 0.0:
            return self.rows[index].copy()
        return (1.0 - fraction) * self.rows[index] + fraction * self.rows[index + 1]


class ChunkPlayer:
    """Plays chunks of actions against a clock.

    Modes: `blend` cross-fades from the trajectory in force to the new chunk over `blend` rows,
    alpha_j = min(1, (j - skip + 1) / (blend + 1)); `replace` jumps to it; `open_loop` plays each
    chunk to its end and then takes the newest; `temporal_ensemble` averages all chunks that reach
    the current time, weights exp(-m i), i = 0 the oldest. All skip the rows that lie in the past.

    Until the first command after `reset` the robot stands still, however long the first inference
    takes: a chunk from an observation of that time starts, row 0, with that first command. Skipping
    there would be a jump, for there is nothing to catch up with.

    Args:
        period_ns: Time from row to row [ns].
        mode: See above.
        blend: Rows of cross-fade.
        m: Decay of the ensemble weights.
    """

    def __init__(
        self, period_ns: int, mode: PlayMode = "blend", blend: int = DEFAULT_BLEND, m: float = DEFAULT_DECAY
    ) -> None:
        if mode not in PLAY_MODES:
            raise ValueError(f"mode {mode!r}, expected one of {', '.join(PLAY_MODES)}")
        if period_ns <= 0 or blend < 0:
            raise ValueError(f"period {period_ns} ns and blend {blend}, expected > 0 and >= 0")
        self.mode = mode
        self._period_ns, self._blend, self._m = period_ns, blend, m
        self.reset()

    @classmethod
    def of(cls, play: PlaySpec, period_ns: int) -> ChunkPlayer:
        """Return the player of a way of playing."""
        return cls(period_ns, play.mode, play.blend, play.decay)

    def reset(self) -> None:
        """Forget all chunks; the next one starts from standstill."""
        self._pending: list[_Trajectory] = []
        self._playing: list[_Trajectory] = []
        self._started_ns: int | None = None
        self.disagreement = 0.0

    def add(self, chunk: NDArray[np.floating], stamp_ns: int) -> None:
        """Hand in a chunk (K, A) made from the observation at `stamp_ns`; it counts from the next command."""
        rows = np.array(chunk, dtype=np.float64)
        if rows.ndim != 2 or len(rows) == 0:
            raise ValueError(f"chunk of shape {rows.shape}, expected (K, A)")
        start_ns = stamp_ns if self._started_ns is None else max(stamp_ns, self._started_ns)
        self._pending.append(_Trajectory(rows, start_ns, self._period_ns))

    def command(self, now_ns: int) -> FloatArray | None:
        """Return the target (A,) at `now_ns`, or None when no chunk reaches it."""
        if self._pending and self._started_ns is None:
            self._pending = [replace(self._pending[-1], start_ns=now_ns)]
            self._started_ns = now_ns
        if self._pending and not (self.mode == "open_loop" and self.rows_left(now_ns)):
            self._take(now_ns)
        self._playing = [trajectory for trajectory in self._playing if trajectory.holds(now_ns)]
        if not self._playing:
            return None
        if self.mode == "temporal_ensemble":
            return _ensemble(np.stack([trajectory.at(now_ns) for trajectory in self._playing]), self._m)
        return self._playing[-1].at(now_ns)

    def rows_left(self, now_ns: int) -> int:
        """Return how many whole rows the chunks in force still hold after `now_ns`."""
        left = [len(t.rows) - t.position(now_ns) for t in self._playing]
        return max(0, int(max(left, default=0.0)))

    def _take(self, now_ns: int) -> None:
        """Put the pending chunks in force."""
        pending, self._pending = self._pending, []
        newest = pending[-1]
        if self._playing:
            old = self._playing[-1]
            self.disagreement = float(np.abs(newest.at(now_ns) - old.at(now_ns)).max())
        if self.mode == "temporal_ensemble":
            self._playing += pending
        elif self.mode == "blend" and self._playing and self._playing[-1].holds(now_ns):
            self._playing = [self._faded(self._playing[-1], newest, now_ns)]
        else:
            self._playing = [newest]

    def _faded(self, old: _Trajectory, new: _Trajectory, now_ns: int) -> _Trajectory:
        skip = new.position(now_ns)
        rows = new.rows.copy()
        for j in range(max(0, int(skip)), len(rows)):
            alpha = min(1.0, (j - skip + 1) / (self._blend + 1))
            if alpha >= 1.0:
                break
            rows[j] = alpha * rows[j] + (1 - alpha) * old.at(new.start_ns + j * self._period_ns)
        return _Trajectory(rows, new.start_ns, self._period_ns)


def _ensemble(rows: FloatArray, m: float) -> FloatArray:
    """Return the weighted mean of predictions (n, A), the oldest first."""
    weights = np.exp(-m * np.arange(len(rows)))
    return weights @ rows / weights.sum()
