"""What the verbs over alignment and progress are asked.

Apart from the verbs themselves, which import torch: so a verb's help, and a wrong word, are answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tacit.config.arguments import Count, CountOrNone, NewFile, NewFolder, Share
from tacit.progress import DetectorConfig


@dataclass(frozen=True)
class EvaluateAlignment:
    """Score a trained alignment model beside the baselines; see learning/README.md for the columns."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder, or a checkpoint folder."""
    data: Path | None = None
    """Folder of annotations and features; what it was trained on if left out."""
    checkpoint: str = "combined"
    """combined (lowest alignment + progress), alignment (lowest alignment loss) or last."""
    split: str | None = None
    """Part of the data that is scored; test if left out, validation for a run on episodes."""
    events: tuple[str, ...] = ()
    """Parts with annotated stalls and falls: how many the detector finds."""
    detector: DetectorConfig = DetectorConfig()
    """Thresholds for the events."""
    gru_steps: CountOrNone = 300
    """Optimiser steps of the plain causal GRU among the baselines; 0 leaves it out."""
    json: NewFile | None = None
    """Write every number to this file too."""


@dataclass(frozen=True)
class EvaluateProgress:
    """Judge a trained model of progress on recorded episodes, successes and failures."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder, or a checkpoint folder."""
    data: tuple[Path, ...] = ()
    """Recordings that were not trained on, or one folder of annotations and features; the validation part of
    the training if left out."""
    split: str | None = None
    """Part of a folder of features; test if left out and there is one, else validation."""
    checkpoint: str = "combined"
    """combined (lowest alignment + progress), alignment (lowest alignment loss) or last."""
    bundle: Path | None = None
    """Exported bundle: whose thresholds are used, and which --tune writes."""
    tune: bool = False
    """Fit the thresholds to the validation part of the training."""
    false_alarms: Share = 0.02
    """Largest share of successful episodes with a false alarm that --tune accepts."""
    gru_steps: CountOrNone = 200
    """Optimiser steps of the plain causal GRU among the baselines; 0 leaves it out."""
    page: NewFile | None = None
    """Write a page (HTML) here."""
    json: NewFile | None = None
    """Write every number here too."""


@dataclass(frozen=True)
class ExportSignals:
    """Write progress, rewards and sample weights of every frame as one parquet file.

    Example: tacit export signals runs/demo/progress.onnx --data data/place_cube --out progress.parquet
    """

    model: Annotated[Path, tyro.conf.Positional]
    """A progress bundle (.onnx; reads recorded episodes) or an alignment run (reads annotated features)."""
    data: Path
    """The data set."""
    out: NewFile
    """The parquet file."""
    chunk: Count = 25
    """Frames of one action chunk of the policy that will be trained."""
    splits: tuple[str, ...] = ()
    """Parts of annotated features; all if left out."""


@dataclass(frozen=True)
class ViewAlignment:
    """Write a page with progress and alignment of a trained model, and overlay videos."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder, or a checkpoint folder."""
    out: NewFolder
    """Folder to write index.html and videos into."""
    data: Path | None = None
    """Folder of annotations and features; the one it was trained on if left out."""
    checkpoint: str = "combined"
    """combined, alignment or last."""
    split: str = "test"
    """Part of the data to show."""
    videos: CountOrNone = 4
    """How many videos of it."""
