"""Images of a table: read from the files by a bounded number of open ones, or held in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError
from tacit_learning.data.contract import Reading

MAX_OPEN = 64
"""Files that a process holds open for one table: with two workers, training and validation, far below 256."""
NO_TOUCH_SIZE = (32, 32)  # [px], shape of the empty touch input of a policy without sensors


class FileState(NamedTuple):
    """What changes when a file does."""

    inode: int
    size: int
    time_ns: int


def file_state(path: Path) -> FileState | None:
    """Return the state of a file; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Source:
    """Where the images of one episode are.

    Attributes:
        path: Its file.
        reading: How its images become those of the table.
        first: Frame 0 of the table is this tick of the file.
        state: Of the file, when its rows were read.
        ticks_ns: Its first and last stamp, and their number.
    """

    path: Path
    reading: Reading
    first: int
    state: FileState | None
    ticks_ns: tuple[int, int, int]


class ReaderImages:
    """Images read from the files, opened once per process (never across a fork), the oldest closed again."""

    def __init__(self, sources: Sequence[Source], max_open: int = MAX_OPEN) -> None:
        self._sources = list(sources)
        self._max_open = max_open
        self._open: OrderedDict[int, EpisodeReader] = OrderedDict()
        self._pid = os.getpid()

    def __call__(self, episode: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return camera (N, H, W, 3) and touch images (S, h, w, 3) of one frame."""
        reader, source = self._reader(episode), self._sources[episode]
        tick = frame + source.first
        reading, at = source.reading, slice(tick, tick + 1)
        cameras = [next(iter(reading.pictures(reader, name, at))) for name in reading.view.cameras]
        touch = [next(iter(reading.pictures(reader, name, at))) for name in reading.view.sensors]
        return np.stack(cameras), stack_touch(touch)

    @property
    def num_open(self) -> int:
        """How many files this process holds open."""
        return len(self._open)

    def close(self) -> None:
        """Close all files of this process."""
        while self._open:
            self._open.popitem()[1].close()

    def _reader(self, episode: int) -> EpisodeReader:
        if self._pid != os.getpid():
            self._open, self._pid = OrderedDict(), os.getpid()
        if episode not in self._open:
            while len(self._open) >= self._max_open:
                self._open.popitem(last=False)[1].close()
            self._open[episode] = _open(self._sources[episode])
        self._open.move_to_end(episode)
        return self._open[episode]


class CachedImages:
    """Images held in memory, one array per episode."""

    def __init__(self, cameras: list[np.ndarray], touch: list[np.ndarray]) -> None:
        self._cameras = cameras
        self._touch = touch

    def __call__(self, episode: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return camera (N, H, W, 3) and touch images (S, h, w, 3) of one frame."""
        return self._cameras[episode][frame], self._touch[episode][frame]


def ticks_of(reader: EpisodeReader) -> tuple[int, int, int]:
    """Return the first and last stamp of an episode [ns] and the number of its ticks."""
    return int(reader.tick_ns[0]), int(reader.tick_ns[-1]), reader.num_ticks


def stack_touch(images: list[np.ndarray]) -> np.ndarray:
    """Return touch images (S, h, w, 3); (0, 32, 32, 3) of a policy without sensors."""
    return np.stack(images) if images else no_touch(1)[0]


def no_touch(num_ticks: int) -> np.ndarray:
    """Return the empty touch input (t, 0, 32, 32, 3) of a policy without sensors."""
    return np.zeros((num_ticks, 0, *NO_TOUCH_SIZE, 3), np.uint8)


def _open(source: Source) -> EpisodeReader:
    """Open an episode again; one that was relabelled meanwhile is read on, one that was cut is not."""
    if source.state is not None and file_state(source.path) == source.state:
        return EpisodeReader(source.path, is_checked=True)
    reader = EpisodeReader(source.path)
    if ticks_of(reader) != source.ticks_ns:
        reader.close()
        raise EpisodeError(
            f"{source.path}: has other ticks than when its rows were read; start the run again"
        )
    return reader
