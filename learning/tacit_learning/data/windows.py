"""Windows of a table: the observation at t and the chunk of actions from t on, as batches.

Draws are a pure function of (seed, position), so a resumed run goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tacit_learning.data import keys
from tacit_learning.data.episodes import EpisodeTable

Batch = dict[str, Tensor]


class ChunkWindows(Dataset):
    """Every frame of a table as the start of a chunk of K actions.

    Args:
        table: The frames.
        chunk_size: K.
        action_offset: First action of the chunk relative to the observation (0: same tick).
    """

    def __init__(self, table: EpisodeTable, chunk_size: int, action_offset: int = 0) -> None:
        self.table = table
        self.chunk_size = chunk_size
        self.action_offset = action_offset

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Batch:
        """Return the window of one row without batch axis."""
        return {key: value[0] for key, value in self.__getitems__([row]).items()}

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """Return a batch of windows; keys and shapes in `tacit_learning.data.keys`."""
        table, index = self.table, np.asarray(rows)
        images, touch = table.images(rows, _empty)
        action, is_pad = self.chunks(index)
        episode = table.episode_of[index]
        arrays = {
            keys.STATE: table.state[index],
            keys.IMAGES: images,
            keys.TOUCH: touch,
            keys.TAXELS: table.taxels[index],
            keys.BOXES: table.boxes[index],
            keys.BOX_VALID: table.box_valid[index],
            keys.VISIBILITY: table.visibility[index],
            keys.ACTION: action,
            keys.ACTION_IS_PAD: is_pad,
            keys.EPISODE: episode,
            keys.FRAME: index - table.starts[episode],
        }
        return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}

    def chunks(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return actions (B, K, A), the last one repeated past the end, and is_pad (B, K)."""
        table = self.table
        end = table.starts[table.episode_of[rows] + 1]
        wanted = rows[:, None] + self.action_offset + np.arange(self.chunk_size)
        is_pad = wanted >= end[:, None]
        return table.action[np.minimum(wanted, end[:, None] - 1)], is_pad


class StepSampler:
    """Rows of every batch from a start on, without end: shuffled passes over all rows.

    Args:
        num_rows: Rows to draw from.
        batch_size: Rows per batch and process.
        seed: Seed of the shuffles.
        start: Number of batches already used by each process.
        rank: This process.
        world: Number of processes.
        weights: How often each row is drawn (num_rows,), beside the others; in every pass each row is drawn
            as often as its share says, rounded up or down. All alike when left out: once.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world = world
        self.weights = weights

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        shuffles: dict[int, np.ndarray] = {}
        while True:
            first = (step * self.world + self.rank) * self.batch_size
            positions = np.arange(first, first + self.batch_size)
            passes = positions // self.num_rows
            shuffles = {int(p): shuffles.get(int(p), self._shuffle(int(p))) for p in np.unique(passes)}
            yield [int(shuffles[int(p)][i % self.num_rows]) for p, i in zip(passes, positions, strict=True)]
            step += 1

    def _shuffle(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, number])
        if self.weights is None:
            return rng.permutation(self.num_rows)
        # Evenly spaced marks over the heaped up weights: no row is drawn by luck alone.
        edges = np.cumsum(self.weights)
        marks = (np.arange(self.num_rows) + rng.random()) * edges[-1] / self.num_rows
        rows = np.searchsorted(edges, marks, side="right")
        return rng.permutation(np.minimum(rows, np.flatnonzero(self.weights)[-1]))


def make_loader(windows: ChunkWindows, sampler: StepSampler, num_workers: int) -> DataLoader:
    """Return a loader of whole batches; workers open their own files."""
    return DataLoader(
        windows,
        batch_sampler=sampler,  # type: ignore[arg-type]
        collate_fn=_identity,  # type: ignore[arg-type]  # windows give whole batches
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_alone,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else opening the loader would draw from the training's generator
    )


def fixed_batches(windows: ChunkWindows, batch_size: int, limit: int) -> Iterator[Batch]:
    """Yield at most `limit` batches of evenly spread rows, the same at every validation.

    Each batch mixes episodes: what it tells apart are not neighbours in time.
    """
    count = min(len(windows), batch_size * limit)
    rows = np.unique(np.linspace(0, len(windows) - 1, count).round().astype(int))
    rows = np.random.default_rng(0).permutation(rows)
    for start in range(0, len(rows), batch_size):
        yield windows.__getitems__(rows[start : start + batch_size].tolist())


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array u1 to be filled: where a loading process will send it, in memory that both share.

    So torch need not copy it once more, as its own collation does.
    """
    if get_worker_info() is None:
        return np.empty(shape, np.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(shape), device="cpu")
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape).numpy()


def _alone(worker: int) -> None:
    """Begin a loading process: threads of OpenCV do not survive a fork, and there is a process per core."""
    cv2.setNumThreads(0)


def _identity(batch: Batch) -> Batch:
    return batch
