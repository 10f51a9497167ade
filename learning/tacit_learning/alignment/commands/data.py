"""`tacit convert annotations` and `tacit simulate alignment`: data sets that the trainer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from tacit_learning.alignment.synthetic import SyntheticConfig, make_set
from tacit_learning.data.annotation_importers import FORMATS, ImportOptions, read, write
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
    to: Path
    """Folder to write."""
    options: tyro.conf.OmitArgPrefixes[ImportOptions] = ImportOptions()


@dataclass(frozen=True)
class SyntheticArguments:
    """Make the synthetic set: a two-link arm, six chores, and everything that fools a clock.

    Re-ordered, repeated and missing steps, pauses, rewinds, cut videos, slipping and unmoved objects,
    with the true progress of every frame under truth/.
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder to write."""
    config: tyro.conf.OmitArgPrefixes[SyntheticConfig] = SyntheticConfig()


def convert_annotations(argv: Sequence[str]) -> int:
    """Run `tacit convert annotations`; returns the exit code."""
    arguments = tyro.cli(ConvertArguments, args=list(argv), prog="tacit convert annotations")
    imported = read(arguments.format, arguments.source, arguments.options)
    transposed = FORMATS[arguments.format].transposed
    written = write(imported, arguments.to, transposed=transposed, cut=arguments.options.length == "cut")
    console = Console()
    console.print(summary(written))
    console.print(f"repairs: {imported.repairs}", highlight=False)
    console.print(
        f"{arguments.to}: annotations.json and {len(imported.features)} feature files", highlight=False
    )
    return 0


def simulate_alignment(argv: Sequence[str]) -> int:
    """Run `tacit simulate alignment`; returns the exit code."""
    arguments = tyro.cli(SyntheticArguments, args=list(argv), prog="tacit simulate alignment")
    made = make_set(arguments.config, arguments.out)
    console = Console()
    console.print(summary(made.annotations))
    console.print(f"{arguments.out}: annotations.json, features/, truth/", highlight=False)
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
