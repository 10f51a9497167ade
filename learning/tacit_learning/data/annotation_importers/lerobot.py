"""Subtask columns of a LeRobot data set, as its SARM reward model writes them.

`meta/episodes/**/*.parquet` (v3) or `meta/episodes.jsonl` (v2.1) hold, per episode, lists
`<prefix>_subtask_names`, `_subtask_start_frames`, `_subtask_end_frames`. Writers disagree whether the
end frame belongs to the step: `ends: auto` looks for shared boundaries over the whole set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from tacit.config import load_json
from tacit.config.documents import MAX_TABLE_BYTES, json_mapping, read_text
from tacit.errors import AnnotationError
from tacit_learning.data.annotation_importers.common import (
    Imported,
    ImportOptions,
    draw_splits,
    make_annotation,
)
from tacit_learning.data.annotation_policies import Repairs
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment

MAX_EPISODES = 1_000_000
"""Rows of one table; the largest public sets have 80,000 episodes in all."""
COLUMNS = ("subtask_names", "subtask_start_frames", "subtask_end_frames")
Row = Mapping[str, Any]


def read(path: Path, options: ImportOptions) -> Imported:
    """Read the root of a data set; episodes without subtasks are `missing`.

    Raises:
        AnnotationError: No episode table, no subtask columns, or a segment is refused.
    """
    info = load_json(path / "meta" / "info.json", AnnotationError)
    options = options.model_copy(update={"fps": float(str(info.get("fps", options.fps)))})
    rows = _rows(path)
    columns = _columns(path, rows, options.prefix)
    repairs = Repairs()
    annotated = [row for row in rows if row.get(columns[0]) is not None and len(row[columns[0]])]
    _note_missing(path, rows, annotated, options, repairs)
    exclusive = _ends_are_exclusive(annotated, columns, options)
    splits = draw_splits([_name(row) for row in annotated], options)
    videos: list[Annotation] = []
    for row in annotated:
        names, starts, ends = (list(row[column]) for column in columns)
        if not len(names) == len(starts) == len(ends):
            raise AnnotationError(
                f"{path}: {_name(row)}: {len(names)} names, {len(starts)} starts, {len(ends)} ends"
            )
        steps = zip(names, starts, ends, strict=True)
        segments = [Segment(str(name), int(start), int(end) - exclusive) for name, start, end in steps]
        task = _task(row)
        fields = {"task": task, "split": splits[_name(row)]}
        videos.append(make_annotation(_name(row), int(row["length"]), segments, options, repairs, **fields))
    return Imported(AnnotationSet.of_videos(videos, frozenset(options.background)), {}, repairs)


def _rows(path: Path) -> list[Row]:
    tables = sorted((path / "meta" / "episodes").rglob("*.parquet"))
    if tables:
        return [row for table in tables for row in _table_rows(table)]
    lines = path / "meta" / "episodes.jsonl"
    if not lines.is_file():
        raise AnnotationError(f"{path}: neither meta/episodes/*.parquet nor meta/episodes.jsonl is there")
    text = read_text(lines, MAX_TABLE_BYTES, "list of episodes", AnnotationError)
    return [
        json_mapping(line, f"{lines}:{number}", AnnotationError)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def _table_rows(path: Path) -> list[Row]:
    """Return the rows of one table, unless it declares more episodes than anybody has recorded."""
    try:
        declared = pq.read_metadata(path).num_rows
        if declared > MAX_EPISODES:
            raise AnnotationError(f"{path}: declares {declared} episodes; at most {MAX_EPISODES} are read")
        return pq.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as problem:
        raise AnnotationError(f"{path}: cannot be read as Parquet ({problem})") from None


def _columns(path: Path, rows: list[Row], prefix: str) -> tuple[str, str, str]:
    """Return the names of the three columns, with the prefix or (older sets) without."""
    known = {column for row in rows for column in row}
    for start in dict.fromkeys((f"{prefix}_" if prefix else "", "")):
        names = tuple(start + column for column in COLUMNS)
        if set(names) <= known:
            return names  # type: ignore[return-value]
    raise AnnotationError(
        f"{path}: no columns {prefix}_{COLUMNS[0]}, ...; annotate the subtasks, or choose the other prefix"
    )


def _note_missing(
    path: Path, rows: list[Row], annotated: list[Row], options: ImportOptions, repairs: Repairs
) -> None:
    missing = [_name(row) for row in rows if row not in annotated]
    if missing and options.missing == "error":
        raise AnnotationError(
            f"{path}: {len(missing)} of {len(rows)} episodes have no subtasks, such as {missing[0]}; import "
            "with missing: drop to leave them out"
        )
    repairs.missing += missing


def _ends_are_exclusive(rows: list[Row], columns: tuple[str, str, str], options: ImportOptions) -> bool:
    """Tell whether an end is the start of the next step, or the length of its episode, anywhere."""
    if options.ends != "auto":
        return options.ends == "exclusive"
    for row in rows:
        starts, ends = list(row[columns[1]]), list(row[columns[2]])
        if ends[-1] == row["length"] or any(e == s for s, e in zip(starts[1:], ends, strict=False)):
            return True
    return False


def _name(row: Row) -> str:
    return f"episode_{int(row['episode_index']):06d}"


def _task(row: Row) -> str:
    tasks = row.get("tasks", row.get("task", ""))
    return str(tasks) if isinstance(tasks, str) else str(next(iter(tasks or ()), ""))
