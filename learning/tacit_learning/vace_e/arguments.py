"""What the verbs over VACE-E are asked.

Apart from the verbs themselves, which import torch: so a verb's help, and a wrong word, are answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tacit.config.arguments import Count, CountOrNone, NewFile, NewFolder, Seed

Solver = Literal["euler", "unipc"]
"""How the noise is taken off."""
WindowMode = Literal["first", "uniform", "random", "chunked", "sliding"]
"""Which windows of an episode are seen."""


@dataclass(frozen=True)
class Guidance:
    """Weight of each kind of condition; 1 is as trained, 0 leaves it out."""

    text: float | None = None
    """Of the prompt and the text stream; guidance_scale of the run when left out."""
    motion: float = 1.0
    objects: float = 1.0
    embodiment: float = 1.0


@dataclass(frozen=True)
class SampleArguments:
    """Draw videos: masked video, prompt, hands, objects and picture of a data set in, mp4 out.

    Example: tacit sample vace_e runs/vace_e --data data/vace_e --out runs/samples --num 4
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A run folder (then its last checkpoint) or a checkpoint folder."""
    out: NewFolder
    """Folder for the videos."""
    data: Path | None = None
    """Data set; that of the training run when left out. Target videos are not needed."""
    metadata: Path | None = None
    """Metadata of its tasks; metadata.json beside the tasks if there is one."""
    num: Count = 4
    """Windows to draw, evenly spread."""
    episode: str | None = None
    """Only episodes whose task/episode contains this text."""
    steps: Count | None = None
    """Steps in time; those of the run when left out."""
    sampler: Solver | None = None
    """Solver; that of the run when left out."""
    shift: float | None = None
    """Shift of the noise levels; that of the run when left out."""
    lora: tuple[str, ...] = ()
    """word=run: windows whose task folder or prompt contains the word are drawn with the low-rank adapters of
    that run, the others with the model's own."""
    guidance: Guidance = field(default_factory=Guidance)
    seed: Seed = 0
    """Seed of the noise."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Validate a checkpoint: loss on fixed noise, videos against recordings, probes of the features."""

    checkpoint: Path
    """A run folder (then its last checkpoint) or a checkpoint folder."""
    test_data: Path
    """Data set to measure on; its texts never get new labels."""
    output_dir: NewFolder
    """Folder for validation.json, samples and the page."""
    metadata: Path | None = None
    """Metadata of its tasks; metadata.json beside the tasks if there is one."""
    num_samples: Count | None = None
    """Windows for the loss; as in the run when left out."""
    num_videos: CountOrNone | None = None
    """Windows to draw; as in the run when left out."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class CheckArguments:
    """Check a VACE-E data set: every episode by the rules of the format, masks, sizes, metadata.

    Exit code 0 when every episode can be used, 1 when some cannot, 2 when none can.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """Folder of the task folders (dataset_base_path)."""
    metadata: Path | None = None
    """Metadata of the tasks (JSON); metadata.json in the data folder if there is one."""
    robot_data: Path | None = None
    """Root of the HDF5 files, where they do not lie beside the videos."""
    height: Count = 480
    """Height of the windows [px]."""
    width: Count = 832
    """Width of the windows [px]."""
    num_frames: Count = 81
    """Frames of the windows, 4 k + 1."""
    fps: float = 16.0
    """Rate of the model, at which videos are sampled by their own stamps [Hz]."""
    window: WindowMode = "first"
    """Which windows of an episode."""
    batch_size: Count = 1
    """Over all processes; says how many repeats fill the batches."""
    gripper_open_values: tuple[int, ...] = ()
    """Integer codes that mean open."""
    control_from_mask: bool = False
    """Make the control video from target and mask."""
    json: NewFile | None = None
    """Write the report here."""


@dataclass(frozen=True)
class CheckLabels:
    """Check the labels of a VACE-E data set: equal in every shuffle and subset, and to an earlier run.

    Exit code 0 when they are, 1 when not, 2 when nothing could be checked.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """Folder of the task folders (dataset_base_path)."""
    metadata: Path | None = None
    """Metadata of the tasks (JSON); metadata.json in the data folder if there is one."""
    labels: Path | None = None
    """Maps to use, and to extend by what these data add: labels.json, or a checkpoint that holds one."""
    older: Path | None = None
    """Maps of an earlier run: their ids must be the same now."""
    task_label_by: Literal["prompt", "task_type"] = "prompt"
    """What makes a task class."""
    embodiment_label: Literal["coarse", "fine"] = "coarse"
    """human and robot, or every embodiment_type by itself."""
    seed: Seed = 0
    """Seed of the shuffles and subsets."""
    write: NewFile | None = None
    """Write the maps here as labels.json."""
    json: NewFile | None = None
    """Write the report here."""
