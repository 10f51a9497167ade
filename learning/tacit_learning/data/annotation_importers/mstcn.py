"""The text files of MS-TCN and ProTAS: groundTruth/<video>.txt, mapping.txt, splits, features.

A ground truth file holds a label per frame.
Features are (D, T) there. Equal labels side by side are one step: the format cannot tell a repetition.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tacit.config.documents import MAX_TABLE_BYTES, read_text
from tacit.episode.steps import runs
from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.data.annotation_importers.common import (
    Imported,
    ImportOptions,
    feature_length,
    make_annotation,
    read_names,
)
from tacit_learning.data.annotation_policies import Repairs
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment

SPLITS = ("train", "test")


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a data set folder: groundTruth, mapping.txt, splits/*.split<n>.bundle, features.

    Raises:
        AnnotationError: A part is missing, a label is not in mapping.txt, or lengths differ.
    """
    mapping = path / "mapping.txt"
    if not mapping.is_file():
        raise AnnotationError(f"{mapping}: no such file; expected lines `id name`")
    labels = list(read_names(mapping).values())
    folder = options.features or (path / "features" if (path / "features").is_dir() else None)
    repairs = Repairs()
    features: dict[str, Path] = {}
    videos: list[Annotation] = []
    for name, split in _splits(path, options.split).items():
        ids = _labels_of(path / "groundTruth" / f"{name}.txt", labels)
        if folder is not None:
            features[name] = folder / f"{name}.npy"
            ids = _fit(ids, feature_length(features[name], transposed=True), name, options, repairs)
        segments = [Segment(labels[label], first, last) for label, first, last in runs(ids)]
        videos.append(make_annotation(name, len(ids), segments, options, repairs, split=split))
    background = frozenset(options.background)
    actions = tuple(label for label in labels if label not in background)
    return Imported(AnnotationSet(tuple(videos), background, actions), features, repairs)


def _splits(path: Path, number: int) -> dict[str, str]:
    """Return the split of every video that a bundle of this number names."""
    found: dict[str, str] = {}
    for split in SPLITS:
        bundle = path / "splits" / f"{split}.split{number}.bundle"
        if not bundle.is_file():
            raise AnnotationError(f"{bundle}: no such file; choose another split")
        for line in read_text(bundle, MAX_TABLE_BYTES, "list of videos", AnnotationError).splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            name = Path(line.strip()).name.removesuffix(".txt")  # some lists hold paths
            if name in found:
                raise AnnotationError(
                    f"{bundle}: {name!r} is in two splits; train and test must not share videos"
                )
            found[name] = split
    return found


def _labels_of(file: Path, labels: list[str]) -> np.ndarray:
    if not file.is_file():
        raise AnnotationError(f"{file}: no such file; a split names it")
    ids = {label: number for number, label in enumerate(labels)}
    lines = read_text(file, MAX_TABLE_BYTES, "list of labels", AnnotationError).splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip() not in ids:
            raise AnnotationError(f"{file}:{number}: unknown label {line!r}; {did_you_mean(line, labels)}")
    return np.array([ids[line.strip()] for line in lines], np.int64)


def _fit(ids: np.ndarray, length: int, name: str, options: ImportOptions, repairs: Repairs) -> np.ndarray:
    """Return labels no longer than the features; `write` cuts features that are longer."""
    if len(ids) == length:
        return ids
    if options.length == "error":
        raise AnnotationError(
            f"video {name!r}: {len(ids)} labels, {length} frames of features; extract them at the rate of "
            "the labels, or import with length: cut"
        )
    repairs.cut.append(f"{name}: {len(ids)} labels, {length} frames")
    return ids[:length]
