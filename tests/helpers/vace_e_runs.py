"""Small training runs of VACE-E: a generated data set, options, and what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from benches.drawn_clips import SyntheticConfig, example_tasks, write_dataset
from tacit.config import parse
from tacit_learning.engine.checkpoint import Checkpoint, load_checkpoint
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.model.vace_e import PREFIX
from tacit_learning.vace_e.run import train

STAGES = {
    "first": {"epochs": 1, "trainable_models": "vace_e", "learning_rate": 1e-3},
    "second": {"epochs": 1, "trainable_models": "dit,vace,vace_e", "learning_rate": 5e-4},
}


def write_small_dataset(folder: Path, episodes: int = 2, **options: Any) -> Path:
    """Write a data set of 32x48 pixels and 9 frames; every task has `episodes`."""
    config = SyntheticConfig(height=32, width=48, num_frames=9, **options)
    write_dataset(folder, example_tasks(episodes), config)
    return folder


def small_config(data: Path, output: Path, **options: Any) -> VaceEConfig:
    """Return options of a run of seconds on a CPU."""
    defaults: dict[str, Any] = {
        "dataset_base_path": str(data),
        "task_metadata_path": str(data / "metadata.json"),
        "output_path": str(output),
        "cache_path": str(data.parent / "cache"),
        "base_model": "tiny",
        "height": 32,
        "width": 48,
        "num_frames": 9,
        "batch_size": 2,
        "mixed_precision": "no",
        "use_gradient_checkpointing": False,
        "feature_batch": 16,
        "club_training_steps": 2,
        "device": "cpu",
        "training_stages": STAGES,
        "validation": {"enabled": False},
        "logging": {"log_frequency": 1, "tensorboard": False},
    }
    return parse(VaceEConfig, defaults | options, "test")


def run(config: VaceEConfig) -> Checkpoint:
    """Train and return the last checkpoint."""
    train(config, SilentReporter())
    return load_checkpoint(config.output_path)


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights by their names in the model, which is part of its objective."""
    return {name.removeprefix(PREFIX): value for name, value in checkpoint.weights.items()}


def losses(config: VaceEConfig) -> list[dict[str, float]]:
    """Return the metrics of training steps, without those of speed."""
    rows = [
        json.loads(line) for line in (Path(config.output_path) / "metrics.jsonl").read_text().splitlines()
    ]
    ignored = ("kind", "samples_per_s")
    return [{k: v for k, v in row.items() if k not in ignored} for row in rows if row["kind"] == "train"]


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Return the names of the tensors that differ in any bit."""
    return {name for name, value in after.items() if not value.equal(before[name])}
