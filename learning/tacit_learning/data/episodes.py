"""Episodes as one table of frames: low-dimensional rows in memory, images cached or read on demand.

Every resize goes through `tacit.images.ImageTransform`, which moves pixels and boxes together.
Legend: T frames of all episodes, N cameras, S sensors, A state and action width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tacit.episode import Step, find_episodes
from tacit.episode.index import list_episodes
from tacit.episode.many import MANY, read_many
from tacit.episode.secure import trust_checked
from tacit.errors import EpisodeError
from tacit.rig import Rig
from tacit_learning.data.contract import Contract, Reading
from tacit_learning.data.pictures import (
    CachedImages,
    Pictures,
    ReaderImages,
    Source,
    all_pictures,
    no_contact,
)
from tacit_learning.data.rows import Rows, load_rows, read_rows, save_rows
from tacit_learning.data.taxels import read_taxels
from tacit_learning.data.view import DataConfig, View

LOAD_THREADS = 2
STILL = 1e-6  # [rad, m]; a smaller step of the action is no motion
MAX_REFERENCES = 64  # episodes that the no-contact image is averaged over; more tell nothing new


@dataclass(frozen=True)
class Episode:
    """The low-dimensional part of one episode and where it came from; frame 0 is `first` of the file."""

    path: Path
    state: np.ndarray  # (t, A) f4
    action: np.ndarray  # (t, A) f4
    boxes: np.ndarray  # (t, N, S, 4) f4, edges in pixels of the policy image
    box_valid: np.ndarray  # (t, N, S) bool
    visibility: np.ndarray  # (t, N, S) f4
    steps: tuple[Step, ...]  # annotated, in order of their starts; their frames count from `first`
    fps: float
    first: int = 0
    file_ticks: int = 0  # ticks of the file, trimmed ones too; 0 where there is no file
    failures: tuple[Step, ...] = ()  # what went wrong, by kind, as the steps are counted
    task_steps: tuple[str, ...] = ()  # of the whole task, also those that this episode lacks
    success: bool | None = None
    task: str = ""
    taxels: np.ndarray | None = None  # (t, M) f4; None: no arrays

    @property
    def num_ticks(self) -> int:
        """Number of frames."""
        return len(self.state)


ImageSource = Callable[[int, int], Pictures]
Empty = Callable[[tuple[int, ...]], np.ndarray]


def empty_u1(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array u1 to be filled."""
    return np.empty(shape, np.uint8)


class EpisodeTable:
    """Frames of several episodes under one running row number.

    Args:
        episodes: In order.
        rig: The rig all of them were recorded with.
        view: What to read of every frame.
        references: No-contact touch images (S, h, w, 3) u1, the mean of the episodes'.
        images: Returns the N pictures (H, W, 3) and S (h, w, 3) u1 of (episode index, frame).
    """

    def __init__(
        self, episodes: Sequence[Episode], rig: Rig, view: View, references: np.ndarray, images: ImageSource
    ) -> None:
        self.episodes = list(episodes)
        self.rig = rig
        self.view = view
        self.references = references
        self._images = images
        lengths = np.array([episode.num_ticks for episode in self.episodes])
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.episode_of = np.repeat(np.arange(len(lengths)), lengths)
        self.state = np.concatenate([episode.state for episode in self.episodes])
        self.action = np.concatenate([episode.action for episode in self.episodes])
        self.boxes = np.concatenate([episode.boxes for episode in self.episodes])
        self.box_valid = np.concatenate([episode.box_valid for episode in self.episodes])
        self.visibility = np.concatenate([episode.visibility for episode in self.episodes])
        self.taxels = np.concatenate([_taxels(episode) for episode in self.episodes])
        self.episodes = [self._shared(episode, i) for i, episode in enumerate(self.episodes)]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _shared(self, episode: Episode, number: int) -> Episode:
        """Return an episode whose arrays are parts of the table's: rows are held once."""
        rows = slice(self.starts[number], self.starts[number + 1])
        return replace(
            episode,
            state=self.state[rows],
            action=self.action[rows],
            boxes=self.boxes[rows],
            box_valid=self.box_valid[rows],
            visibility=self.visibility[rows],
            taxels=self.taxels[rows],
        )

    @property
    def fps(self) -> float:
        """Tick rate of the first episode [Hz]."""
        return self.episodes[0].fps

    def images(self, rows: Sequence[int], empty: Empty = empty_u1) -> tuple[np.ndarray, np.ndarray]:
        """Return camera (B, N, H, W, 3) and touch images (B, S, h, w, 3) u1 of `rows`.

        Args:
            rows: Which.
            empty: Makes an array of a shape, to be filled.
        """
        cameras, touch = (empty((len(rows), *shape)) for shape in self.view.shapes)
        for i, row in enumerate(rows):
            episode = int(self.episode_of[row])
            seen, felt = self._images(episode, int(row - self.starts[episode]))
            for n, picture in enumerate(seen):
                cameras[i, n] = picture
            for s, picture in enumerate(felt):
                touch[i, s] = picture
        return cameras, touch


def split_episodes(paths: Sequence[Path], train_ratio: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Split episodes into (train, validation) by seed; validation has at least one if there are two."""
    order = np.random.default_rng(seed).permutation(len(paths))
    count = round(len(paths) * train_ratio)
    count = min(max(count, 1), max(len(paths) - 1, 1))
    chosen = set(order[:count].tolist())
    train = [path for i, path in enumerate(paths) if i in chosen]
    return train, [path for i, path in enumerate(paths) if i not in chosen]


def find_training_episodes(config: DataConfig) -> list[Path]:
    """List the episodes of all data sets; failures are left out when `only_success`.

    Raises:
        EpisodeError: A data set holds no usable episode.
    """
    found: list[Path] = []
    for root in config.datasets:
        paths = _successes(Path(root)) if config.only_success else find_episodes(root)
        if not paths:
            raise EpisodeError(f"data.datasets: {root}: {_why_none(root)}")
        found += paths
    return found


def load_table(paths: Sequence[Path], config: DataConfig) -> EpisodeTable:
    """Read the low-dimensional part of `paths` and prepare their images.

    Raises:
        EpisodeError: Another rig or rate in between, an unknown camera, a sensor without reference.
    """
    if not paths:
        raise EpisodeError("no episode to load")
    every = _all_rows(paths)
    contract = Contract(every[0], config)
    read = [(rows, contract.reading(rows)) for rows in every]
    episodes = [_episode(rows, reading, config) for rows, reading in read]
    sources = [
        Source(rows.path, reading, episode.first, rows.state, rows.ticks_ns)
        for (rows, reading), episode in zip(read, episodes, strict=True)
    ]
    kept = [slice(episode.first, episode.first + episode.num_ticks) for episode in episodes]
    images: ImageSource = ReaderImages(sources)
    with ThreadPoolExecutor(LOAD_THREADS) as threads:  # decoding releases the interpreter lock
        if config.cache == "ram":
            images = CachedImages(*zip(*threads.map(all_pictures, sources, kept), strict=True))
        references = _mean(list(threads.map(no_contact, sources[:: -(-len(paths) // MAX_REFERENCES)])))
    return EpisodeTable(episodes, contract.rig, contract.view, references, images)


def active_frames(action: np.ndarray) -> slice:
    """Return the frames in which something is commanded: from the last still one before the first
    change of the action (T, A) to the last change; all frames when the action never changes."""
    changes = np.flatnonzero((np.abs(np.diff(action, axis=0)) > STILL).any(axis=1))
    return slice(int(changes[0]), int(changes[-1]) + 2) if len(changes) else slice(0, len(action))


def _all_rows(paths: Sequence[Path]) -> list[Rows]:
    """Return the rows of episodes; of a large set they are read once, then kept beside it."""
    known = load_rows(paths) if len(paths) >= MANY else {}
    fresh = list(read_many(read_rows, [path for path in paths if path not in known]))
    trust_checked(rows.state for rows in fresh)
    if len(paths) >= MANY:
        save_rows(fresh, MANY)
    known |= {rows.path: rows for rows in fresh}
    return [known[path] for path in paths]


def _episode(rows: Rows, reading: Reading, config: DataConfig) -> Episode:
    """Return an episode as the policy sees it.

    Raises:
        EpisodeError: It has no two ticks, or a sensor no no-contact image.
    """
    if rows.num_ticks < 2:
        raise EpisodeError(f"{rows.path}: {rows.num_ticks} ticks, expected at least 2; move it to trash/")
    for name in (reading.stored[sensor] for sensor in reading.view.touch):
        if name not in rows.references:
            raise EpisodeError(
                f"{rows.path}: tactile/{name}: no no-contact reference; record one, or leave the sensor out "
                "with data.sensors"
            )
    keep = active_frames(rows.targets) if config.trim_idle else slice(0, rows.num_ticks)
    boxes, valid, visibility = reading.boxes(rows)
    return Episode(
        path=rows.path,
        state=reading.states(rows.qpos[keep]),
        action=reading.states(rows.targets[keep]),
        boxes=boxes[keep],
        box_valid=valid[keep],
        visibility=visibility[keep],
        steps=_steps(rows.steps, keep),
        fps=rows.fps,
        first=keep.start,
        file_ticks=rows.num_ticks,
        failures=_steps(rows.told.failures, keep),
        task_steps=rows.told.task_steps,
        success=rows.told.success,
        task=rows.told.task,
        taxels=read_taxels(rows.path, reading, keep),
    )


def _taxels(episode: Episode) -> np.ndarray:
    return np.zeros((episode.num_ticks, 0), np.float32) if episode.taxels is None else episode.taxels


def _mean(images: list[np.ndarray]) -> np.ndarray:
    """Return the mean of pictures u1, rounded."""
    return np.rint(np.stack(images).astype(np.float32).mean(0)).astype(np.uint8)


def _steps(steps: Sequence[Step], keep: slice) -> tuple[Step, ...]:
    """Return the steps within the frames kept: what was trimmed is no part of the video."""
    last = keep.stop - keep.start - 1
    kept = [
        Step(step.name, max(step.start_frame - keep.start, 0), min(step.end_frame - keep.start, last))
        for step in sorted(steps, key=lambda step: step.start_frame)
    ]
    return tuple(step for step in kept if step.start_frame <= step.end_frame)


def _successes(root: Path) -> list[Path]:
    """Return the episodes that are labelled a success; a damaged one is named, not passed over.

    Raises:
        EpisodeError: An episode that cannot be read.
    """
    listed = list_episodes(root)
    for item in listed:
        if item.entry.problem:
            raise EpisodeError(item.entry.problem)
    return [item.path for item in listed if item.entry.success]


def _why_none(root: str | Path) -> str:
    """Return why a data set has no episode to train on, and what to do."""
    listed = list_episodes(root)
    foreign = sum(item.entry.kind == "foreign" for item in listed)
    if foreign:
        return (
            f"{foreign} files of ACT or ALOHA there, which are no episodes of tacit; make some of them with "
            "tacit convert SOURCE TARGET --label success"
        )
    if listed:
        return (
            f"no successful episode among {len(listed)}; label those in which the task was done (tacit "
            "episodes label FILE --success yes), or set data.only_success=false"
        )
    return "no successful episode there: no *.hdf5 at all"
