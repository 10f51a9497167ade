"""Episodes as one table of frames: low-dimensional rows in memory, images cached or read on demand.

Every resize goes through `tacit.images.ImageTransform`, which moves pixels and boxes together.
Legend: T frames of all episodes, N cameras, S sensors, A state and action width.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from tacit.episode import EpisodeReader, Step, find_episodes
from tacit.episode.index import list_episodes
from tacit.errors import EpisodeError
from tacit.geometry.footprint import valid_for_alignment
from tacit.rig import Rig
from tacit_learning.data.contract import Contract, Reading
from tacit_learning.data.pictures import (
    CachedImages,
    ReaderImages,
    Source,
    file_state,
    no_touch,
    stack_touch,
    ticks_of,
)
from tacit_learning.data.view import DataConfig, View
from tacit_learning.layers.pooling import PIXEL_CENTRE

LOAD_THREADS = 2
MANY, MAX_PROCESSES = 200, 8
"""From so many episodes on they are read by processes, of which more than these wait for the disk."""
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

    @property
    def num_ticks(self) -> int:
        """Number of frames."""
        return len(self.state)


ImageSource = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


class EpisodeTable:
    """Frames of several episodes under one running row number.

    Args:
        episodes: In order.
        rig: The rig all of them were recorded with.
        view: What to read of every frame.
        references: No-contact touch images (S, h, w, 3) u1.
        images: Returns ((N, H, W, 3), (S, h, w, 3)) u1 of (episode index, frame).
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        rig: Rig,
        view: View,
        references: np.ndarray,
        images: ImageSource,
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
        )

    @property
    def fps(self) -> float:
        """Tick rate of the first episode [Hz]."""
        return self.episodes[0].fps

    def images(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return camera (B, N, H, W, 3) and touch images (B, S, h, w, 3) u1 of `rows`."""
        pairs = [self._images(int(e), int(r - self.starts[e])) for r in rows for e in [self.episode_of[r]]]
        return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


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
    with EpisodeReader(paths[0]) as first:
        contract = Contract(first, config)
    loaded = _load_all(paths, contract, config)
    images: ImageSource = ReaderImages([item.source for item in loaded])
    if config.cache == "ram":
        images = CachedImages([item.cameras for item in loaded], [item.touch for item in loaded])
    seen = [item.references for item in loaded if item.references is not None]
    references = np.rint(np.stack(seen).astype(np.float32).mean(0)).astype(np.uint8)
    return EpisodeTable([item.episode for item in loaded], contract.rig, contract.view, references, images)


@dataclass(frozen=True)
class _Loaded:
    """One episode as read; images are empty unless they are cached."""

    episode: Episode
    source: Source
    references: np.ndarray | None  # (S, h, w, 3) u1; None where others tell them
    cameras: np.ndarray  # (t, N, H, W, 3) u1
    touch: np.ndarray  # (t, S, h, w, 3) u1


def active_frames(action: np.ndarray) -> slice:
    """Return the frames in which something is commanded: from the last still one before the first
    change of the action (T, A) to the last change; all frames when the action never changes."""
    changes = np.flatnonzero((np.abs(np.diff(action, axis=0)) > STILL).any(axis=1))
    return slice(int(changes[0]), int(changes[-1]) + 2) if len(changes) else slice(0, len(action))


def _load_all(paths: Sequence[Path], contract: Contract, config: DataConfig) -> list[_Loaded]:
    """Read all episodes: a few by threads, many by processes, for HDF5 lets one thread in at a time."""
    averaged = set(paths[:: -(-len(paths) // MAX_REFERENCES)])
    load = functools.partial(_load, contract=contract, config=config, averaged=averaged)
    if config.cache == "ram" or len(paths) < MANY:
        with ThreadPoolExecutor(LOAD_THREADS) as threads:
            return list(threads.map(load, paths))
    context = multiprocessing.get_context("fork")  # what is loaded already need not be loaded again
    count = min(os.cpu_count() or 1, MAX_PROCESSES)
    with ProcessPoolExecutor(count, context, _begin, (load,)) as processes:
        loaded = list(processes.map(_load_in_process, paths, chunksize=16))
    kept: list[Reading] = []
    return [replace(item, source=_with_shared_reading(item.source, kept)) for item in loaded]


def _with_shared_reading(source: Source, kept: list[Reading]) -> Source:
    """Return a source whose reading is one of those kept: processes sent as many as episodes."""
    same = next((reading for reading in kept if reading == source.reading), None)
    if same is None:
        kept.append(source.reading)
    return source if same is None else replace(source, reading=same)


_LOADERS: list[Callable[[Path], _Loaded]] = []
"""Of a loading process: how it loads, inherited by the fork rather than sent with every path."""


def _begin(load: Callable[[Path], _Loaded]) -> None:
    cv2.setNumThreads(0)  # its threads do not survive a fork
    _LOADERS[:] = [load]


def _load_in_process(path: Path) -> _Loaded:
    return _LOADERS[0](path)


def _load(path: Path, contract: Contract, config: DataConfig, averaged: Collection[Path]) -> _Loaded:
    """Read one episode; decoding releases the interpreter lock, so threads help."""
    state = file_state(path)
    with EpisodeReader(path) as reader:
        reading = contract.reading(reader)
        if reader.num_ticks < 2:
            raise EpisodeError(f"{path}: {reader.num_ticks} ticks, expected at least 2; move it to trash/")
        keep = active_frames(reader.action) if config.trim_idle else slice(0, reader.num_ticks)
        episode = _read(reader, path, reading, keep)
        cameras = touch = np.zeros((0,), np.uint8)
        if config.cache == "ram":
            view = reading.view
            seen, felt = (
                [np.stack(list(reading.pictures(reader, name, keep))) for name in names]
                for names in (view.cameras, view.sensors)
            )
            cameras = np.stack(seen, axis=1)
            touch = np.stack(felt, axis=1) if felt else no_touch(episode.num_ticks)
        source = Source(path, reading, keep.start, state, ticks_of(reader))
        return _Loaded(episode, source, _references(reader, path, reading, path in averaged), cameras, touch)


def _read(reader: EpisodeReader, path: Path, reading: Reading, keep: slice) -> Episode:
    boxes, valid, visibility = _boxes(reader, reading)
    return Episode(
        path=path,
        state=reading.states(reader.qpos[keep]),
        action=reading.states(reader.targets[keep]),
        boxes=boxes[keep],
        box_valid=valid[keep],
        visibility=visibility[keep],
        steps=_steps(reader, keep),
        fps=float(reader.fps),
        first=keep.start,
        file_ticks=reader.num_ticks,
    )


def _boxes(reader: EpisodeReader, reading: Reading) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes in the policy image, where they may be used, and visibility; (t, N, S, ...)."""
    view, stored_as = reading.view, reading.stored
    shape = (reader.num_ticks, len(view.cameras), len(view.sensors))
    boxes = np.full((*shape, 4), np.nan, np.float32)
    valid = np.zeros(shape, bool)
    visibility = np.zeros(shape, np.float32)
    for n, (name, transform) in enumerate(view.cameras.items()):
        camera = stored_as[name]
        for s, sensor in enumerate(stored_as[sensor] for sensor in view.sensors):
            if not reader.is_located(camera, sensor):
                continue  # a set of others, whose geometry nobody measured
            stored = np.asarray(reader.boxes(camera, sensor))
            corners, flags = reader.corners(camera, sensor), reader.flags(camera, sensor)
            visibility[:, n, s] = reader.visibility(camera, sensor)
            boxes[:, n, s] = transform.boxes(stored) + PIXEL_CENTRE
            size = (transform.source_width, transform.source_height)
            valid[:, n, s] = valid_for_alignment(stored, corners, visibility[:, n, s], flags, *size)
    return boxes, valid, visibility


def _steps(reader: EpisodeReader, keep: slice) -> tuple[Step, ...]:
    """Return the steps within the frames kept: what was trimmed is no part of the video."""
    last = keep.stop - keep.start - 1
    steps = [
        Step(step.name, max(step.start_frame - keep.start, 0), min(step.end_frame - keep.start, last))
        for step in sorted(reader.steps, key=lambda step: step.start_frame)
    ]
    return tuple(step for step in steps if step.start_frame <= step.end_frame)


def _references(reader: EpisodeReader, path: Path, reading: Reading, wanted: bool) -> np.ndarray | None:
    """Return the no-contact images (S, h, w, 3), which every episode must have; None if not wanted."""
    images = []
    for sensor, transform in reading.view.sensors.items():
        name = reading.stored[sensor]
        if f"tactile/{name}/reference" not in reader.file:
            raise EpisodeError(
                f"{path}: tactile/{name}: no no-contact reference; record one, or leave the sensor out "
                "with data.sensors"
            )
        reference = reader.reference(name) if wanted else None
        if reference is not None:
            images.append(transform.image(reference))
    return stack_touch(images) if wanted else None


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
