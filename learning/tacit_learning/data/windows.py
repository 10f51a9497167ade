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
MOVES_M = 0.001  # [m] per tick; a gripper that is commanded to move less keeps its opening
NEVER = 1 << 30  # ticks to what does not come


class ChunkWindows(Dataset):
    """Every frame of a table as the start of a chunk of K actions.

    Args:
        table: The frames.
        chunk_size: K.
        action_offset: First action of the chunk relative to the observation (0: same tick).
        future_ticks: How much later the touch is that a batch holds too; 0: none.
    """

    def __init__(
        self, table: EpisodeTable, chunk_size: int, action_offset: int = 0, future_ticks: int = 0
    ) -> None:
        self.table = table
        self.chunk_size = chunk_size
        self.action_offset = action_offset
        self.future_ticks = future_ticks
        grippers = list(table.rig.gripper_indices)
        each = [ticks_to_grip(episode.action[:, grippers]) for episode in table.episodes]
        self._ticks_to_grip = np.concatenate(each)

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
        wanted = self._wanted(index)
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
            keys.TICKS_TO_GRIP: self._ticks_to_grip[wanted],
            keys.EPISODE: episode,
            keys.FRAME: index - table.starts[episode],
        }
        arrays |= self._future(index) if self.future_ticks else {}
        return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}

    def _future(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the touch of later frames; that of the last one where the episode ends before."""
        table, later = self.table, rows + self.future_ticks
        end = table.starts[table.episode_of[rows] + 1]
        rows = np.minimum(later, end - 1)
        return {
            keys.FUTURE_TOUCH: table.images(rows.tolist(), _empty)[1],
            keys.FUTURE_TAXELS: table.taxels[rows],
            keys.FUTURE_VALID: later < end,
        }

    def chunks(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return actions (B, K, A), the last one repeated past the end, and is_pad (B, K)."""
        wanted = self._wanted(rows)
        is_pad = wanted < rows[:, None] + self.action_offset + np.arange(self.chunk_size)
        return self.table.action[wanted], is_pad

    def _wanted(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames of the actions of each chunk (B, K); past the end, the last one."""
        end = self.table.starts[self.table.episode_of[rows] + 1]
        return np.minimum(rows[:, None] + self.action_offset + np.arange(self.chunk_size), end[:, None] - 1)


def ticks_to_grip(openings: np.ndarray) -> np.ndarray:
    """Count the ticks until a gripper next begins to open or close.

    Args:
        openings: Commanded (T, G) [m].

    Returns:
        (T,) i8; 0 at the first tick with another opening; NEVER where none comes any more.
    """
    moves = np.asarray(np.any(np.abs(np.diff(openings, axis=0)) > MOVES_M, axis=1))
    begins = np.flatnonzero(moves & ~np.concatenate([[False], moves[:-1]])) + 1
    ticks = np.arange(len(openings))
    if not len(begins):
        return np.full(len(openings), NEVER)
    index = np.searchsorted(begins, ticks)
    return np.where(index < len(begins), begins[np.minimum(index, len(begins) - 1)] - ticks, NEVER)


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
        together: How many frames of one episode follow each other.
        episodes: Which episode each row is of (num_rows,); where frames go together.
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
        together: int = 1,
        episodes: np.ndarray | None = None,
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world = world
        self.weights = weights
        self.together = together
        self.episodes = episodes

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
        rows = self._draw(rng)
        if self.together == 1 or self.episodes is None:
            return rows
        # Rows of an episode in the order of the draw, cut into groups; and the groups in disorder.
        rows = rows[np.argsort(self.episodes[rows], kind="stable")]
        _, starts = np.unique(self.episodes[rows], return_index=True)
        parts = np.split(rows, starts[1:])
        groups = [part[i : i + self.together] for part in parts for i in range(0, len(part), self.together)]
        return np.concatenate([groups[i] for i in rng.permutation(len(groups))])

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
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
