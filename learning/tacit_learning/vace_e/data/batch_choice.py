"""Which items make a batch: buckets of one size, bodies and tasks evenly, classes with positives.

Every draw is a pure function of (seed, epoch or step), so a resumed run goes on where it stopped and
ranks agree without talking. Nothing is dropped: what does not fill a batch is filled by repeats, and
counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from tacit.errors import ConfigError
from tacit_learning.data.labels import UNKNOWN

MIN_PER_CLASS = 2
"""Fewer items of a class in a batch than this have no positive."""


class BucketSampler:
    """Batches of items of one bucket, for one process; every process has as many.

    An epoch draws `repeat` times as many items as there are: first evenly from the embodiments, then
    evenly from the tasks of each, then every episode of a task before any a second time.

    Args:
        buckets: Bucket of each item; any value that can be compared for equality and sorted.
        batch_size: Items per batch and process.
        embodiments: Embodiment of each item; None: all items are equal.
        tasks: Task of each item.
        repeat: Passes over the data that make one epoch.
        seed: Another seed, other batches.
        rank: This process.
        world: Number of processes.
    """

    def __init__(
        self,
        buckets: Sequence[Hashable],
        batch_size: int,
        *,
        embodiments: Sequence[Hashable] | None = None,
        tasks: Sequence[Hashable] | None = None,
        repeat: int = 1,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not len(buckets) or batch_size < 1 or repeat < 1 or not 0 <= rank < world:
            raise ValueError(
                f"{len(buckets)} items, batch {batch_size}, repeat {repeat}, rank {rank} of {world}"
            )
        self.buckets = list(buckets)
        self.batch_size = batch_size
        self.repeat = repeat
        self.seed = seed
        self.rank = rank
        self.world = world
        self._groups = _nested_groups(len(self.buckets), embodiments, tasks)

    def epoch(self, number: int) -> list[list[int]]:
        """Return the batches of this process in epoch `number`."""
        rng = np.random.default_rng([self.seed, number])
        whole = [
            items[start : start + self._step]
            for items in self._filled(rng).values()
            for start in range(0, len(items), self._step)
        ]
        order = rng.permutation(len(whole))
        share = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return [whole[i][share] for i in order]

    def padding(self, number: int = 0) -> dict[Hashable, int]:
        """Return how many items of each bucket are repeats that fill its last batch."""
        drawn = self._drawn(np.random.default_rng([self.seed, number]))
        return {bucket: -len(items) % self._step for bucket, items in drawn.items()}

    def lines(self, number: int = 0) -> list[str]:
        """Say per bucket how many items it holds and how many repeats fill its batches."""
        padding = self.padding(number)
        counts = {bucket: self.buckets.count(bucket) for bucket in padding}
        return [
            f"bucket {_shown(bucket)}: {counts[bucket]} items, {extra} repeats fill batches of {self._step}"
            for bucket, extra in padding.items()
        ]

    @property
    def _step(self) -> int:
        return self.batch_size * self.world

    def _drawn(self, rng: np.random.Generator) -> dict[Hashable, list[int]]:
        """Draw the items of an epoch, by bucket."""
        items = _draw_evenly(self._groups, len(self.buckets) * self.repeat, rng)
        by_bucket: dict[Hashable, list[int]] = {bucket: [] for bucket in sorted(set(self.buckets), key=repr)}
        for item in items:
            by_bucket[self.buckets[item]].append(item)
        return {bucket: items for bucket, items in by_bucket.items() if items}

    def _filled(self, rng: np.random.Generator) -> dict[Hashable, list[int]]:
        drawn = self._drawn(rng)
        return {
            bucket: items + [items[i % len(items)] for i in range(-len(items) % self._step)]
            for bucket, items in drawn.items()
        }


class Draw(NamedTuple):
    """One row of a feature batch: an item, and which jittered view of it."""

    item: int
    view: int


class FeatureBatchSampler:
    """Batches with several items of each task class, for losses on features: P classes x K.

    As many classes as leave each at least `views` x 2 rows; the embodiments of a class take turns; an
    item comes in `views` jittered views, so a class of one item has positives too. Items whose task is
    unknown are left out.

    Args:
        tasks: Task label of each item; -1 unknown.
        embodiments: Embodiment label of each item.
        batch_size: Rows over all processes.
        views: Views of an item.
        seed: Another seed, other batches.
        rank: This process.
        world: Number of processes.

    Raises:
        ConfigError: No labelled item, or a size that cannot be shared evenly.
    """

    def __init__(
        self,
        tasks: Sequence[int] | np.ndarray,
        embodiments: Sequence[int] | np.ndarray,
        batch_size: int = 256,
        *,
        views: int = 2,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % world or batch_size < MIN_PER_CLASS:
            raise ConfigError(
                f"feature_batch: {batch_size} rows over {world} processes; expected a multiple of {world}, "
                f"at least {MIN_PER_CLASS}"
            )
        labels = np.asarray(tasks)
        self.classes = sorted(set(labels[labels != UNKNOWN].tolist()))
        if not self.classes:
            raise ConfigError(
                "feature_batch: no episode has a task label; give metadata, or feature_batch: 0"
            )
        bodies = np.asarray(embodiments)
        self._members = {c: _by_body(np.flatnonzero(labels == c), bodies) for c in self.classes}
        self.batch_size = batch_size
        self.views = views
        self.seed = seed
        self._share = slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    @property
    def classes_per_batch(self) -> int:
        """P."""
        return max(1, min(len(self.classes), self.batch_size // (MIN_PER_CLASS * self.views)))

    def batch(self, step: int) -> list[Draw]:
        """Return the rows of this process at a step."""
        return self.whole_batch(step)[self._share]

    def whole_batch(self, step: int) -> list[Draw]:
        """Return the rows of all processes at a step."""
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.permutation(len(self.classes))[: self.classes_per_batch]
        quotas = _quotas(self.batch_size, len(chosen), rng)
        return [
            row for c, quota in zip(chosen, quotas, strict=True) for row in self._rows(int(c), quota, rng)
        ]

    def _rows(self, number: int, quota: int, rng: np.random.Generator) -> list[Draw]:
        bodies = self._members[self.classes[number]]
        items = _draw_evenly([[body] for body in bodies], -(-quota // self.views), rng)
        return [Draw(item, view) for item in items for view in range(self.views)][:quota]


def _by_body(items: np.ndarray, bodies: np.ndarray) -> list[list[int]]:
    return [items[bodies[items] == body].tolist() for body in sorted(set(bodies[items].tolist()))]


def _nested_groups(
    count: int, embodiments: Sequence[Hashable] | None, tasks: Sequence[Hashable] | None
) -> list[list[list[int]]]:
    """Return items by embodiment and, inside, by task; groups in the order of their first item."""
    outer: dict[Hashable, dict[Hashable, list[int]]] = {}
    for item in range(count):
        body = None if embodiments is None else embodiments[item]
        task = None if tasks is None else tasks[item]
        outer.setdefault(body, {}).setdefault(task, []).append(item)
    return [list(inner.values()) for inner in outer.values()]


def _draw_evenly(groups: list[list[list[int]]], count: int, rng: np.random.Generator) -> list[int]:
    """Draw `count` items: evenly from the outer groups, then evenly from the inner, mixed at the end."""
    items: list[int] = []
    for quota, inner in zip(_quotas(count, len(groups), rng), groups, strict=True):
        for part, members in zip(_quotas(quota, len(inner), rng), inner, strict=True):
            items += _passes(members, part, rng)
    return [items[i] for i in rng.permutation(len(items))]


def _passes(members: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Draw `count` members, each once before any a second time."""
    drawn: list[int] = []
    while len(drawn) < count:
        drawn += [members[i] for i in rng.permutation(len(members))]
    return drawn[:count]


def _quotas(count: int, parts: int, rng: np.random.Generator) -> list[int]:
    """Split `count` into `parts` that differ by at most one; who gets more is drawn."""
    quotas = np.full(parts, count // parts)
    quotas[rng.permutation(parts)[: count % parts]] += 1
    return quotas.tolist()


def _shown(bucket: Hashable) -> str:
    return "x".join(map(str, bucket)) if isinstance(bucket, tuple) else str(bucket)
