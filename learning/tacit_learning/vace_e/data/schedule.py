"""Which windows every step reads: a pure function of the seed, so any step can be the first."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from tacit_learning.engine.stages import Stage, StageConfig, plan_stages
from tacit_learning.vace_e.data.batch_choice import BucketSampler
from tacit_learning.vace_e.data.dataset import VaceEDataset


class Schedule:
    """Batches of all epochs of a run, for one process.

    An optimiser step takes `accumulate` batches; where an epoch ends inside a step, its first batches
    come again.

    Args:
        sampler: Batches of an epoch.
        accumulate: Batches per optimiser step.
        turns: The windows of each item of the sampler, which take turns epoch by epoch; None: items are
            windows.
    """

    def __init__(
        self, sampler: BucketSampler, accumulate: int = 1, turns: Sequence[Sequence[int]] | None = None
    ) -> None:
        self.sampler = sampler
        self.turns = turns or [[item] for item in range(len(sampler.buckets))]
        self.accumulate = accumulate
        self.stages: tuple[Stage, ...] = ()
        self._ends: list[int] = []
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def plan(self, stages: Mapping[str, StageConfig], epochs: int, learning_rate: float) -> None:
        """Lay out stages and epochs; see `plan_stages`."""
        self.stages = plan_stages(stages, self.steps_in_epoch, epochs, learning_rate)
        count = self.stages[-1].first_epoch + self.stages[-1].epochs
        self._ends = list(accumulate(self.steps_in_epoch(epoch) for epoch in range(count)))

    @property
    def num_steps(self) -> int:
        """Optimiser steps of all stages."""
        return self._ends[-1]

    def steps_in_epoch(self, epoch: int) -> int:
        """Return the optimiser steps of an epoch."""
        return -(-len(self._batches(epoch)) // self.accumulate)

    def epoch_of(self, step: int) -> int:
        """Return the epoch of a step; the number of epochs after the last."""
        return bisect_right(self._ends, step)

    def numbers(self, step: int, micro: int) -> list[int]:
        """Return the windows of batch `micro` of an optimiser step."""
        epoch = self.epoch_of(step)
        batches = self._batches(epoch)
        first = self._ends[epoch - 1] if epoch else 0
        items = batches[((step - first) * self.accumulate + micro) % len(batches)]
        return [self.turns[item][epoch % len(self.turns[item])] for item in items]

    def _batches(self, epoch: int) -> list[list[int]]:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.sampler.epoch(epoch))
        return self._epoch[1]


def make_sampler(
    dataset: VaceEDataset, batch_size: int, *, repeat: int, seed: int, rank: int, world: int
) -> BucketSampler:
    """Return batches of windows of one size, with or without a reference image, bodies and tasks evenly."""
    windows = [turns[0] for turns in dataset.turns()]
    return BucketSampler(
        [(*dataset.bucket(i), dataset.record(i).reference is not None) for i in windows],
        batch_size,
        embodiments=[dataset.embodiment_label(i) for i in windows],
        tasks=[dataset.record(i).task for i in windows],
        repeat=repeat,
        seed=seed,
        rank=rank,
        world=world,
    )
