"""Choose how a policy's chunks are played: try each way in the cell, also with late inference.

The best way differs from policy to policy, and it decides success: one bundle did 40 of 40 when its chunks
were averaged and 20 of 40 when they were cross-faded. `tacit evaluate --choose-playing` writes the best
into the bundle, where node and simulator find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tacit.bundle.player import PlaySpec

WAYS = (
    PlaySpec(),
    PlaySpec(every_ticks=2),
    PlaySpec(every_ticks=5),
    PlaySpec(mode="blend", every_ticks=5),
    PlaySpec(mode="blend", every_ticks=10),
    PlaySpec(mode="replace", every_ticks=10),
)
"""What is tried. Of equals the first is chosen: more frequent looks correct more of what goes wrong."""

LATENCIES_MS = (0.0, 40.0, 80.0, 120.0)
"""How late inference is in turn: up to three ticks of 25 Hz, what a small CPU needs for a large policy."""

SuccessOf = Callable[[PlaySpec, float, int], bool]
"""Plays one episode: way, latency [ms] and seed in, success out."""


@dataclass(frozen=True)
class Trial:
    """Successes of one way of playing, for each latency in `LATENCIES_MS`, of `episodes` each."""

    play: PlaySpec
    successes: tuple[int, ...]
    episodes: int

    @property
    def total(self) -> int:
        """Successes over all latencies."""
        return sum(self.successes)


def trials(chunk_size: int, seeds: Iterable[int], success_of: SuccessOf) -> Iterator[Trial]:
    """Try every way whose chunks of `chunk_size` rows last until the next, on the same `seeds`."""
    starts = tuple(seeds)
    for play in WAYS:
        if play.every_ticks < chunk_size:
            successes = tuple(
                sum(success_of(play, latency_ms, seed) for seed in starts) for latency_ms in LATENCIES_MS
            )
            yield Trial(play, successes, len(starts))


def best(tried: Iterable[Trial]) -> PlaySpec:
    """Return the way with the most successes over all latencies; the first of equals."""
    return max(tried, key=lambda trial: trial.total).play
