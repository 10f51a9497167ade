"""`tacit convert annotations` and `tacit simulate alignment`: data sets that the trainer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from tacit_learning.alignment.synthetic import SyntheticConfig, make_set
from tacit_learning.data.annotation_importers import FORMATS, ImportOptions, read, write
from tacit_learning.data.annotation_policies import SegmentPolicy
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
    fps: float | None = None
    """Frames per second of the features; for episodes the rate to resample to."""
    features: Path | None = None
    """Folder of <video>.npy; ms-tcn has its own."""
    names: Path | None = None
    """File of `id name` lines, for egoprocel-csv."""
    background: tuple[str, ...] = ImportOptions().background
    """Names that are no step of the task."""
    missing: Literal["error", "drop"] = "error"
    """A video without annotation or features."""
    length: Literal["error", "cut"] = "error"
    """Labels and features of different lengths (ms-tcn): cut to the shorter."""
    ends: Literal["auto", "inclusive", "exclusive"] = "auto"
    """Whether an end frame belongs to its step (lerobot)."""
    tasks: tuple[str, ...] = ()
    """Which tasks to read (gtcc-json); all if left out."""
    prefix: Literal["dense", "sparse"] = "dense"
    """Which subtask columns to read (lerobot)."""
    split: int = 1
    """Number of the split (ms-tcn)."""
    train_share: float = 0.75
    """Share of training videos where the format names no split."""
    seed: int = 0
    """Of that draw."""
    order: Literal["error", "sort"] = "error"
    """Steps that are not in order of their starts."""
    overlap: Literal["error", "trim"] = "error"
    """Steps that overlap: trim ends one before the next starts."""
    beyond: Literal["error", "drop"] = "error"
    """Steps that reach past the last frame."""
    empty: Literal["error", "drop"] = "error"
    """Steps in which no frame lies at this rate."""
    gap: Literal["background", "error"] = "background"
    """Frames that belong to no step."""

    def options(self) -> ImportOptions:
        """Return what the readers take."""
        policy = SegmentPolicy(
            order=self.order, overlap=self.overlap, beyond=self.beyond, empty=self.empty, gap=self.gap
        )
        shared = {name: getattr(self, name) for name in ImportOptions.model_fields if name != "policy"}
        return ImportOptions(policy=policy, **shared)


@dataclass(frozen=True)
class SyntheticArguments:
    """Make the synthetic set: a two-link arm, six chores, and everything that fools a clock.

    Re-ordered, repeated and missing steps, pauses, rewinds, cut videos, slipping and unmoved objects,
    with the true progress of every frame under truth/.
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder to write."""
    seed: int = 0
    """Another seed is another set."""
    train: int = 32
    """Ordinary training videos."""
    test: int = 12
    """Ordinary test videos."""
    special: int = 10
    """Test videos of each special kind."""
    train_special: int = 4
    """Training videos of each special kind."""
    keep_frames: bool = False
    """Also write the images, for raw-video training and overlay videos (half a megabyte per video)."""


def convert_annotations(argv: Sequence[str]) -> int:
    """Run `tacit convert annotations`; returns the exit code."""
    arguments = tyro.cli(ConvertArguments, args=list(argv), prog="tacit convert annotations")
    imported = read(arguments.format, arguments.source, arguments.options())
    transposed = FORMATS[arguments.format].transposed
    written = write(imported, arguments.to, transposed=transposed, cut=arguments.length == "cut")
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
    chosen = {
        name: getattr(arguments, name) for name in SyntheticConfig.model_fields if hasattr(arguments, name)
    }
    made = make_set(SyntheticConfig(**chosen), arguments.out)
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
