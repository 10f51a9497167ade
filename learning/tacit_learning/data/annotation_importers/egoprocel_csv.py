"""EgoProceL (Bansal et al. 2022): one CSV per video: start_sec, end_sec, step_id, header or not.

A header that says start_frame, end_frame counts frames at `native_fps`, the last one inclusive. The step
may carry its text after the id; texts of one id differ, so the id is the name unless `names` says another.
Videos without a CSV, and CSVs without features, exist: see `missing` of the options.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

from tacit.config.documents import MAX_TABLE_BYTES, read_text
from tacit.errors import AnnotationError
from tacit_learning.data.annotation_importers.common import (
    Imported,
    ImportOptions,
    at_rate,
    check_rate,
    draw_splits,
    feature_length,
    make_annotation,
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
    tasks = {name: "" if file.parent == path else file.parent.name for name, file in files.items()}
    by_task = {task: Repairs() for task in tasks.values()}
    features = _find_features(files, options, lambda name: by_task.setdefault(tasks.get(name, ""), Repairs()))
    splits = draw_splits(files, options)
    videos: list[Annotation] = []
    chosen = {n: file for n, file in files.items() if options.features is None or n in features}
    found = {name: _segments(file, options) for name, file in chosen.items()}
    reach = {name: max((s.end for s in segments), default=-1) + 1 for name, segments in found.items()}
    lengths = {name: feature_length(path) for name, path in features.items()}
    check_rate(reach, lengths, options)
    for name, segments in found.items():
        length, task = lengths.get(name, reach[name]), tasks[name]
        fields = {"task": task, "split": splits[name]}
        videos.append(make_annotation(name, length, segments, options, by_task[task], **fields))
    annotations = AnnotationSet.of_videos(videos, frozenset(options.background))
    return Imported(annotations, features, Repairs.of_all(by_task.values()), by_task=by_task)


def _find_features(
    files: dict[str, Path], options: ImportOptions, repairs_of: Callable[[str], Repairs]
) -> dict[str, Path]:
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
    for name in alone:
        repairs_of(name).missing.append(name)
    return {name: found[name] for name in files if name in found}


def _segments(file: Path, options: ImportOptions) -> list[Segment]:
    segments, in_frames = [], False
    for number, row in enumerate(_rows(file), start=1):
        values = [value.strip() for value in row]
        if number == 1 and _is_header(values):
            in_frames = "frame" in values[0].lower()
            continue
        if not any(values):
            continue
        if len(values) < 3 or not (_is_number(values[0]) and _is_number(values[1])):
            raise AnnotationError(f"{file}:{number}: {row}, expected start_sec, end_sec, step_id")
        span = float(values[0]), float(values[1])
        segments.append(_segment(step_id(values[2]), *span, in_frames, f"{file}:{number}", options))
    return segments


def _rows(file: Path) -> list[list[str]]:
    text = read_text(file, MAX_TABLE_BYTES, "table", AnnotationError)
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as problem:
        raise AnnotationError(f"{file}: no CSV: {problem}") from None


def _segment(
    step: str, start: float, end: float, in_frames: bool, where: str, options: ImportOptions
) -> Segment:
    """Return one step in frames of the features; times are seconds unless the file counts frames."""
    if not in_frames:
        return Segment(step, *seconds_to_frames(start, end, required_fps(options)))
    if options.native_fps is None or not (start.is_integer() and end.is_integer()):
        raise AnnotationError(
            f"{where}: frames {start:g} to {end:g}, as the header says; give whole numbers, and their rate "
            "with native-fps"
        )
    return at_rate([Segment(step, int(start), int(end))], options)[0]


def step_id(text: str) -> str:
    """Return the id of a step written as `3`, `3.`, `3 pour oil` or `3. Pour oil`; other text as it is."""
    first = text.split()[0].rstrip(".") if text.split() else ""
    return first if first.isdigit() else text


def _is_header(values: list[str]) -> bool:
    """Names of columns: words, none of them a number; anything else in the first row is data, or a fault."""
    return all(value.replace("_", " ").replace(" ", "").isalpha() for value in values if value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
