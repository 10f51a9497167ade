"""EgoProceL (Bansal et al. 2022): one CSV per video: start_sec, end_sec, step_id, header or not.

The step may carry its text after the id; texts of one id differ, so the id is the name unless a file of
names is given. Videos without a CSV, and CSVs without features, exist: see `missing` of the options.
"""

from __future__ import annotations

import csv
from pathlib import Path

from tacit.errors import AnnotationError
from tacit_learning.data.annotation_importers.common import (
    Imported,
    ImportOptions,
    draw_splits,
    feature_length,
    make_annotation,
    read_names,
    required_fps,
    seconds_to_frames,
)
from tacit_learning.data.annotation_policies import Repairs
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment


def read(path: Path, options: ImportOptions) -> Imported:
    """Read every CSV under a folder; the task of a video is the folder that its CSV lies in.

    Raises:
        AnnotationError: No CSV, a row that is not three values, or a segment is refused.
    """
    files = {file.stem: file for file in sorted(path.rglob("*.csv"))}
    if not files:
        raise AnnotationError(f"{path}: holds no .csv file")
    names = read_names(options.names)
    repairs = Repairs()
    features = _find_features(files, options, repairs)
    splits = draw_splits(files, options)
    videos: list[Annotation] = []
    for name, file in files.items():
        if options.features is not None and name not in features:
            continue
        segments = _segments(file, names, required_fps(options))
        last = max((segment.end for segment in segments), default=-1)
        length = feature_length(features[name]) if name in features else last + 1
        task = "" if file.parent == path else file.parent.name
        videos.append(
            make_annotation(name, length, segments, options, repairs, task=task, split=splits[name])
        )
    return Imported(AnnotationSet.of_videos(videos, frozenset(options.background)), features, repairs)


def _find_features(files: dict[str, Path], options: ImportOptions, repairs: Repairs) -> dict[str, Path]:
    """Return the feature file of every annotated video, where a folder of features is given."""
    if options.features is None:
        return {}
    found = {file.stem: file for file in sorted(options.features.rglob("*.npy"))}
    alone = sorted(set(files) ^ set(found))
    if alone and options.missing == "error":
        raise AnnotationError(
            f"{options.features}: {len(alone)} videos have annotation or features but not both, such as "
            f"{alone[0]!r}; import with missing: drop to leave them out"
        )
    repairs.missing += alone
    return {name: found[name] for name in files if name in found}


def _segments(file: Path, names: dict[str, str], fps: float) -> list[Segment]:
    segments = []
    with file.open(newline="", encoding="utf-8-sig") as stream:
        for number, row in enumerate(csv.reader(stream), start=1):
            values = [value.strip() for value in row]
            if not any(values) or (number == 1 and _is_header(values)):
                continue
            if len(values) < 3 or not (_is_number(values[0]) and _is_number(values[1])):
                raise AnnotationError(f"{file}:{number}: {row}, expected start_sec, end_sec, step_id")
            step = step_id(values[2])
            if names and step not in names:
                raise AnnotationError(f"{file}:{number}: step {step!r} is not in the file of names")
            first, last = seconds_to_frames(float(values[0]), float(values[1]), fps)
            segments.append(Segment(names.get(step, step), first, last))
    return segments


def step_id(text: str) -> str:
    """Return the id of a step written as `3`, `3.`, `3 pour oil` or `3. Pour oil`; other text as it is."""
    first = text.split()[0].rstrip(".") if text.split() else ""
    return first if first.isdigit() else text


def _is_header(values: list[str]) -> bool:
    """Names of columns: words, none of them a number; anything else in the first row is data, or a fault."""
    return all(value.replace("_", " ").replace(" ", "").isalpha() for value in values if value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
