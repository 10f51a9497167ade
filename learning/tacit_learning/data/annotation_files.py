"""A data set of annotated videos on disk: `annotations.json` and one file of features per video.

Layout of the folder: `annotations.json` (schema `tacit-annotations 1`), `features/<name>.npy`
(T, D) f4; generated sets also have `truth/<name>.npz` and `frames/<name>.npy`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tacit.config import Config, load_json, parse
from tacit.config.documents import inside
from tacit.errors import AnnotationError, ConfigError
from tacit_learning.data.annotations import Annotation, AnnotationSet, Event
from tacit_learning.data.arrays import load_array

ANNOTATIONS = "annotations.json"
SCHEMA = "tacit-annotations 1"


class VideoEntry(Config):
    """One video of the file; frames are inclusive."""

    name: str
    num_frames: int
    step: tuple[str, ...]
    start_frame: tuple[int, ...]
    end_frame: tuple[int, ...]
    task: str = ""
    split: str = "train"
    features: str = ""
    events: tuple[tuple[str, int, int], ...] = ()
    task_steps: tuple[str, ...] = ()
    success: bool | None = None


class AnnotationFile(Config):
    """The whole file; `labels` are the actions in the order of their ids."""

    schema_id: str = Field(default=SCHEMA, alias="schema")
    fps: float
    background: tuple[str, ...]
    labels: tuple[str, ...]
    videos: tuple[VideoEntry, ...]


def load_annotation_set(path: str | Path) -> AnnotationSet:
    """Read `annotations.json`, or the folder that holds it.

    Raises:
        AnnotationError: Missing, no JSON, another schema, or its contents contradict themselves.
    """
    path = Path(path)
    path = path / ANNOTATIONS if path.is_dir() else path
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file; give an annotations file or its folder")
    data = load_json(path, AnnotationError)
    try:
        file = parse(AnnotationFile, data, str(path))
    except ConfigError as error:
        raise AnnotationError(str(error)) from None
    if file.schema_id != SCHEMA:
        raise AnnotationError(f"{path}: schema {file.schema_id!r}, expected {SCHEMA!r}")
    background = frozenset(file.background)
    try:
        videos = tuple(_video(entry, file.fps, background) for entry in file.videos)
        return AnnotationSet(videos, background, file.labels)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None


def save_annotation_set(annotations: AnnotationSet, path: str | Path) -> Path:
    """Write `annotations.json` (into `path` where that is a folder) and return its path."""
    path = Path(path)
    path = path if path.suffix == ".json" else path / ANNOTATIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    file = AnnotationFile(
        fps=annotations.fps,
        background=tuple(sorted(annotations.background)),
        labels=annotations.labels,
        videos=tuple(_entry(video) for video in annotations.videos),
    )
    path.write_text(json.dumps(file.model_dump(mode="json", by_alias=True)) + "\n", encoding="utf-8")
    return path


def load_features(folder: str | Path, annotation: Annotation) -> NDArray[np.float32]:
    """Read the features (T, D) f4 of one video.

    Args:
        folder: Folder of the set.
        annotation: Names the file and knows the length.

    Raises:
        AnnotationError: No such file, not (T, D), another length than the video, or not finite.
    """
    where = f"video {annotation.name!r}"
    if not annotation.features:
        raise AnnotationError(f"{where}: the annotation names no features; add features to annotations.json")
    path = inside(folder, annotation.features, f"{where}: features", AnnotationError)
    if not path.is_file():
        raise AnnotationError(f"{where}: {path}: no such file; extract its features first")
    return check_features(load_array(path), annotation.num_frames, f"{where}: {path}")


def check_features(values: np.ndarray, num_frames: int, where: str) -> NDArray[np.float32]:
    """Return `values` as (T, D) f4.

    Raises:
        AnnotationError: Not two axes of numbers, another length than the video, or not finite.
    """
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise AnnotationError(f"{where}: features {values.dtype} {values.shape}, expected numbers (T, D)")
    if len(values) != num_frames:
        turned = "; they look transposed" if values.shape[1] == num_frames else ""
        raise AnnotationError(
            f"{where}: {len(values)} frames of features, the video has {num_frames}{turned}; extract them at "
            "the rate of the annotations"
        )
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise AnnotationError(f"{where}: features of frame {bad} are not finite; extract them again")
    return np.asarray(values, np.float32)


def save_features(folder: str | Path, name: str, features: np.ndarray) -> str:
    """Write features (T, D) as f4 and return their path relative to `folder`."""
    relative = f"features/{name}.npy"
    path = Path(folder) / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(features, np.float32))
    return relative


def _video(entry: VideoEntry, fps: float, background: frozenset[str]) -> Annotation:
    return Annotation(
        entry.name,
        entry.num_frames,
        fps,
        entry.step,
        entry.start_frame,
        entry.end_frame,
        background,
        entry.task,
        entry.split,
        entry.features,
        tuple(Event(*event) for event in entry.events),
        entry.task_steps,
        entry.success,
    )


def _entry(video: Annotation) -> VideoEntry:
    return VideoEntry(
        name=video.name,
        num_frames=video.num_frames,
        step=video.steps,
        start_frame=video.start_frames,
        end_frame=video.end_frames,
        task=video.task,
        split=video.split,
        features=video.features,
        events=tuple((event.kind, event.start, event.end) for event in video.events),
        task_steps=video.task_steps,
        success=video.success,
    )
