"""`tacit convert annotations`: foreign step annotations as a folder that the trainer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from tacit.config.arguments import NewFolder, parse_words
from tacit_learning.data.annotation_importers import ImportOptions, read, write
from tacit_learning.data.annotation_policies import Repairs
from tacit_learning.data.annotations import AnnotationSet


@dataclass(frozen=True)
class ConvertArguments:
    """Turn foreign step annotations into one folder: annotations.json and features/<video>.npy.

    Every doubt is an error until an option says how to repair it; repairs are counted.
    Example: tacit convert annotations salads --from ms-tcn --to data/salads --fps 15
    """

    source: Annotated[Path, tyro.conf.Positional]
    """The file or folder to read."""
    format: Annotated[str, tyro.conf.arg(name="from")]
    """gtcc-json, egoprocel-csv, ms-tcn, lerobot or episodes."""
    to: NewFolder
    """Folder to write."""
    options: tyro.conf.OmitArgPrefixes[ImportOptions] = ImportOptions()


def convert_annotations(argv: Sequence[str]) -> int:
    """Run `tacit convert annotations`; returns the exit code."""
    arguments = parse_words(ConvertArguments, argv, "tacit convert annotations")
    imported = read(arguments.format, arguments.source, arguments.options)
    written = write(imported, arguments.to, cut=arguments.options.length == "cut")
    console = Console()
    console.print(summary(written))
    if len(imported.by_task) > 1:
        console.print(repair_table(written, imported.by_task))
    console.print(f"repairs: {imported.repairs}", highlight=False)
    console.print(
        f"{arguments.to}: annotations.json and {len(imported.features)} feature files", highlight=False
    )
    return 0


def summary(annotations: AnnotationSet) -> Table:
    """Return a table of the parts of a set: videos, frames, steps, share of frames in a step."""
    table = Table(title=f"{len(annotations.labels)} actions at {annotations.fps:g} fps", title_justify="left")
    for column in ("split", "videos", "frames", "steps", "in a step"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in annotations.splits:
        videos = annotations.split(split)
        frames = sum(video.num_frames for video in videos)
        inside = sum(int(video.action_mask().sum()) for video in videos)
        steps = sum(len(video.action_segments()) for video in videos)
        table.add_row(split, str(len(videos)), str(frames), str(steps), f"{inside / frames:.0%}")
    return table


def repair_table(annotations: AnnotationSet, by_task: Mapping[str, Repairs]) -> Table:
    """Return a table of the tasks of a set: videos, steps, and what was repaired."""
    table = Table(title="Tasks", title_justify="left")
    for column in ("task", "videos", "steps", "repairs"):
        table.add_column(column, justify="right" if column in ("videos", "steps") else "left")
    for task, repairs in sorted(by_task.items()):
        videos = [video for video in annotations.videos if video.task == task]
        steps = sum(len(video.action_segments()) for video in videos)
        table.add_row(task, str(len(videos)), str(steps), str(repairs))
    return table
