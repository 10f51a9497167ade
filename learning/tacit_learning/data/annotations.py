"""Steps of a video: names and inclusive frames, validated once, immutable afterwards.

An `Annotation` is strict; files with sorted-out-of-order, overlapping or too long segments first go
through `annotation_policies`. Sets on disk: `annotation_files`. Frames that no step covers, and
steps named in `background`, are no part of the task.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.episode.steps import BACKGROUND, runs
from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.data.frame_times import resample_frames

FAILURE = "failure:"
"""Begins the kind of an event that says what went wrong, such as failure:drop."""
NO_STEP = -1
"""Per-frame number where no step, or only background, is."""


class Segment(NamedTuple):
    """One step of the task; both frames belong to it."""

    name: str
    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.end - self.start + 1


class Event(NamedTuple):
    """Something that happened beside the steps (pause, rewind, `failure:` and its kind); both frames
    belong to it."""

    kind: str
    start: int
    end: int

    @property
    def failure(self) -> str:
        """The kind of failure; "" where it is none."""
        return self.kind.removeprefix(FAILURE) if self.kind.startswith(FAILURE) else ""


@dataclass(frozen=True)
class Annotation:
    """What happens in one video.

    Args:
        name: Name of the video, unique in its set.
        num_frames: Length T.
        fps: Frames per second.
        steps: Names in order of their frames; one step may come again.
        start_frames: First frame of each step.
        end_frames: Last frame of each step (inclusive).
        background: Step names that are no part of the task.
        task: Name of the task; empty when there is one only.
        split: Part of the data set, such as train or test.
        features: File of frame features (T, D), relative to the folder of the set; empty: none.
        events: What a simulator or a person noted beside the steps.
        task_steps: Steps of the whole task, in order, also those that this video lacks; empty: unknown.
        success: Whether the task was done; None: nobody said.

    Raises:
        AnnotationError: Steps are not sorted, overlap, or lie outside the video.
    """

    name: str
    num_frames: int
    fps: float
    steps: tuple[str, ...]
    start_frames: tuple[int, ...]
    end_frames: tuple[int, ...]
    background: frozenset[str] = BACKGROUND
    task: str = ""
    split: str = "train"
    features: str = ""
    events: tuple[Event, ...] = ()
    task_steps: tuple[str, ...] = ()
    success: bool | None = None

    def __post_init__(self) -> None:
        where = f"video {self.name!r}"
        values = (self.steps, self.start_frames, self.end_frames)
        if len({len(value) for value in values}) != 1:
            lengths = ", ".join(str(len(value)) for value in values)
            raise AnnotationError(
                f"{where}: step, start_frame, end_frame have {lengths} entries; give one of each per step"
            )
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "start_frames", whole_numbers(self.start_frames, f"{where}: start_frame"))
        object.__setattr__(self, "end_frames", whole_numbers(self.end_frames, f"{where}: end_frame"))
        object.__setattr__(self, "background", frozenset(self.background))
        object.__setattr__(self, "events", tuple(Event(*event) for event in self.events))
        if self.num_frames < 1:
            raise AnnotationError(f"{where}: num_frames is {self.num_frames}, expected at least 1")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise AnnotationError(f"{where}: fps is {self.fps}, expected a positive number")
        check_segments(self.segments(), self.num_frames, where)
        for event in self.events:
            if not 0 <= event.start <= event.end < self.num_frames:
                raise AnnotationError(
                    f"{where}: event {describe(event)} is not within 0..{self.num_frames - 1}"
                )

    @classmethod
    def of_segments(
        cls, name: str, num_frames: int, fps: float, segments: Iterable[Segment], **fields: object
    ) -> Annotation:
        """Build from segments; `fields` are the remaining arguments of the class."""
        steps = tuple(segments)
        starts, ends = tuple(s.start for s in steps), tuple(s.end for s in steps)
        names = tuple(s.name for s in steps)
        return cls(name, num_frames, fps, names, starts, ends, **fields)  # type: ignore[arg-type]

    def segments(self) -> tuple[Segment, ...]:
        """Return every step, background included."""
        return tuple(map(Segment, self.steps, self.start_frames, self.end_frames))

    def action_segments(self) -> tuple[Segment, ...]:
        """Return the steps that are part of the task."""
        return tuple(segment for segment in self.segments() if segment.name not in self.background)

    def step_per_frame(self) -> NDArray[np.int64]:
        """Return the number of the step in `segments()` at each frame (T,); `NO_STEP` in gaps."""
        numbers = np.full(self.num_frames, NO_STEP, np.int64)
        for number, segment in enumerate(self.segments()):
            numbers[segment.start : segment.end + 1] = number
        return numbers

    def labels_per_frame(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return the index in `labels` of the action at each frame (T,); `NO_STEP` in background.

        Raises:
            AnnotationError: A step is not among the labels.
        """
        ids = np.full(self.num_frames, NO_STEP, np.int64)
        for segment in self.action_segments():
            if segment.name not in labels:
                raise AnnotationError(
                    f"video {self.name!r}: step {describe(segment)}: unknown label; "
                    f"{did_you_mean(segment.name, labels)}"
                )
            ids[segment.start : segment.end + 1] = labels.index(segment.name)
        return ids

    def action_mask(self) -> NDArray[np.bool_]:
        """Return which frames belong to a step of the task (T,)."""
        mask = np.zeros(self.num_frames, bool)
        for segment in self.action_segments():
            mask[segment.start : segment.end + 1] = True
        return mask

    def resampled(
        self, *, stride: int | None = None, fps: float | None = None, lost: Literal["error", "drop"] = "error"
    ) -> Annotation:
        """Return the same video at another rate; the frames to keep are `resample_frames`.

        A step covers the new frames whose time lies inside it: at stride k ceil(s / k) .. floor(e / k).

        Args:
            stride: Keep every stride-th frame; or
            fps: the new rate [Hz], by true time.
            lost: What to do with a step too short to keep a frame.

        Raises:
            AnnotationError: A step loses all its frames and `lost` is "error".
        """
        new_fps = self._new_fps(stride, fps)
        frames = resample_frames(self.num_frames, self.fps, new_fps)
        return self.at_frames(frames, new_fps, lost=lost)

    def at_frames(
        self, frames: Sequence[int] | np.ndarray, fps: float, *, lost: Literal["error", "drop"] = "error"
    ) -> Annotation:
        """Return the annotation of the video made of `frames` (N,) of this one, in any order.

        A run of frames of one step is one step of the new video, so a pause lengthens a step and a
        rewind over its start repeats the one before.
        """
        chosen = np.asarray(frames, np.int64)
        numbers = self.step_per_frame()[chosen]
        if lost == "error":
            self._refuse_lost(set(numbers.tolist()), fps)
        segments = [Segment(self.steps[n], s, e) for n, s, e in runs(numbers) if n != NO_STEP]
        events = [Event(kind, s, e) for kind, s, e in self._events_at(chosen)]
        kept = Annotation.of_segments(
            self.name, len(chosen), fps, segments, background=self.background, events=tuple(events)
        )
        kept = replace(kept, task=self.task, split=self.split, features=self.features)
        return replace(kept, task_steps=self.task_steps, success=self.success)

    def _refuse_lost(self, kept: set[int], fps: float) -> None:
        lost = [step for number, step in enumerate(self.segments()) if number not in kept]
        names = ", ".join(describe(step) for step in lost if step.name not in self.background)
        if names:
            raise AnnotationError(
                f"video {self.name!r}: no frame is kept of {names} at {fps:g} fps; choose a higher rate, or "
                "lost='drop' to leave such steps out"
            )

    def _events_at(self, frames: np.ndarray) -> Iterable[Event]:
        for event in self.events:
            inside = (frames >= event.start) & (frames <= event.end)
            yield from (Event(event.kind, s, e) for value, s, e in runs(inside.astype(int)) if value)

    def _new_fps(self, stride: int | None, fps: float | None) -> float:
        if (stride is None) == (fps is None):
            raise ValueError("give exactly one of stride and fps")
        if fps is not None:
            return fps
        if stride is None or stride < 1:
            raise AnnotationError(f"video {self.name!r}: stride {stride}, expected at least 1")
        return self.fps / stride


@dataclass(frozen=True)
class AnnotationSet:
    """The videos of one data set, with one label list, background set and frame rate.

    Args:
        videos: In order.
        background: Step names that are no part of the task.
        labels: Names of the actions in the order of their ids; background is not among them.

    Raises:
        AnnotationError: A name comes twice, a step is not among the labels, rates differ.
    """

    videos: tuple[Annotation, ...]
    background: frozenset[str]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.videos:
            raise AnnotationError("annotation set: holds no video")
        _refuse_twice((video.name for video in self.videos), "video")
        _refuse_twice(self.labels, "label")
        if both := sorted(self.background & set(self.labels)):
            raise AnnotationError(f"annotation set: {both} are labels and background at once; remove one")
        for video in self.videos:
            if video.background != self.background:
                raise AnnotationError(
                    f"video {video.name!r}: another background set than that of the data set"
                )
            if video.fps != self.fps:
                raise AnnotationError(
                    f"video {video.name!r}: {video.fps:g} fps, the first has {self.fps:g}; resample first"
                )
            video.labels_per_frame(self.labels)

    @classmethod
    def of_videos(
        cls, videos: Iterable[Annotation], background: Collection[str] = BACKGROUND
    ) -> AnnotationSet:
        """Take the labels from the videos, in order of their first appearance."""
        found = tuple(videos)
        names = dict.fromkeys(s.name for video in found for s in video.action_segments())
        return cls(found, frozenset(background), tuple(names))

    @property
    def fps(self) -> float:
        """Frames per second of every video."""
        return self.videos[0].fps

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the parts, in order of their first appearance."""
        return tuple(dict.fromkeys(video.split for video in self.videos))

    def split(self, name: str) -> tuple[Annotation, ...]:
        """Return the videos of one part.

        Raises:
            AnnotationError: There is no such part.
        """
        if name not in self.splits:
            raise AnnotationError(f"annotation set: no split {name!r}; {did_you_mean(name, self.splits)}")
        return tuple(video for video in self.videos if video.split == name)


def check_segments(segments: Sequence[Segment], num_frames: int, where: str) -> None:
    """Refuse steps that are empty, outside 0 .. num_frames - 1, unsorted or overlapping.

    Raises:
        AnnotationError: Names the first wrong step.
    """
    previous: Segment | None = None
    for number, segment in enumerate(segments):
        here = f"{where}: step {number} {describe(segment)}"
        if not segment.name:
            raise AnnotationError(f"{here}: has no name")
        if not 0 <= segment.start <= segment.end:
            raise AnnotationError(f"{here}: expected 0 <= start <= end")
        if segment.end >= num_frames:
            raise AnnotationError(
                f"{here}: ends after the last frame {num_frames - 1}; correct it, or import with beyond: drop"
            )
        if previous is not None and segment.start < previous.start:
            raise AnnotationError(
                f"{here}: starts before step {number - 1} {describe(previous)}; sort the steps"
            )
        if previous is not None and segment.start <= previous.end:
            raise AnnotationError(
                f"{here}: overlaps step {number - 1} {describe(previous)}; end frames are inclusive; where "
                "one step ends at the start of the next, import with overlap: trim"
            )
        previous = segment


def describe(segment: Segment | Event) -> str:
    """Return `'name' (frames s..e)`."""
    return f"{segment[0]!r} (frames {segment.start}..{segment.end})"


def whole_numbers(values: Iterable[object], where: str) -> tuple[int, ...]:
    """Return `values` as ints.

    Raises:
        AnnotationError: One of them is no whole number.
    """
    try:
        return tuple(operator.index(value) for value in values)  # type: ignore[arg-type]
    except TypeError:
        raise AnnotationError(f"{where}: frames must be whole numbers, found {list(values)}") from None


def _refuse_twice(names: Iterable[str], kind: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AnnotationError(f"annotation set: {kind} {twice[0]!r} comes twice; names must be unique")
