"""Episodes as one table of frames: low-dimensional rows in memory, images cached or read on demand.

Every resize goes through `tacit.images.ImageTransform`, which moves pixels and boxes together.
Legend: T frames of all episodes, N cameras, S sensors, A state and action width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tacit.episode import EpisodeReader, Step, find_episodes
from tacit.errors import EpisodeError
from tacit.geometry.footprint import valid_for_alignment
from tacit.rig import Rig
from tacit_learning.data.view import DataConfig, View, make_view
from tacit_learning.layers.pooling import PIXEL_CENTRE

LOAD_THREADS = 2
MAX_RATE_DIFFERENCE = 0.05  # of the first episode's rate; a chunk is indexed by ticks
STILL = 1e-6  # [rad, m]; a smaller step of the action is no motion
NO_TOUCH_SIZE = (32, 32)  # [px], shape of the empty touch input of a policy without sensors


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

    def __len__(self) -> int:
        return int(self.starts[-1])

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
        paths = [path for path in find_episodes(root) if not config.only_success or _succeeded(path)]
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
        contract = _Contract(first.rig, str(first.attribute("contract_yaml")), first.fps)
    view = make_view(contract.rig, config)
    cached = config.cache == "ram"
    with ThreadPoolExecutor(LOAD_THREADS) as pool:
        loaded = list(pool.map(lambda path: _load(path, view, contract, config), paths))
    images: ImageSource = ReaderImages(paths, view, [item.episode.first for item in loaded])
    if cached:
        images = CachedImages([item.cameras for item in loaded], [item.touch for item in loaded])
    references = np.stack([item.references for item in loaded]).astype(np.float32).mean(0)
    episodes = [item.episode for item in loaded]
    return EpisodeTable(episodes, contract.rig, view, np.rint(references).astype(np.uint8), images)


class ReaderImages:
    """Images read from the files, with handles opened once per process (never across a fork)."""

    def __init__(self, paths: Sequence[Path], view: View, firsts: Sequence[int] | None = None) -> None:
        self._paths = list(paths)
        self._view = view
        self._firsts = [0] * len(self._paths) if firsts is None else list(firsts)
        self._handles: dict[int, EpisodeReader] = {}
        self._pid = os.getpid()

    def __call__(self, episode: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return camera (N, H, W, 3) and touch images (S, h, w, 3) of one frame."""
        reader = self._reader(episode)
        frame += self._firsts[episode]
        view = self._view
        depths = view.depth_range_m
        stored = [reader.depth(n, frame) if n in depths else reader.image(n, frame) for n in view.cameras]
        cameras = [view.picture(n, image) for n, image in zip(view.cameras, stored, strict=True)]
        touch = [view.picture(name, reader.touch(name, frame)) for name in view.sensors]
        return np.stack(cameras), _stack_touch(touch)

    def _reader(self, episode: int) -> EpisodeReader:
        if self._pid != os.getpid():
            self._handles, self._pid = {}, os.getpid()
        if episode not in self._handles:
            self._handles[episode] = EpisodeReader(self._paths[episode]).__enter__()
        return self._handles[episode]

    def close(self) -> None:
        """Close all handles of this process."""
        for reader in self._handles.values():
            reader.__exit__(None, None, None)
        self._handles = {}


class CachedImages:
    """Images held in memory, one array per episode."""

    def __init__(self, cameras: list[np.ndarray], touch: list[np.ndarray]) -> None:
        self._cameras = cameras
        self._touch = touch

    def __call__(self, episode: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return camera (N, H, W, 3) and touch images (S, h, w, 3) of one frame."""
        return self._cameras[episode][frame], self._touch[episode][frame]


@dataclass(frozen=True)
class _Contract:
    """What all episodes of a table share."""

    rig: Rig
    text: str
    fps: float


@dataclass(frozen=True)
class _Loaded:
    """One episode as read; images are empty unless they are cached."""

    episode: Episode
    references: np.ndarray  # (S, h, w, 3) u1
    cameras: np.ndarray  # (t, N, H, W, 3) u1
    touch: np.ndarray  # (t, S, h, w, 3) u1


def active_frames(action: np.ndarray) -> slice:
    """Return the frames in which something is commanded: from the last still one before the first
    change of the action (T, A) to the last change; all frames when the action never changes."""
    changes = np.flatnonzero((np.abs(np.diff(action, axis=0)) > STILL).any(axis=1))
    return slice(int(changes[0]), int(changes[-1]) + 2) if len(changes) else slice(0, len(action))


def _load(path: Path, view: View, contract: _Contract, config: DataConfig) -> _Loaded:
    """Read one episode; decoding releases the interpreter lock, so threads help."""
    with EpisodeReader(path) as reader:
        _check_same(reader, path, contract)
        keep = active_frames(reader.action) if config.trim_idle else slice(0, reader.num_ticks)
        episode = _read(reader, path, view, keep)
        cameras = touch = np.zeros((0,), np.uint8)
        if config.cache == "ram":
            cameras = np.stack([_stream(reader, name, view, keep) for name in view.cameras], axis=1)
            images = [_stream(reader, name, view, keep) for name in view.sensors]
            touch = np.stack(images, axis=1) if images else _no_touch(episode.num_ticks)
        return _Loaded(episode, _references(reader, path, view), cameras, touch)


def _stream(reader: EpisodeReader, name: str, view: View, keep: slice) -> np.ndarray:
    """Decode and resize the images of one stream (t, H, W, 3): one read of the file."""
    return np.stack([view.picture(name, stored) for stored in reader.pictures(name, keep)])


def _read(reader: EpisodeReader, path: Path, view: View, keep: slice) -> Episode:
    boxes, valid, visibility = _boxes(reader, view)
    return Episode(
        path=path,
        state=np.asarray(reader.qpos[keep], np.float32),
        action=np.asarray(reader.targets[keep], np.float32),
        boxes=boxes[keep],
        box_valid=valid[keep],
        visibility=visibility[keep],
        steps=_steps(reader, keep),
        fps=float(reader.fps),
        first=keep.start,
    )


def _boxes(reader: EpisodeReader, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes in the policy image, where they may be used, and visibility; (t, N, S, ...)."""
    shape = (reader.num_ticks, len(view.cameras), len(view.sensors))
    boxes = np.full((*shape, 4), np.nan, np.float32)
    valid = np.zeros(shape, bool)
    visibility = np.zeros(shape, np.float32)
    for n, (camera, transform) in enumerate(view.cameras.items()):
        for s, sensor in enumerate(view.sensors):
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


def _references(reader: EpisodeReader, path: Path, view: View) -> np.ndarray:
    images = []
    for name, transform in view.sensors.items():
        reference = reader.reference(name)
        if reference is None:
            raise EpisodeError(
                f"{path}: tactile/{name}: no no-contact reference; record one, or leave the sensor out "
                "with data.sensors"
            )
        images.append(transform.image(reference))
    return _stack_touch(images)


def _stack_touch(images: list[np.ndarray]) -> np.ndarray:
    return np.stack(images) if images else _no_touch(1)[0]


def _no_touch(num_ticks: int) -> np.ndarray:
    return np.zeros((num_ticks, 0, *NO_TOUCH_SIZE, 3), np.uint8)


def _check_same(reader: EpisodeReader, path: Path, contract: _Contract) -> None:
    """Refuse an episode of another rig or rate; equal texts spare the parsing."""
    rig = contract.rig
    same_text = str(reader.attribute("contract_yaml")) == contract.text
    if not same_text and (
        reader.rig.calibration_id != rig.calibration_id or reader.rig.state_names != rig.state_names
    ):
        raise EpisodeError(f"{path}: recorded with another rig or calibration than the first episode")
    if abs(reader.fps - contract.fps) > MAX_RATE_DIFFERENCE * contract.fps:
        raise EpisodeError(f"{path}: {reader.fps:.2f} ticks per second, the first has {contract.fps:.2f}")
    if reader.num_ticks < 2:
        raise EpisodeError(f"{path}: {reader.num_ticks} ticks, expected at least 2; move it to trash/")


def _why_none(root: str | Path) -> str:
    """Return why a data set has no episode to train on, and what to do."""
    paths = find_episodes(root)
    foreign = sum(_is_foreign(path) for path in paths)
    if foreign:
        return (
            f"{foreign} files of ACT or ALOHA there, which are no episodes of tacit; make some of them with "
            "tacit convert SOURCE TARGET --label success"
        )
    if paths:
        return (
            f"no successful episode among {len(paths)}; label those in which the task was done, or set "
            "data.only_success=false"
        )
    return "no successful episode there: no *.hdf5 at all"


def _is_foreign(path: Path) -> bool:
    with EpisodeReader(path) as reader:
        return reader.is_foreign


def _succeeded(path: Path) -> bool:
    with EpisodeReader(path) as reader:
        return bool(reader.success)
