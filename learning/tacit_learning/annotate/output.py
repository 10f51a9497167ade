"""Where labels go: a `tacit-annotations` file, the recordings themselves, or the columns of a LeRobot set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tacit.convert.lerobot.layout import EPISODES_V2, INFO
from tacit.convert.lerobot.source import table_problems
from tacit.episode.edit import Labels, label
from tacit.episode.steps import Step
from tacit.errors import AnnotationError
from tacit_learning.annotate.labels import Labelling
from tacit_learning.annotate.sources import Collection, LeRobotClip, Recording
from tacit_learning.data.annotation_files import save_annotation_set
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment

COLUMNS = ("dense_subtask_names", "dense_subtask_start_frames", "dense_subtask_end_frames")
"""What LeRobot's SARM reads of an episode; its end frames belong to their step."""
PROPORTIONS = "meta/temporal_proportions_dense.json"
Labelled = Mapping[str, Labelling]


def write_annotations(collection: Collection, labelled: Labelled, folder: Path) -> Path:
    """Write `annotations.json` of every labelled clip; those seen by a person are in the split train, the
    others in `transferred`.

    Raises:
        AnnotationError: No clip has a step.
    """
    return save_annotation_set(AnnotationSet.of_videos(_annotations(collection, labelled)), folder)


def write_into_data(collection: Collection, labelled: Labelled) -> int:
    """Write the steps into recordings, or into the columns of a LeRobot set; returns the changed episodes.

    Raises:
        AnnotationError: A folder of videos has no place for steps.
        EpisodeError: A recording is not finished, or a table is damaged.
    """
    if (collection.place / INFO).is_file():
        return _write_columns(collection, labelled)
    if not all(isinstance(clip, Recording) for clip in collection.clips):
        raise AnnotationError(
            f"{collection.place}: a folder of videos holds no steps; they are in annotations.json alone"
        )
    changed = 0
    for clip in collection.clips:
        if isinstance(clip, Recording) and clip.name in labelled:
            steps = [Step(*segment) for segment in labelled[clip.name].segments(clip.num_frames)]
            changed += bool(label(clip.path, Labels(steps=steps)))
    return changed


def _annotations(collection: Collection, labelled: Labelled) -> list[Annotation]:
    found = []
    for clip in collection.clips:
        said = labelled.get(clip.name)
        segments = said.segments(clip.num_frames) if said is not None else []
        if said is None or not segments:
            continue
        split = "train" if said.by_hand else "transferred"
        fields = {"task": clip.task, "split": split}
        found.append(Annotation.of_segments(clip.name, clip.num_frames, collection.fps, segments, **fields))
    if not found:
        raise AnnotationError("nothing is labelled yet: set the steps of a clip first")
    return found


def _write_columns(collection: Collection, labelled: Labelled) -> int:
    """Add or replace the columns; rows of episodes that are not labelled keep what they had."""
    from tacit_learning.losses.progress import mean_shares  # torch, which a page need not wait for

    clips = {clip.entry.number: clip for clip in collection.clips if isinstance(clip, LeRobotClip)}
    steps = {
        number: labelled[clip.name].segments(clip.num_frames)
        for number, clip in clips.items()
        if clip.name in labelled
    }
    tables = sorted((collection.place / "meta" / "episodes").rglob("*.parquet"))
    for path in tables:
        _rewrite_table(path, steps)
    if not tables:
        _rewrite_lines(collection.place / EPISODES_V2, steps)
    shares = mean_shares(_annotations(collection, labelled))
    total = sum(shares.values())
    text = json.dumps({name: share / total for name, share in shares.items()}, indent=1)
    _replace(collection.place / PROPORTIONS, text.encode())
    return len(steps)


def _rewrite_table(path: Path, steps: Mapping[int, Sequence[Segment]]) -> None:
    with table_problems(path):
        table = pq.read_table(path)
    types = (pa.list_(pa.string()), pa.list_(pa.int64()), pa.list_(pa.int64()))
    numbers = table.column("episode_index").to_pylist()
    for column, (name, kind) in enumerate(zip(COLUMNS, types, strict=True)):
        old = table.column(name).to_pylist() if name in table.column_names else [None] * len(numbers)
        values = [
            [segment[column] for segment in steps[number]] if number in steps else before
            for number, before in zip(numbers, old, strict=True)
        ]
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array(values, kind))
    temporary = path.with_name(f".{path.name}.writing")
    pq.write_table(table, temporary)
    os.replace(temporary, path)


def _rewrite_lines(path: Path, steps: Mapping[int, Sequence[Segment]]) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    for row in rows:
        if row["episode_index"] in steps:
            found = steps[row["episode_index"]]
            row |= {name: [segment[i] for segment in found] for i, name in enumerate(COLUMNS)}
    _replace(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_bytes(data)
    os.replace(temporary, path)
