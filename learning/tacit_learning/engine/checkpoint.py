"""Checkpoints without pickle: tensors as safetensors, everything else as JSON or YAML.

A folder holds model, average, optimiser and generator states, the position in the data, the
resolved configuration and a `describe` folder of texts (statistics, rig, backbones). Written beside
its name and renamed, so a checkpoint exists whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tacit.errors import ConfigError
from tacit_learning.engine import seeding

FORMAT = "tacit-checkpoint 1"


@dataclass(frozen=True)
class Position:
    """Where a run stands: finished optimiser steps, training seconds, and the best validation values so
    far by name of their checkpoint."""

    step: int = 0
    seconds: float = 0.0
    best: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """What evaluation and export read; weights are the average where the run kept one."""

    folder: Path
    texts: Mapping[str, str]
    weights: Mapping[str, Tensor]
    position: Position
    metrics: Mapping[str, float]


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    position: Position,
    texts: Mapping[str, str],
    metrics: Mapping[str, float],
) -> None:
    """Write a checkpoint folder, replacing an older one of that name only when complete.

    Args:
        folder: Target.
        module: What trains.
        average: Its moving average.
        optimizer: With per-parameter state.
        position: Where the run stands.
        texts: File name -> content (config.yaml, statistics.json, ...).
        metrics: Of the last validation.
    """
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_contiguous(module.state_dict()), temporary / "model.safetensors")
    if average is not None:
        save_file(_contiguous(average.state_dict()), temporary / "average.safetensors")
    tensors, groups = _optimizer_state(optimizer)
    save_file(tensors, temporary / "optimizer.safetensors")
    rng_tensors, rng_values = seeding.rng_state()
    save_file(rng_tensors, temporary / "rng.safetensors")
    state = {
        "format": FORMAT,
        "step": position.step,
        "seconds": position.seconds,
        "best": dict(position.best),
        "param_groups": groups,
        "rng": rng_values,
        "metrics": dict(metrics),
        "texts": sorted(texts),
    }
    (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for name, text in texts.items():
        (temporary / name).write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read texts and the weights to use.

    Raises:
        ConfigError: No checkpoint there, or of another format.
    """
    folder = resolve(Path(folder))
    state = _state(folder)
    average = folder / "average.safetensors"
    weights = load_file(average if average.is_file() else folder / "model.safetensors")
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in state["texts"]}
    position = Position(state["step"], state["seconds"], state.get("best", {}))
    return Checkpoint(folder, texts, weights, position, state["metrics"])


def resume(
    folder: str | Path, module: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> Position:
    """Restore a run exactly: weights, average, optimiser and generators.

    Returns:
        Where it stood.

    Raises:
        ConfigError: No checkpoint there, or it lacks what this run needs.
    """
    folder = resolve(Path(folder))
    state = _state(folder)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    if average is not None:
        path = folder / "average.safetensors"
        if not path.is_file():
            raise ConfigError(f"{folder}: has no average; resume it with train.ema_decay=0")
        average.load_state_dict(load_file(path))
    _load_optimizer(optimizer, load_file(folder / "optimizer.safetensors"), state["param_groups"])
    seeding.set_rng_state(load_file(folder / "rng.safetensors"), state["rng"])
    return Position(state["step"], state["seconds"], state.get("best", {}))


def resolve(path: Path) -> Path:
    """Return the checkpoint folder for a checkpoint or a run folder (then its `last`).

    Raises:
        ConfigError: Neither.
    """
    for candidate in (path, path / "checkpoints" / "last"):
        if (candidate / "state.json").is_file():
            return candidate
    raise ConfigError(f"{path}: no checkpoint (state.json) there nor in checkpoints/last; give a run folder")


def _state(folder: Path) -> dict[str, Any]:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if state.get("format") != FORMAT:
        raise ConfigError(f"{folder}: format {state.get('format')!r}, expected {FORMAT!r}")
    return state


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous().clone()
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, state["param_groups"]


def _load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
