"""The JSON of GTCC (Donahue and Elhamifar 2024).

{task: {handles, hdl_actions, hdl_start_times, hdl_end_times}}, one list per video in the last three. Times
are frames of the features, or with `native_fps` of the video. The end of a step is the start of the next
one, so ends are taken as exclusive. Background is "0" or "SIL". In the file published for EgoProceL the CMU
tasks have more lists than handles, so which list belongs to which video is unknown: choose the other ones
by `tasks`, or leave such tasks out with missing: drop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tacit.config import load_json
from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.data.annotation_importers.common import (
    Imported,
    ImportOptions,
    at_rate,
    check_rate,
    draw_splits,
    feature_length,
    make_annotation,
    required_fps,
)
from tacit_learning.data.annotation_policies import Repairs
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment, whole_numbers

KEYS = ("handles", "hdl_actions", "hdl_start_times", "hdl_end_times")


def read(path: Path, options: ImportOptions) -> Imported:
    """Read one JSON file; `options.features` is the folder of `<handle>.npy`.

    Raises:
        AnnotationError: Keys are missing, lists differ in length, or a segment is refused.
    """
    data = load_json(path, AnnotationError)
    required_fps(options)
    by_task: dict[str, Repairs] = {}
    features: dict[str, Path] = {}
    found: list[tuple[str, str, list[Segment]]] = []
    for task, entry in _chosen(path, data, options.tasks).items():
        repairs = by_task[task] = Repairs()
        for handle, segments in _task_steps(path, task, entry, options, repairs):
            file = options.features / f"{handle}.npy" if options.features else None
            if file is not None and not file.is_file() and options.missing == "drop":
                repairs.missing.append(handle)
                continue
            found.append((task, handle, segments))
            if file is not None:
                features[handle] = file
    lengths = {handle: feature_length(file) for handle, file in features.items()}
    reach = {handle: max((s.end for s in segments), default=-1) + 1 for _, handle, segments in found}
    check_rate(reach, lengths, options)
    videos: list[Annotation] = []
    for task, repairs in by_task.items():
        inside = [(handle, segments) for own, handle, segments in found if own == task]
        splits = draw_splits([handle for handle, _ in inside], options)
        for handle, segments in inside:
            length = lengths.get(handle, reach[handle])
            fields = {"task": task, "split": splits[handle]}
            videos.append(make_annotation(handle, length, segments, options, repairs, **fields))
    annotations = AnnotationSet.of_videos(videos, frozenset(options.background))
    return Imported(annotations, features, Repairs.of_all(by_task.values()), by_task=by_task)


def _task_steps(
    path: Path, task: str, entry: object, options: ImportOptions, repairs: Repairs
) -> Iterator[tuple[str, list[Segment]]]:
    """Yield each video of a task with its steps; a task whose lists match no video is refused or left out."""
    try:
        lists = _lists(path, task, entry)
    except AnnotationError:
        if options.missing == "error" or not isinstance(entry, dict):
            raise
        repairs.missing += [str(handle) for handle in entry.get("handles", ())]
        return
    for handle, actions, starts, ends in zip(*lists, strict=True):
        segments = _segments(f"{path}: {task}.{handle}", actions, starts, ends)
        yield str(handle), at_rate(segments, options)


def _lists(path: Path, task: str, entry: object) -> list[list]:
    if not isinstance(entry, dict) or any(key not in entry for key in KEYS):
        raise AnnotationError(f"{path}: {task}: expected the keys {', '.join(KEYS)}")
    lists = [entry[key] for key in KEYS]
    if len({len(values) for values in lists}) != 1:
        counts = ", ".join(f"{key} {len(values)}" for key, values in zip(KEYS, lists, strict=True))
        raise AnnotationError(
            f"{path}: {task}: lists of different lengths: {counts}; which list belongs to which video is "
            "unknown, so name the tasks to read without this one (tasks), or import with missing: drop"
        )
    return lists


def _segments(where: str, actions: list, starts: list, ends: list) -> list[Segment]:
    """Return the steps of one video; spans without a frame are left to the policy."""
    if not len(actions) == len(starts) == len(ends):
        raise AnnotationError(f"{where}: {len(actions)} actions, {len(starts)} starts, {len(ends)} ends")
    first, after = whole_numbers(starts, f"{where}: start"), whole_numbers(ends, f"{where}: end")
    return [Segment(str(name), s, e - 1) for name, s, e in zip(actions, first, after, strict=True)]


def _chosen(path: Path, data: Mapping[str, object], tasks: tuple[str, ...]) -> dict[str, object]:
    for task in tasks:
        if task not in data:
            raise AnnotationError(f"{path}: no task {task!r}; {did_you_mean(task, data)}")
    return {task: entry for task, entry in data.items() if not tasks or task in tasks}
