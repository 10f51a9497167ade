"""What the progress of a whole episode says against it: hesitation, retries, a likely failure.

Episodes of one task are held against each other: how long a task rests is a matter of the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
WINDOW_S = 1.0
"""Time over which a rise is looked for [s]."""
SLOW = 0.2
"""Below this share of the usual pace a task hesitates."""
COMPLETE = 0.95
"""Progress above which a task may rest."""
FALL, RECOVERED = 0.1, 0.5
"""A fall of the estimate by this much is one; a retry has made good this share of it."""
END_S = 0.5
"""The last of an episode, whose best value decides whether it was done [s]."""
WEIGHT_OF_RETRY, WEIGHT_OF_FAILURE = 0.5, 2.0


@dataclass(frozen=True)
class Followed:
    """One episode as an estimator saw it: progress (T,), times (T,) [s], and the probability (T,) that the
    task is done, well where the estimator knows failures; None where nothing tells it."""

    name: str
    progress: Floats
    seconds: Floats
    done: Floats | None = None


@dataclass(frozen=True)
class Doubt:
    """What speaks against one episode.

    Attributes:
        hesitation_s: Time without a usual rise [s].
        usual_s: The same in the median episode.
        retries: Falls of progress that were made good.
        failure: 0 (surely done) .. 1.
        last: Progress at the end.
        score: The larger, the sooner it should be looked at; 0: nothing.
    """

    name: str
    hesitation_s: float
    usual_s: float
    retries: int
    failure: float
    last: float
    score: float

    @property
    def reasons(self) -> str:
        """Say what speaks against it."""
        said = []
        if self.hesitation_s > self.usual_s + WINDOW_S:
            said.append(f"hesitates for {self.hesitation_s:.1f} s (others {self.usual_s:.1f} s)")
        if self.retries:
            said.append(f"{self.retries} {'retry' if self.retries == 1 else 'retries'}")
        if self.failure > 0.5:
            said.append(f"probably failed: done {1 - self.failure:.2f}, progress {self.last:.2f} at its end")
        return "; ".join(said)


def doubts(episodes: Sequence[Followed]) -> list[Doubt]:
    """Rank episodes of one task, the most doubtful first."""
    if not episodes:
        return []
    usual_length = float(np.median([episode.seconds[-1] - episode.seconds[0] for episode in episodes]))
    resting = [hesitation_s(episode, 1.0 / max(usual_length, 1e-9)) for episode in episodes]
    usual = float(np.median(resting))
    found = []
    for episode, rest in zip(episodes, resting, strict=True):
        again, failed = retries(episode.progress), likely_failure(episode)
        excess = max(rest - usual, 0.0) / max(usual_length, 1e-9)
        score = excess + WEIGHT_OF_RETRY * again + WEIGHT_OF_FAILURE * max(failed - 0.5, 0.0)
        found.append(Doubt(episode.name, rest, usual, again, failed, float(episode.progress[-1]), score))
    return sorted(found, key=lambda doubt: (-doubt.score, doubt.name))


def hesitation_s(episode: Followed, pace_per_s: float) -> float:
    """Return for how long progress has not risen over the last second as it usually does [s].

    Time after the task is complete, and the first second, do not count.
    """
    progress, seconds = np.asarray(episode.progress, float), np.asarray(episode.seconds, float)
    before = np.interp(seconds - WINDOW_S, seconds, progress)
    still = (progress - before < SLOW * pace_per_s * WINDOW_S) & (progress < COMPLETE)
    still &= seconds - seconds[0] >= WINDOW_S
    steps = np.diff(seconds, prepend=seconds[0])
    return float(steps[still].sum())


def retries(progress: Floats) -> int:
    """Count falls of more than .1 below the best so far of which at least half was made good again."""
    count, best, lowest = 0, -np.inf, np.inf
    for value in np.asarray(progress, float):
        fell = best - lowest > FALL
        if fell and value - lowest >= RECOVERED * (best - lowest):
            count, best, lowest = count + 1, value, np.inf
        elif value >= best:
            best, lowest = value, np.inf
        else:
            lowest = min(lowest, value)
    return count


def likely_failure(episode: Followed) -> float:
    """Return 1 - the best probability of done in the last half second; without one 1 - progress there."""
    last = episode.seconds >= episode.seconds[-1] - END_S
    told = episode.progress if episode.done is None else episode.done
    return float(1.0 - np.clip(np.max(np.asarray(told, float)[last]), 0.0, 1.0))
