"""What all importers share: options, seconds to frames, feature files, the folder that is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from tacit.config import Config
from tacit.config.documents import MAX_TABLE_BYTES, read_text
from tacit.episode.steps import BACKGROUND
from tacit.errors import AnnotationError
from tacit_learning.data.annotation_files import check_features, save_annotation_set, save_features
from tacit_learning.data.annotation_policies import Repairs, SegmentPolicy, clean_segments
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment
from tacit_learning.data.arrays import load_array, open_array
from tacit_learning.data.frame_times import exact_rate

MILLISECONDS = 1000
"""Times in seconds are read to the millisecond, so that 0.3 s at 10 fps is frame 3."""


class ImportOptions(Config):
    """How to read foreign annotations; also the flags of `tacit convert annotations`."""

    fps: float | None = None
    """Frames per second of the features; for episodes the rate to resample to (LeRobot says its own)."""
    features: Path | None = None
    """Folder of <video>.npy; ms-tcn has its own."""
    background: tuple[str, ...] = tuple(sorted(BACKGROUND))
    """Names that are no step of the task."""
    names: Path | None = None
    """File of `id name` lines, for egoprocel-csv."""
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
    split: int = 1
    """Number of the split (ms-tcn)."""
    train_share: float = 0.75
    """Share of training videos where the format names no split; they are drawn by `seed`."""
    seed: int = 0
    """Another seed draws other training videos."""
    policy: SegmentPolicy = SegmentPolicy()


@dataclass(frozen=True)
class Imported:
    """Annotations, the feature file of each video by name, and what was repaired on the way."""

    annotations: AnnotationSet
    features: Mapping[str, Path]
    repairs: Repairs


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


def required_fps(options: ImportOptions) -> float:
    """Return the frame rate.

    Raises:
        AnnotationError: It was not given.
    """
    if options.fps is None:
        raise AnnotationError("fps: this format does not say it; give the frames per second of the features")
    return options.fps


def feature_length(path: Path, *, transposed: bool = False) -> int:
    """Return the number of frames of a feature file, read from its header.

    Raises:
        AnnotationError: The file is missing or holds no two axes.
    """
    if not path.is_file():
        raise AnnotationError(f"{path}: no such features; extract them, or import with missing: drop")
    shape = open_array(path).shape
    if len(shape) != 2:
        raise AnnotationError(f"{path}: features {shape}, expected two axes, frames and channels")
    return int(shape[1 if transposed else 0])


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
        key, separator, name = line.strip().partition("|" if "|" in line else " ")
        if line.strip() and not (separator and name.strip()):
            raise AnnotationError(f"{path}:{number}: {line!r}, expected an id and a name")
        if line.strip():
            names[key] = name.strip()
    return names


def write(imported: Imported, folder: Path, *, transposed: bool = False, cut: bool = False) -> AnnotationSet:
    """Write annotations and features (T, D) f4 into `folder`, as the trainer reads them.

    Args:
        imported: By a reader.
        folder: Made if missing.
        transposed: The source features are (D, T).
        cut: Leave out frames of features after the last annotated frame, instead of refusing them.

    Raises:
        AnnotationError: Features are of another length than their video.
    """
    videos = []
    for video in imported.annotations.videos:
        path = imported.features.get(video.name)
        if path is not None:
            values = load_array(path)
            values = values.T if transposed else values
            values = values[: video.num_frames] if cut else values
            checked = check_features(values, video.num_frames, f"video {video.name!r}: {path}")
            video = replace(video, features=save_features(folder, video.name, checked))
        videos.append(video)
    written = replace(imported.annotations, videos=tuple(videos))
    save_annotation_set(written, folder)
    return written
