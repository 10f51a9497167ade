"""Checkpoints of VACE-E: what trained, its optimiser, CLUB with its own, labels, stage and step.

A folder without pickle, written beside its name and renamed. Base weights that never trained stay
where they came from; their place and hash stand in `state.json`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from tacit.errors import ConfigError

FORMAT = "tacit-vace-e-checkpoint 1"
OLDER = ".old"  # what a process leaves that dies between two renames
ON_CPU = StateDictOptions(full_state_dict=True, cpu_offload=True)
WHOLE = StateDictOptions(full_state_dict=True)
MODEL, OPTIMIZER, CLUB, STATE = "model.safetensors", "optimizer.safetensors", "club.safetensors", "state.json"

Flat = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Finished optimiser steps of all stages.
        stage: Index of the stage that `step` ended in.
        seconds: Training time.
        scaler: State of the loss scaler (fp16 alone).
        base: What the frozen weights are: their place and hash.
        metrics: Of the last validation.
    """

    step: int
    stage: int
    seconds: float
    scaler: Mapping[str, float] = field(default_factory=dict)
    base: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """Everything of a checkpoint, gathered on the main process.

    Attributes:
        weights: Name -> tensor of what is saved of the model.
        optimizer: Flat state of AdamW, see `flat_optimizer_state`.
        club: Flat state of CLUB and its optimiser; empty without CLUB.
        texts: File name -> content (config.yaml, labels.json, stages.json).
    """

    progress: Progress
    weights: Mapping[str, Tensor]
    optimizer: Flat
    club: Flat
    texts: Mapping[str, str]


def save_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write a checkpoint, replacing an older one of that name only when complete."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_tensors(temporary / MODEL, snapshot.weights)
    values: dict[str, Any] = {}
    for name, flat in ((OPTIMIZER, snapshot.optimizer), (CLUB, snapshot.club)):
        tensors = {key: value for key, value in flat.items() if isinstance(value, Tensor)}
        values[name] = {key: value for key, value in flat.items() if key not in tensors}
        save_tensors(temporary / name, tensors)
    state = asdict(snapshot.progress) | {"format": FORMAT, "values": values, "texts": sorted(snapshot.texts)}
    (temporary / STATE).write_text(json.dumps(state, default=dict), encoding="utf-8")
    for name, text in snapshot.texts.items():
        (temporary / name).write_text(text, encoding="utf-8")
    older = folder.with_name(folder.name + OLDER)
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.rename(older)
    temporary.rename(folder)
    shutil.rmtree(older, ignore_errors=True)


def load_snapshot(path: str | Path) -> Snapshot:
    """Read a checkpoint.

    Raises:
        ConfigError: No checkpoint there, or of another format.
    """
    folder = find_snapshot(Path(path))
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if state.get("format") != FORMAT:
        raise ConfigError(f"{folder}: format {state.get('format')!r}, expected {FORMAT!r}")
    names = ("step", "stage", "seconds", "scaler", "base", "metrics")
    return Snapshot(
        Progress(**{name: state[name] for name in names}),
        load_file(folder / MODEL),
        load_file(folder / OPTIMIZER) | state["values"][OPTIMIZER],
        load_file(folder / CLUB) | state["values"][CLUB],
        {name: (folder / name).read_text(encoding="utf-8") for name in state["texts"]},
    )


def find_snapshot(path: Path) -> Path:
    """Return the checkpoint folder for a checkpoint or a run folder (then its `last`).

    Raises:
        ConfigError: Neither.
    """
    last = path / "checkpoints" / "last"
    for candidate in (path, last, last.with_name(last.name + OLDER)):
        if (candidate / STATE).is_file():
            return candidate
    raise ConfigError(
        f"{path}: no checkpoint ({STATE}) there nor in checkpoints/last; give a run or checkpoint folder"
    )


def flat_optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> Flat:
    """Return the state of an optimiser by the names of parameters; whole on the main process."""
    state: Any = get_optimizer_state_dict(module, optimizer, options=ON_CPU)
    if not state:  # sharded, and not the main process
        return {}
    flat: Flat = {
        f"state.{name}/{key}": value
        for name, values in state["state"].items()
        for key, value in values.items()
    }
    return flat | {"param_groups": state["param_groups"]}


def restore_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, flat: Flat) -> None:
    """Put a state of `flat_optimizer_state` back.

    Raises:
        ConfigError: It is of other parameters: another stage, or another model.
    """
    states: dict[str, dict[str, Any]] = {}
    for path, value in flat.items():
        if path != "param_groups":
            name, key = path.removeprefix("state.").rsplit("/", 1)
            states.setdefault(name, {})[key] = value
    trains = {name for name, each in module.named_parameters() if each.requires_grad}
    if states and trains != set(states):
        odd = sorted(trains ^ set(states))
        raise ConfigError(
            f"resume_from: the optimiser there is of {len(states)} parameters, this stage trains "
            f"{len(trains)}; the first that differ: {', '.join(odd[:3])}; keep training_stages as they were"
        )
    optimizer.zero_grad(set_to_none=True)  # torch fills the fresh state by a step, and only without gradients
    state = {"state": states, "param_groups": flat["param_groups"]}
    set_optimizer_state_dict(module, optimizer, state, options=WHOLE)


def restore_weights(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy saved weights into a module that may hold more.

    Raises:
        ConfigError: A name or a shape that the module does not have.
    """
    own = module.state_dict()
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            found = tuple(own[name].shape) if name in own else "no such parameter"
            raise ConfigError(
                f"{where}: {name}: saved {tuple(value.shape)}, this model: {found}; was it made with other "
                "model options?"
            )
    module.load_state_dict(dict(weights), strict=False)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, wherever they lie, as safetensors."""
    save_file(_own(tensors), path)


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
