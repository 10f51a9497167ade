"""What all importers share: options, seconds to frames, feature files, the folder that is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.config import Config
from tacit.config.arguments import Count, Rate, Seed, Share
from tacit.config.documents import MAX_TABLE_BYTES, read_text
from tacit.episode.steps import BACKGROUND
from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.data.annotation_files import check_features, save_annotation_set, save_features
from tacit_learning.data.annotation_policies import Repairs, SegmentPolicy, clean_segments
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment, describe
from tacit_learning.data.arrays import load_array, open_array
from tacit_learning.data.frame_times import exact_rate

OTHER_UNIT = 1.5
"""Annotations that reach this many times beyond the features are in another unit, not cut off."""
MOST_HOURS = 4.0
"""The longest videos of the public sets last under two hours."""
COMMON_RATES = (5, 10, 12, 15, 20, 24, 25, 30, 50, 60)
MILLISECONDS = 1000
"""Times in seconds are read to the millisecond, so that 0.3 s at 10 fps is frame 3."""


class ImportOptions(Config):
    """How to read foreign annotations; also the flags of `tacit convert annotations`."""

    fps: Rate | None = None
    """Frames per second of the features; for episodes the rate to resample to (LeRobot says its own)."""
    features: Path | None = None
    """Folder of <video>.npy; ms-tcn has its own."""
    background: tuple[str, ...] = tuple(sorted(BACKGROUND))
    """Names that are no step of the task."""
    native_fps: Rate | None = None
    """Frames per second that the annotations count in, where they count frames of the video and the features
    have another rate (gtcc-json, ms-tcn, egoprocel-csv with start_frame and end_frame)."""
    names: Path | None = None
    """File of `id name` lines (or `id|name`): what the steps are called from now on."""
    missing: Literal["error", "drop"] = "error"
    """A video without annotation or features."""
    length: Literal["error", "cut"] = "error"
    """Labels and features of different lengths (ms-tcn, by a few frames): cut to the shorter."""
    ends: Literal["auto", "inclusive", "exclusive"] = "auto"
    """Whether an end frame belongs to its step (lerobot)."""
    tasks: tuple[str, ...] = ()
    """Which tasks to read (gtcc-json); all if left out."""
    prefix: Literal["dense", "sparse", ""] = "dense"
    """Which subtask columns to read (lerobot)."""
    split: Count = 1
    """Number of the split (ms-tcn)."""
    train_share: Share = 0.75
    """Share of training videos where the format names no split; they are drawn by `seed`."""
    seed: Seed = 0
    """Another seed draws other training videos."""
    policy: SegmentPolicy = SegmentPolicy()


@dataclass(frozen=True)
class Imported:
    """Annotations, the feature file of each video by name, what was repaired on the way (of each task, where
    a format has several), and whether the feature files are (D, T)."""

    annotations: AnnotationSet
    features: Mapping[str, Path]
    repairs: Repairs
    transposed: bool = False
    by_task: Mapping[str, Repairs] = field(default_factory=dict)


def seconds_to_frames(start_s: float, end_s: float, fps: float) -> tuple[int, int]:
    """Return the first and last frame whose time lies in [start_s, end_s).

    So two steps that share a boundary do not overlap; end < start where no frame lies inside.
    """
    rate = exact_rate(fps)
    begin, end = (Fraction(round(s * MILLISECONDS), MILLISECONDS) * rate for s in (start_s, end_s))
    return math.ceil(begin), math.ceil(end) - 1


def make_annotation(
    name: str,
    num_frames: int,
    segments: Iterable[Segment],
    options: ImportOptions,
    repairs: Repairs,
    **fields: object,
) -> Annotation:
    """Clean the steps of one video by the policy of `options` and build its annotation.

    Args:
        name: Name of the video.
        num_frames: Length T.
        segments: As read.
        options: Policy and background; their fps must be known.
        repairs: Gains an entry per repair.
        fields: Further fields of the annotation.
    """
    clean = clean_segments(segments, num_frames, f"video {name!r}", options.policy, repairs)
    background = frozenset(options.background)
    fps = required_fps(options)
    return Annotation.of_segments(name, num_frames, fps, clean, background=background, **fields)


def check_rate(reach: Mapping[str, int], lengths: Mapping[str, int], options: ImportOptions) -> None:
    """Refuse annotations that plainly count in another unit than was said.

    Args:
        reach: Frame after the last annotated one, by video, at `options.fps`.
        lengths: Frames of the features by video, where there are any.
        options: Their fps must be known; with a native_fps nothing is in doubt.

    Raises:
        AnnotationError: Most videos are annotated far beyond their features, or last for hours.
    """
    fps = required_fps(options)
    known = [name for name in reach if lengths.get(name)]
    if options.native_fps is not None:
        return
    shares = sorted(reach[name] / lengths[name] for name in known)
    if shares and shares[len(shares) // 2] > OTHER_UNIT:
        rate = next((r for r in COMMON_RATES if r >= 0.98 * shares[-1] * fps), shares[-1] * fps)
        raise AnnotationError(
            f"video {known[0]!r}: annotated up to frame {reach[known[0]]} at {fps:g} fps, its features have "
            f"{lengths[known[0]]} frames, and others likewise: the times count frames of the video; say "
            f"their rate with native-fps (here probably {rate:g})"
        )
    hours = {name: count / fps / 3600 for name, count in reach.items()}
    longest = max(hours, key=hours.__getitem__, default="")
    if not known and longest and hours[longest] > MOST_HOURS:
        raise AnnotationError(
            f"video {longest!r}: annotated over {hours[longest]:.1f} hours at {fps:g} fps; where the times "
            f"count frames of the video, say their rate with native-fps; if it is that long, native-fps "
            f"{fps:g} says so"
        )


def at_rate(segments: Iterable[Segment], options: ImportOptions) -> list[Segment]:
    """Return steps that count frames at `native_fps` in frames at `fps`; as they are without a native rate.

    A step keeps the frames whose time lies inside it, so neighbours stay neighbours.
    """
    found = list(segments)
    if options.native_fps is None:
        return found
    ratio = exact_rate(required_fps(options)) / exact_rate(options.native_fps)
    return [
        Segment(name, math.ceil(start * ratio), math.ceil((end + 1) * ratio) - 1)
        for name, start, end in found
    ]


def required_fps(options: ImportOptions) -> float:
    """Return the frame rate.

    Raises:
        AnnotationError: It was not given.
    """
    if options.fps is None:
        raise AnnotationError("fps: this format does not say it; give the frames per second of the features")
    return options.fps


def feature_length(path: Path) -> int:
    """Return the number of frames of features (T, D), read from the header of the file; errors as of
    `feature_shape`."""
    return feature_shape(path)[0]


def feature_shape(path: Path) -> tuple[int, int]:
    """Return the shape of a feature file, read from its header.

    Raises:
        AnnotationError: The file is missing or holds no two axes.
    """
    if not path.is_file():
        raise AnnotationError(f"{path}: no such features; extract them, or import with missing: drop")
    shape = open_array(path).shape
    if len(shape) != 2:
        raise AnnotationError(f"{path}: features {shape}, expected two axes, frames and channels")
    return int(shape[0]), int(shape[1])


def draw_splits(names: Iterable[str], options: ImportOptions) -> dict[str, str]:
    """Say for each video whether it is for train or test, where the format does not."""
    ordered = sorted(names)
    order = np.random.default_rng(options.seed).permutation(len(ordered))
    count = round(options.train_share * len(ordered))
    return {ordered[i]: "train" if rank < count else "test" for rank, i in enumerate(order)}


def read_names(path: Path | None) -> dict[str, str]:
    """Read `id name` lines (also `id|name`) as a mapping; empty without a file.

    Raises:
        AnnotationError: A line has one word only.
    """
    names: dict[str, str] = {}
    text = read_text(path, MAX_TABLE_BYTES, "list of names", AnnotationError) if path else ""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip().split("|" if "|" in line else None, 1)
        if len(words) == 1 or not all(word.strip() for word in words):
            raise AnnotationError(f"{path}:{number}: {line!r}, expected an id and a name")
        if words:
            names[words[0].strip()] = words[1].strip()
    return names


def rename(imported: Imported, names: Mapping[str, str], source: Path) -> Imported:
    """Call every step by its name of a list; the background keeps its own.

    Raises:
        AnnotationError: A step is not on the list.
    """
    before = imported.annotations
    for video in before.videos:
        for segment in video.action_segments():
            if segment.name not in names:
                raise AnnotationError(
                    f"video {video.name!r}: step {describe(segment)} is not in {source}; "
                    f"{did_you_mean(segment.name, names)}"
                )
    videos = tuple(
        replace(video, steps=tuple(s if s in before.background else names[s] for s in video.steps))
        for video in before.videos
    )
    labels = tuple(dict.fromkeys(names.get(label, label) for label in before.labels))
    return replace(imported, annotations=AnnotationSet(videos, before.background, labels))


def write(imported: Imported, folder: Path, *, cut: bool = False) -> AnnotationSet:
    """Write annotations and features (T, D) f4 into `folder`, as the trainer reads them.

    Args:
        imported: By a reader.
        folder: Made if missing.
        cut: Leave out frames of features after the last annotated frame, instead of refusing them.

    Raises:
        AnnotationError: Features are of another length than their video.
    """
    videos = []
    for video in imported.annotations.videos:
        if video.name in imported.features:
            features = features_of(imported, video, cut=cut)
            video = replace(video, features=save_features(folder, video.name, features))
        videos.append(video)
    written = replace(imported.annotations, videos=tuple(videos))
    save_annotation_set(written, folder)
    return written


def features_of(imported: Imported, video: Annotation, *, cut: bool = False) -> NDArray[np.float32]:
    """Read the features (T, D) f4 of one video; see `write`."""
    path = imported.features[video.name]
    values = load_array(path)
    values = values.T if imported.transposed else values
    values = values[: video.num_frames] if cut else values
    return check_features(values, video.num_frames, f"video {video.name!r}: {path}")
