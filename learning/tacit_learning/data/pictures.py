"""Images of a table: read from the files by a bounded number of open ones, or held in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tacit.episode import EpisodeReader
from tacit.episode.secure import FileState, file_state
from tacit.errors import EpisodeError
from tacit.images.gels import against
from tacit_learning.data.contract import Reading
from tacit_learning.data.view import NO_TOUCH_SIZE

MAX_OPEN = 64
"""Files that a process holds open for one table: with two workers, training and validation, far below 256."""


Pictures = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
"""Of the cameras, and of the touch sensors, of one frame."""


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
        self._open: OrderedDict[int, tuple[EpisodeReader, np.ndarray]] = OrderedDict()
        self._pid = os.getpid()

    def __call__(self, episode: int, frame: int) -> Pictures:
        """Return camera (N of H, W, 3) and touch images (S of h, w, 3) of one frame."""
        (reader, free), source = self._reader(episode), self._sources[episode]
        reading, tick = source.reading, frame + source.first
        cameras, touch = (
            [reading.picture(reader, name, tick) for name in names]
            for names in (reading.view.cameras, reading.view.sensors)
        )
        return cameras, [_felt(reading, image, gel) for image, gel in zip(touch, free, strict=True)]

    @property
    def num_open(self) -> int:
        """How many files this process holds open."""
        return len(self._open)

    def close(self) -> None:
        """Close all files of this process."""
        while self._open:
            self._open.popitem()[1][0].close()

    def _reader(self, episode: int) -> tuple[EpisodeReader, np.ndarray]:
        """Return the open file of an episode, and its free gels (S, h, w, 3)."""
        if self._pid != os.getpid():
            self._open, self._pid = OrderedDict(), os.getpid()
        if episode not in self._open:
            while len(self._open) >= self._max_open:
                self._open.popitem(last=False)[1][0].close()
            reader = _open(self._sources[episode])
            self._open[episode] = reader, free_gels(reader, self._sources[episode].reading)
        self._open.move_to_end(episode)
        return self._open[episode]


class CachedImages:
    """Images held in memory, one array per episode."""

    def __init__(self, cameras: list[np.ndarray], touch: list[np.ndarray]) -> None:
        self._cameras = cameras
        self._touch = touch

    def __call__(self, episode: int, frame: int) -> Pictures:
        """Return camera (N, H, W, 3) and touch images (S, h, w, 3) of one frame."""
        return self._cameras[episode][frame], self._touch[episode][frame]


def all_pictures(source: Source, ticks: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return all camera (t, N, H, W, 3) and touch images (t, S, h, w, 3) of some ticks of an episode."""
    reading = source.reading
    with _open(source) as reader:
        seen, felt = (
            [np.stack(list(reading.pictures(reader, name, ticks))) for name in names]
            for names in (reading.view.cameras, reading.view.sensors)
        )
        felt = [_felt(reading, t, gel) for t, gel in zip(felt, free_gels(reader, reading), strict=True)]
    return np.stack(seen, axis=1), np.stack(felt, axis=1) if felt else no_touch(ticks.stop - ticks.start)


def no_contact(source: Source) -> np.ndarray:
    """Return the no-contact images (S, h, w, 3) of an episode that has them."""
    with _open(source) as reader:
        return free_gels(reader, source.reading)


def free_gels(reader: EpisodeReader, reading: Reading) -> np.ndarray:
    """Return the no-contact images (S, h, w, 3) of an open episode."""
    images = []
    for sensor, transform in reading.view.sensors.items():
        reference = reader.reference(reading.stored[sensor])
        if reference is not None:
            images.append(transform.image(reference))
    return stack_touch(images)


def _felt(reading: Reading, touch: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return touch (..., h, w, 3) as the model gets it: against the free gel (h, w, 3), or as it is."""
    return against(touch, free) if reading.view.touch_reference == "run" else touch


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
    """Open an episode; one that was relabelled meanwhile is read on, one that was cut is not."""
    is_as_read = source.state is not None and file_state(source.path) == source.state
    reader = EpisodeReader(source.path)
    if not is_as_read and ticks_of(reader) != source.ticks_ns:
        reader.close()
        raise EpisodeError(
            f"{source.path}: has other ticks than when its rows were read; start the run again"
        )
    return reader
