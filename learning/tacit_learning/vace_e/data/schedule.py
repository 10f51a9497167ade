"""Which windows every step reads: a pure function of the seed, so any step can be the first."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from tacit_learning.engine.stages import Stage, StageConfig, plan_stages
from tacit_learning.vace_e.data.batch_choice import BucketSampler
from tacit_learning.vace_e.data.dataset import VaceEDataset


class Items(NamedTuple):
    """Batches of items, and the windows of each item, which take turns epoch by epoch."""

    sampler: BucketSampler
    turns: Sequence[Sequence[int]]


class Schedule:
    """Batches of all epochs of a run, for one process.

    An optimiser step takes `accumulate` batches; where an epoch ends inside a step, its first batches
    come again.

    Args:
        sampler: Batches of an epoch.
        accumulate: Batches per optimiser step.
        turns: The windows of each item of the sampler, which take turns epoch by epoch; None: items are
            windows.
        shorter: Other items, by the frames that a stage may ask for.
    """

    def __init__(
        self,
        sampler: BucketSampler,
        accumulate: int = 1,
        turns: Sequence[Sequence[int]] | None = None,
        shorter: Mapping[int, Items] | None = None,
    ) -> None:
        self.sampler = sampler
        whole = Items(sampler, turns or [[item] for item in range(len(sampler.buckets))])
        self._items: dict[int | None, Items] = {None: whole}
        for length, each in (shorter or {}).items():
            self._items[length] = each
        self._lengths: list[int | None] = []
        self.accumulate = accumulate
        self.stages: tuple[Stage, ...] = ()
        self._ends: list[int] = []
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def plan(self, stages: Mapping[str, StageConfig], epochs: int, learning_rate: float) -> None:
        """Lay out stages and epochs; see `plan_stages`. A stage may have `num_frames` of its own."""
        for stage in stages.values():
            length = getattr(stage, "num_frames", None)
            self._lengths += [length if length in self._items else None] * (stage.epochs or epochs)
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
        turns = self._of(epoch).turns
        return [turns[item][epoch % len(turns[item])] for item in items]

    def _of(self, epoch: int) -> Items:
        return self._items[self._lengths[epoch] if epoch < len(self._lengths) else None]

    def _batches(self, epoch: int) -> list[list[int]]:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._of(epoch).sampler.epoch(epoch))
        return self._epoch[1]


def make_sampler(
    dataset: VaceEDataset,
    batch_size: int,
    *,
    repeat: int,
    seed: int,
    rank: int,
    world: int,
    length: int | None = None,
) -> BucketSampler:
    """Return batches of windows of one size, with or without a reference image, bodies and tasks evenly."""
    windows = [turns[0] for turns in dataset.turns(length)]
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
