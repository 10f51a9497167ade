"""Annotated videos in memory: features, labels and targets of every frame, and the parts of a data set.

Targets count frames in which the task goes on: frames of an annotated stall stand still. A video with
an event that its steps do not tell (a fall back, a cut) keeps its labels but has no progress target.
Legend: T frames, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.alignment.data.outcomes import (
    UNTOLD,
    failure_kinds,
    failure_target,
    step_seconds,
    still_frames,
    success_target,
    task_progress,
)
from tacit_learning.alignment.settings import VideosConfig
from tacit_learning.data.annotation_files import ANNOTATIONS, load_annotation_set, load_features
from tacit_learning.data.annotation_importers import ImportOptions, read
from tacit_learning.data.annotation_importers.common import features_of
from tacit_learning.data.annotation_importers.mstcn import is_mstcn
from tacit_learning.data.annotations import Annotation, AnnotationSet, resample_frames
from tacit_learning.data.arrays import load_array
from tacit_learning.losses.progress import (
    Level,
    Spans,
    action_progress,
    make_spans,
    mean_shares,
    progress_mask,
    progress_target,
)

WHOLE = "task"
"""Name of the one step of a video whose steps are not read."""
LEAST_FRAMES = 4
"""Frames that short actions keep where videos are thinned out."""


@dataclass(frozen=True)
class Video:
    """One video: features (T, F), and per frame (T,) its class (0 background, c+1 action c), progress
    of its action and of the video, which frames have such targets, and the stretches of distances; whether
    the task is done, what goes wrong (0 nothing, k+1 kind k), and which frames know that."""

    annotation: Annotation
    features: Tensor
    labels: Tensor
    action: Tensor
    progress: Tensor
    action_mask: Tensor
    progress_mask: Tensor
    spans: Spans
    task: int
    success: Tensor
    success_mask: Tensor
    failure: Tensor
    failure_mask: Tensor

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Known:
    """What training videos decide for all others: labels, tasks, rate [Hz], mean shares, width, kinds of
    failure, and mean lengths of steps [s]."""

    labels: tuple[str, ...]
    tasks: tuple[str, ...]
    fps: float
    shares: Mapping[str, float]
    num_features: int
    failures: tuple[str, ...] = field(default=(), kw_only=True)
    seconds: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    @property
    def num_classes(self) -> int:
        """Actions and the background."""
        return len(self.labels) + 1


@dataclass(frozen=True)
class VideoSet(Known):
    """Videos, and what they share."""

    videos: tuple[Video, ...]
    background: frozenset[str]

    def __len__(self) -> int:
        return len(self.videos)

    def orders(self) -> list[list[int]]:
        """Return the classes of the actions of every video, in order of time."""
        return [
            [self.labels.index(segment.name) + 1 for segment in video.annotation.action_segments()]
            for video in self.videos
        ]


@dataclass(frozen=True)
class Annotated:
    """Annotations with the features of every video, before targets: from a folder or from episodes."""

    annotations: AnnotationSet
    features: Mapping[str, np.ndarray]


def load_annotated(
    folder: str | Path, splits: Sequence[str] | None = None, pictures: bool = False, mstcn_fps: float = 30.0
) -> Annotated:
    """Read a folder of annotations and features, or the text files of MS-TCN.

    Args:
        folder: Folder of the set.
        splits: Parts whose features are read; None: all.
        pictures: Read raw pictures instead of features, as flat rows in 0..1.
        mstcn_fps: Rate of MS-TCN's files [Hz], which do not say it.
    """
    if is_mstcn(Path(folder)) and not (Path(folder) / ANNOTATIONS).is_file():
        return _load_mstcn(Path(folder), mstcn_fps)
    annotations = load_annotation_set(folder)
    wanted = annotations.splits if splits is None else splits
    read = load_flat_pictures if pictures else load_features
    return Annotated(annotations, {v.name: read(folder, v) for v in annotations.videos if v.split in wanted})


def _load_mstcn(folder: Path, fps: float) -> Annotated:
    imported = read("ms-tcn", folder, ImportOptions(fps=fps, length="cut"))
    videos = imported.annotations.videos
    if not imported.features:
        raise AnnotationError(
            f"{folder}: holds no folder `features` with <video>.npy; nothing can be learned"
        )
    return Annotated(imported.annotations, {v.name: features_of(imported, v, cut=True) for v in videos})


def without_steps(annotated: Annotated) -> Annotated:
    """Return the videos as if nothing was known of their steps: each is one step, from its first frame to its
    last."""
    before = annotated.annotations
    videos = tuple(
        replace(
            video,
            steps=(WHOLE,),
            start_frames=(0,),
            end_frames=(video.num_frames - 1,),
            events=(),
            task_steps=(),
        )
        for video in before.videos
    )
    return Annotated(AnnotationSet(videos, before.background, (WHOLE,)), annotated.features)


def load_pictures(folder: str | Path, annotation: Annotation) -> NDArray[np.uint8] | None:
    """Read the pictures of a video (T, H, W, 3) from `frames/<video>.npy`; None where there is no such file.

    Raises:
        AnnotationError: Not pictures, or another number of them than the video has frames.
    """
    path = Path(folder) / "frames" / f"{annotation.name}.npy"
    if not path.is_file():
        return None
    pictures = load_array(path)
    count = annotation.num_frames
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or (len(pictures), pictures.shape[3]) != (count, 3):
        raise AnnotationError(
            f"{path}: {pictures.dtype} {pictures.shape}, expected uint8 (T, H, W, 3) with T = {count}"
        )
    return pictures


def load_flat_pictures(folder: str | Path, annotation: Annotation) -> np.ndarray:
    """Read the pictures of a video as rows (T, H*W*3) f4 in 0..1.

    Raises:
        AnnotationError: There are none, or they are no pictures of this video.
    """
    pictures = load_pictures(folder, annotation)
    if pictures is None:
        raise AnnotationError(
            f"{folder}/frames/{annotation.name}.npy: no such file; data.pictures reads raw pictures there"
        )
    return (pictures.reshape(len(pictures), -1) / 255).astype(np.float32)


def split_videos(
    annotated: Annotated, config: VideosConfig, seed: int, least: int = 2
) -> tuple[tuple[Annotation, ...], tuple[Annotation, ...]]:
    """Return the annotations that train and those that choose checkpoints.

    Args:
        annotated: All videos with their features.
        config: Which of them.
        seed: Decides which are held out where no split says so.
        least: Training videos that must be there: alignment needs two, progress alone one.

    Raises:
        AnnotationError: A training split does not exist, or nothing is left of it.
    """
    annotations = annotated.annotations
    training = [video for split in config.train_splits for video in annotations.split(split)]
    training = [video for video in training if not config.tasks or video.task in config.tasks]
    if len(training) < least:
        known = sorted({video.task for video in annotations.videos})
        raise AnnotationError(
            f"data: {len(training)} training videos of tasks {config.tasks or 'any'}, expected at least "
            f"{least}; the set has tasks {known}"
        )
    if config.validation_split in annotations.splits:
        return tuple(training), annotations.split(config.validation_split)
    order = np.random.default_rng(seed).permutation(len(training))
    held = max(1, round(config.validation_ratio * len(training))) if config.validation_ratio else 0
    count = min(held, len(training) - least)
    held_out = set(order[:count].tolist())
    chosen = tuple(video for i, video in enumerate(training) if i not in held_out)
    return chosen, tuple(training[i] for i in sorted(held_out))


def training_rate(chosen: Sequence[Annotation], config: VideosConfig) -> float | None:
    """Return the rate to read the videos at [Hz]; None: their own.

    Long videos keep every k-th frame, so that they have `mean_frames` on average, unless one action of ten
    were left with less than `LEAST_FRAMES`.
    """
    if config.fps is not None or config.mean_frames is None:
        return config.fps
    lengths = [segment.length for video in chosen for segment in video.action_segments()]
    mean = float(np.mean([video.num_frames for video in chosen]))
    short = float(np.quantile(lengths, 0.1)) if lengths else mean
    stride = min(round(mean / config.mean_frames), int(short / LEAST_FRAMES))
    return chosen[0].fps / stride if stride > 1 else None


def make_videos(
    annotated: Annotated,
    chosen: Sequence[Annotation],
    level: Level,
    *,
    like: Known | None = None,
    fps: float | None = None,
) -> VideoSet:
    """Compute targets of the chosen videos.

    Args:
        annotated: All videos with their features.
        chosen: Annotations of the videos to take.
        level: Whether `progress` counts actions alike or by their mean share (`action` counts alike).
        like: What the training set decided; None: this is the training set.
        fps: Rate to resample to [Hz]; None: as annotated.

    Raises:
        AnnotationError: A video has another number of features than the first, or a label, a task or
            a rate that the training set does not know.
    """
    labels = annotated.annotations.labels if like is None else like.labels
    tasks = tuple(dict.fromkeys(video.task for video in chosen)) if like is None else like.tasks
    rate = (fps or annotated.annotations.fps) if like is None else like.fps
    pairs = [_resample(video, annotated.features[video.name], rate) for video in chosen]
    shares = mean_shares([annotation for annotation, _ in pairs]) if like is None else like.shares
    by: Level = "proportional" if level == "proportional" else "video"
    seconds = step_seconds([annotation for annotation, _ in pairs]) if like is None else like.seconds
    kinds = failure_kinds(chosen) if like is None else like.failures
    known = Known(tuple(labels), tasks, rate, shares, 0, failures=kinds, seconds=seconds)
    videos = tuple(_video(annotation, features, known, by) for annotation, features in pairs)
    width = _common_width(videos, like)
    background = annotated.annotations.background
    decided = (tuple(labels), tasks, rate, shares, width)
    return VideoSet(*decided, videos, background, failures=kinds, seconds=seconds)


def at_rate(annotation: Annotation, fps: float) -> Annotation:
    """Return an annotation at another rate [Hz]; steps that keep no frame are left out."""
    return annotation if annotation.fps == fps else annotation.resampled(fps=fps, lost="drop")


def _resample(annotation: Annotation, features: np.ndarray, fps: float) -> tuple[Annotation, np.ndarray]:
    if annotation.fps == fps:
        return annotation, features
    frames = resample_frames(annotation.num_frames, annotation.fps, fps)
    return at_rate(annotation, fps), features[frames]


def _video(annotation: Annotation, features: np.ndarray, known: Known, by: Level) -> Video:
    if annotation.task not in known.tasks:
        hint = did_you_mean(annotation.task, known.tasks)
        raise AnnotationError(f"video {annotation.name!r}: unknown task {annotation.task!r}; {hint}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a video without actions has an empty mask
        action, progress = _moving_targets(annotation, by, known.shares)
    if annotation.task_steps and by == "video":
        progress = task_progress(annotation, known.seconds)
    told = not any(event.kind in UNTOLD for event in annotation.events)
    inside = progress_mask(annotation, "action")
    return Video(
        annotation,
        torch.from_numpy(np.ascontiguousarray(features)),
        torch.from_numpy(annotation.labels_per_frame(known.labels)) + 1,
        action,
        progress,
        inside & told,
        progress_mask(annotation, by) & told,
        make_spans(annotation, "action"),
        known.tasks.index(annotation.task),
        *success_target(annotation),
        *failure_target(annotation, known.failures),
    )


def _moving_targets(annotation: Annotation, by: Level, shares: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """Compute both targets on the frames that move, and hold them through the others."""
    moving = (~still_frames(annotation)).nonzero().flatten()
    if len(moving) == annotation.num_frames or not len(moving):
        return action_progress(annotation), progress_target(annotation, by, shares)
    moved = annotation.at_frames(moving.numpy(), annotation.fps, lost="drop")
    last = (torch.searchsorted(moving, torch.arange(annotation.num_frames), right=True) - 1).clamp(min=0)
    return action_progress(moved)[last], progress_target(moved, by, shares)[last]


def _common_width(videos: Sequence[Video], like: Known | None) -> int:
    expected = videos[0].features.shape[1] if like is None else like.num_features
    for video in videos:
        if video.features.shape[1] != expected:
            raise AnnotationError(
                f"video {video.annotation.name!r}: {video.features.shape[1]} features per frame, expected "
                f"{expected} as in the training set; extract all with one encoder"
            )
    return expected
