"""Clips to annotate: recordings of ours, a folder of videos, or a LeRobot data set, behind one face.

A clip shows pictures (JPEG) and gives numbers per frame that an alignment can go by: state, command, touch
and small pictures. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.convert.lerobot.layout import INFO, STATE
from tacit.convert.lerobot.source import Entry, Source, open_source
from tacit.convert.lerobot.videos import read_video
from tacit.convert.video import iterate_frames, probe_video
from tacit.episode import EpisodeReader, find_episodes
from tacit.errors import AnnotationError
from tacit.images import Image, encode_jpeg
from tacit_learning.data.annotations import Segment

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
SHOWN_HEIGHT, JPEG_QUALITY = 300, 80
SMALL = (16, 12)
"""Width and height of the pictures that an alignment reads [px]."""
LOOKS_PER_S = 8.0
"""Pictures read for the alignment; the state, where there is one, is read at every frame."""
Groups = dict[str, NDArray[np.float32]]
"""Numbers per frame by what they are: (T, D) each."""


class Clip(Protocol):
    """One episode or video."""

    @property
    def name(self) -> str:
        """Its name in the set."""

    @property
    def num_frames(self) -> int:
        """T."""

    @property
    def task(self) -> str:
        """Name of the task; empty where nothing says it."""

    def steps(self) -> list[Segment]:
        """Return the steps that it already has."""

    def pictures(self) -> Iterator[bytes]:
        """Yield every frame as JPEG, in order."""

    def numbers(self) -> Groups:
        """Return what an alignment can go by."""


@dataclass(frozen=True)
class Collection:
    """All clips of one place, and the rate of their frames [Hz]."""

    place: Path
    clips: Sequence[Clip]
    fps: float


def open_collection(place: Path, fps: float | None = None) -> Collection:
    """Open recordings, a folder of videos, or a LeRobot data set.

    Args:
        place: The folder.
        fps: Rate of videos whose files say another.

    Raises:
        AnnotationError: Nothing of it is there, or rates differ.
        EpisodeError: A file is damaged.
    """
    if (place / INFO).is_file():
        source = open_source(place)
        return Collection(place, [LeRobotClip(source, entry) for entry in source.entries], source.fps)
    files = find_episodes(place)
    if files:
        recordings = [Recording(file, place) for file in files]
        return Collection(place, recordings, _one_rate({one.name: one.fps for one in recordings}))
    videos = (
        sorted(f for f in place.rglob("*") if f.suffix.lower() in VIDEO_SUFFIXES) if place.is_dir() else []
    )
    if not videos:
        raise AnnotationError(f"{place}: holds no episodes, no videos and no LeRobot data set")
    filmed = [VideoFile(file, place) for file in videos]
    return Collection(place, filmed, fps or _one_rate({one.name: one.fps for one in filmed}))


def _one_rate(rates: dict[str, float]) -> float:
    """Return the rate of all clips."""
    first, rate = next(iter(rates.items()))
    for name, other in rates.items():
        if abs(other - rate) > 0.01 * rate:
            raise AnnotationError(f"{name}: {other:g} fps, {first} has {rate:g}; annotate them apart")
    return rate


class Recording:
    """One of our episodes; opened when it is needed, since a set may have hundreds."""

    def __init__(self, path: Path, place: Path) -> None:
        self.path = path
        self.name = path.relative_to(place).with_suffix("").as_posix() if path != place else path.stem
        with EpisodeReader(path) as reader:
            self.num_frames, self.fps, self.task = reader.num_ticks, reader.fps, reader.task

    def steps(self) -> list[Segment]:
        """Return the steps that it already has."""
        with EpisodeReader(self.path) as reader:
            return [Segment(step.name, step.start_frame, step.end_frame) for step in reader.steps]

    def pictures(self) -> Iterator[bytes]:
        """Yield every tick as JPEG, the cameras side by side."""
        with EpisodeReader(self.path) as reader:
            streams = [reader.pictures(name, slice(0, self.num_frames)) for name in reader.cameras]
            for images in zip(*streams, strict=True):
                yield _jpeg(images)

    def numbers(self) -> Groups:
        """Return state, its speed, command, touch, and small pictures of the cameras."""
        with EpisodeReader(self.path) as reader:
            found = {"state": reader.qpos, "speed": _speed(reader.qpos, self.fps), "action": reader.action}
            every = max(1, round(self.fps / LOOKS_PER_S))
            for name in (*reader.cameras, *reader.gels):
                seen = reader.pictures(name, slice(0, self.num_frames, every))
                found[name] = _held([_small(image) for image in seen], every, self.num_frames)
        return found


class VideoFile:
    """One video file."""

    def __init__(self, path: Path, place: Path) -> None:
        self.path, self.task = path, "" if path.parent == place else path.parent.name
        self.name = path.relative_to(place).with_suffix("").as_posix()
        info = probe_video(path)
        self.num_frames, self.fps = info.frames, info.fps

    def steps(self) -> list[Segment]:
        """A video has none."""
        return []

    def pictures(self) -> Iterator[bytes]:
        """Yield every frame as JPEG."""
        return (_jpeg([image]) for image in iterate_frames(self.path))

    def numbers(self) -> Groups:
        """Return small pictures, and how they change."""
        every = max(1, round(self.fps / LOOKS_PER_S))
        seen = [_small(image) for t, image in enumerate(iterate_frames(self.path)) if t % every == 0]
        rows = _held(seen, every, self.num_frames)
        return {"pictures": rows, "change": _speed(rows, self.fps)}


class LeRobotClip:
    """One episode of a LeRobot data set."""

    def __init__(self, source: Source, entry: Entry) -> None:
        self.source, self.entry = source, entry
        self.name, self.num_frames, self.task = f"episode_{entry.number:06d}", entry.length, entry.task

    def steps(self) -> list[Segment]:
        """Steps are read from the columns by `tacit convert annotations`; none are taken over here."""
        return []

    def pictures(self) -> Iterator[bytes]:
        """Yield every frame as JPEG, the cameras side by side; grey where a set has no videos."""
        streams = [self._video(key) for key in self.entry.videos]
        if not streams:
            blank = _jpeg([np.full((SHOWN_HEIGHT, SHOWN_HEIGHT, 3), 128, np.uint8)])
            yield from (blank for _ in range(self.num_frames))
            return
        for images in zip(*streams, strict=True):
            yield _jpeg(images)

    def numbers(self) -> Groups:
        """Return state, its speed, command, and small pictures."""
        keys = [key for key in (STATE, "action") if key in self.source.features]
        columns = self.source.numbers(self.entry, keys)
        found = {key: columns[key].reshape(self.num_frames, -1).astype(np.float32) for key in keys}
        found["speed"] = _speed(found[STATE], self.source.fps)
        every = max(1, round(self.source.fps / LOOKS_PER_S))
        for key in self.entry.videos:
            found[key] = _held([_small(image) for image in self._video(key, every)], every, self.num_frames)
        return found

    def _video(self, key: str, every: int = 1) -> Iterator[Image]:
        part = self.entry.videos[key]
        times = part.begins_s + np.arange(0, self.num_frames, every) / self.source.fps
        return read_video(part.path, times, self.source.fps)


def _jpeg(images: Iterable[Image]) -> bytes:
    """Put pictures side by side at one height."""
    rows = []
    for image in images:
        width = max(1, round(image.shape[1] * SHOWN_HEIGHT / image.shape[0]))
        rows.append(cv2.resize(image, (width, SHOWN_HEIGHT), interpolation=cv2.INTER_AREA))
    return encode_jpeg(np.ascontiguousarray(np.concatenate(rows, axis=1)), JPEG_QUALITY).tobytes()


def _small(image: Image) -> NDArray[np.float32]:
    return (cv2.resize(image, SMALL, interpolation=cv2.INTER_AREA).reshape(-1) / 255).astype(np.float32)


def _held(rows: Sequence[NDArray[np.float32]], every: int, num_frames: int) -> NDArray[np.float32]:
    """Hold rows that were read at every `every`-th frame (T, D)."""
    return np.stack(rows)[np.minimum(np.arange(num_frames) // every, len(rows) - 1)]


def _speed(rows: NDArray[np.float32], fps: float) -> NDArray[np.float32]:
    """Return the change over the last tenth of a second (T, D)."""
    lag = max(1, round(0.1 * fps))
    before = rows[np.maximum(np.arange(len(rows)) - lag, 0)]
    return (rows - before).astype(np.float32)
