"""The text files of MS-TCN and ProTAS: groundTruth/<video>.txt, mapping.txt, splits, features.

A ground truth file holds a label per frame. Features are (D, T) there, in copies of others also (T, D): the
lengths of the labels tell. Equal labels side by side are one step: the format cannot tell a repetition. A set
without a folder `splits` is split at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tacit.config.documents import MAX_TABLE_BYTES, read_text
from tacit.episode.steps import runs
from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.data.annotation_importers.common import (
    OTHER_UNIT,
    Imported,
    ImportOptions,
    draw_splits,
    feature_shape,
    make_annotation,
    read_names,
    required_fps,
)
from tacit_learning.data.annotation_policies import Repairs
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment
from tacit_learning.data.frame_times import resample_frames

VALIDATION = "val"
SPLITS = {"train": "train", VALIDATION: "validation", "test": "test"}
"""Name of a part there -> here."""


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a data set folder: groundTruth, mapping.txt, splits/*.split<n>.bundle, features.

    Raises:
        AnnotationError: A part is missing, a label is not in mapping.txt, or lengths differ.
    """
    mapping = path / "mapping.txt"
    if not mapping.is_file():
        raise AnnotationError(f"{mapping}: no such file; expected lines `id name`")
    labels = list(read_names(mapping).values())
    splits = _splits(path, options)
    ids = {name: _labels_of(path / "groundTruth" / f"{name}.txt", labels, options) for name in splits}
    folder = options.features or (path / "features" if (path / "features").is_dir() else None)
    features = {name: folder / f"{name}.npy" for name in splits} if folder is not None else {}
    shapes = {name: feature_shape(file) for name, file in features.items()}
    turned = are_transposed(shapes, {name: len(row) for name, row in ids.items()})
    repairs = Repairs()
    videos: list[Annotation] = []
    for name, split in splits.items():
        row = ids[name]
        if name in shapes:
            row = _fit(row, shapes[name][turned], name, options, repairs)
        segments = [Segment(labels[label], first, last) for label, first, last in runs(row)]
        videos.append(make_annotation(name, len(row), segments, options, repairs, split=split))
    background = frozenset(options.background)
    actions = tuple(label for label in labels if label not in background)
    return Imported(AnnotationSet(tuple(videos), background, actions), features, repairs, turned)


def are_transposed(shapes: Mapping[str, tuple[int, int]], lengths: Mapping[str, int]) -> bool:
    """Tell whether features are (D, T): whether their second axes fit the labels no worse than the first."""
    gaps = [sum(abs(shapes[name][axis] - lengths[name]) for name in shapes) for axis in (0, 1)]
    return gaps[1] <= gaps[0]


def is_mstcn(folder: Path) -> bool:
    """Tell whether a folder looks like such a data set."""
    return (folder / "mapping.txt").is_file() and (folder / "groundTruth").is_dir()


def _splits(path: Path, options: ImportOptions) -> dict[str, str]:
    """Return the split of every video that a bundle of this number names."""
    if not (path / "splits").is_dir():
        return draw_splits([file.stem for file in (path / "groundTruth").glob("*.txt")], options)
    found: dict[str, str] = {}
    for split in SPLITS:
        bundle = path / "splits" / f"{split}.split{options.split}.bundle"
        if split == VALIDATION and not bundle.is_file():
            continue
        if not bundle.is_file():
            raise AnnotationError(f"{bundle}: no such file; choose another split")
        for line in read_text(bundle, MAX_TABLE_BYTES, "list of videos", AnnotationError).splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            # Some lists hold paths, of any system.
            name = line.strip().replace("\\", "/").rpartition("/")[2].removesuffix(".txt")
            if name in found:
                raise AnnotationError(
                    f"{bundle}: {name!r} is in two splits; train and test must not share videos"
                )
            found[name] = SPLITS[split]
    return found


def _labels_of(file: Path, labels: list[str], options: ImportOptions) -> np.ndarray:
    """Return the number of the label of every frame, at the rate of the features."""
    if not file.is_file():
        raise AnnotationError(f"{file}: no such file; a split names it")
    ids = {label: number for number, label in enumerate(labels)}
    lines = read_text(file, MAX_TABLE_BYTES, "list of labels", AnnotationError).splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip() not in ids:
            raise AnnotationError(f"{file}:{number}: unknown label {line!r}; {did_you_mean(line, labels)}")
    row = np.array([ids[line.strip()] for line in lines], np.int64)
    if options.native_fps is None:
        return row
    return row[resample_frames(len(row), options.native_fps, required_fps(options))]


def _fit(ids: np.ndarray, length: int, name: str, options: ImportOptions, repairs: Repairs) -> np.ndarray:
    """Return labels no longer than the features; `write` cuts features that are longer."""
    if len(ids) == length:
        return ids
    # A few frames are an end that was lost; twice as many are another rate, whatever was asked for.
    if options.length == "error" or not 1 / OTHER_UNIT < len(ids) / max(length, 1) < OTHER_UNIT:
        rate = required_fps(options) * len(ids) / max(length, 1)
        raise AnnotationError(
            f"video {name!r}: {len(ids)} labels, {length} frames of features; where the labels have another "
            f"rate, say it with native-fps (here {rate:.3g}); for a few frames, import with length: cut"
        )
    repairs.cut.append(f"{name}: {len(ids)} labels, {length} frames")
    return ids[:length]
