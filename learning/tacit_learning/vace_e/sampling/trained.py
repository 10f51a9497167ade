"""A trained model back from its checkpoint, with its options and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tacit.config import parse
from tacit.config.documents import yaml_mapping
from tacit_learning.data.labels import LabelMaps, labels_from_json
from tacit_learning.engine.checkpoint import Checkpoint, load_checkpoint
from tacit_learning.vace_e.assembly import fill_model, make_model
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.model.vace_e import VaceE


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode and everything known about it."""

    folder: Path
    model: VaceE
    config: VaceEConfig
    labels: LabelMaps
    step: int


def load_trained(
    checkpoint: str | Path, device: torch.device | str = "cpu", changes: Mapping[str, object] | None = None
) -> Trained:
    """Rebuild the model of a checkpoint or run folder.

    Args:
        checkpoint: A run folder (then its last checkpoint) or a checkpoint folder.
        device: Where to put the model.
        changes: Options that differ from the checkpoint's, such as where the data lie.

    Raises:
        ConfigError: No checkpoint there, of another format, or options that do not exist.
    """
    saved = load_checkpoint(checkpoint)
    folder = saved.folder
    config = saved_config(saved, changes)
    model = make_model(config.model_copy(update={"vace_e_checkpoint": None}))
    fill_model(model, saved, str(folder))
    labels = labels_from_json(json.loads(saved.texts["labels.json"]), f"{folder}/labels.json")
    return Trained(folder, model.to(device).eval(), config, labels, saved.position.step)


def saved_config(saved: Checkpoint, changes: Mapping[str, object] | None = None) -> VaceEConfig:
    """Return the options of a checkpoint, some of them changed."""
    values = yaml_mapping(saved.texts["config.yaml"], f"{saved.folder}/config.yaml") | dict(changes or {})
    return parse(VaceEConfig, values, f"{saved.folder}/config.yaml")


def choose_device(name: str) -> torch.device:
    """Return the device that `auto` or a name such as `cpu` means."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
