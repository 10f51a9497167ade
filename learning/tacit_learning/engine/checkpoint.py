"""Checkpoints without pickle: tensors as safetensors, everything else as JSON or YAML.

A folder holds parts (`model`, `average`, `optimizer`, `rng`, and what a course adds), the position of
the run in `state.json`, and texts (configuration, statistics, rig). It is written beside its name and
renamed, so a process killed at any instant leaves the previous checkpoint or the new one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tacit.config import load_json
from tacit.config.documents import MAX_TABLE_BYTES, inside, read_text
from tacit.errors import ConfigError

FORMAT = "tacit-checkpoint 2"
FIRST = "tacit-checkpoint 1"  # the same but for the optimiser, whose tensors had numbers for names
STATE, LAST = "state.json", "last"
UNFINISHED, OLDER = ".part", ".old"  # what a process leaves that dies while writing, or between two renames

Flat = dict[str, Any]
"""Tensors and JSON values by name: one part of a checkpoint."""


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        step: Finished optimiser steps of all stages.
        seconds: Training time [s].
        best: Best validation values so far, by the name of their checkpoint.
        metrics: Metrics of the last validation.
        scaler: State of the loss scaler (fp16 alone).
    """

    step: int = 0
    seconds: float = 0.0
    best: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    scaler: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk; tensors are read when they are asked for."""

    folder: Path
    texts: Mapping[str, str]
    position: Position
    values: Mapping[str, Mapping[str, Any]]

    @cached_property
    def weights(self) -> Mapping[str, Tensor]:
        """What evaluation and export use: the average where the run kept one."""
        return self.part("average") or self.part("model")

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the last validation."""
        return self.position.metrics

    def part(self, name: str) -> Flat:
        """Return the tensors and values of a part; empty where the checkpoint has none."""
        path = self.folder / f"{name}.safetensors"
        return {**load_file(path), **self.values.get(name, {})} if path.is_file() else {}


def save_checkpoint(
    folder: Path, position: Position, parts: Mapping[str, Flat], texts: Mapping[str, str]
) -> None:
    """Write a checkpoint folder, replacing an older one of that name only when complete.

    Args:
        folder: Target.
        position: Where the run stands.
        parts: Name -> tensors and values; empty parts are left out.
        texts: File name -> content (config.yaml, statistics.json, ...).
    """
    temporary = folder.with_name(folder.name + UNFINISHED)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    values: dict[str, Flat] = {}
    for name, flat in parts.items():
        tensors = {key: value for key, value in flat.items() if isinstance(value, Tensor)}
        values[name] = {key: value for key, value in flat.items() if key not in tensors}
        if flat:
            save_tensors(temporary / f"{name}.safetensors", tensors)
    state = {"format": FORMAT, **asdict(position), "values": values, "texts": sorted(texts)}
    (temporary / STATE).write_text(json.dumps(state, default=dict), encoding="utf-8")
    for name, text in texts.items():
        (temporary / name).write_text(text, encoding="utf-8")
    _replace(folder, temporary)


def load_checkpoint(path: str | Path, resume: bool = False) -> Checkpoint:
    """Open a checkpoint.

    Args:
        path: A checkpoint folder, or a run folder (then its `last`).
        resume: Training is to go on from it, so it must hold an optimiser of this format.

    Raises:
        ConfigError: No checkpoint there, or of a format that cannot be used so.
    """
    folder = resolve(Path(path))
    state = load_json(folder / STATE)
    found = state.get("format")
    if found == FIRST and resume:
        raise ConfigError(
            f"{folder}: written by an older release (format {FIRST!r}, now {FORMAT!r}); it can be "
            "evaluated and exported, but not resumed: train again, or finish the run with that release"
        )
    if found not in (FORMAT, FIRST):
        raise ConfigError(
            f"{folder}: format {found!r}, expected {FORMAT!r}; train again, or use the release that wrote it"
        )
    names = ("step", "seconds", "best", "metrics", "scaler")
    position = Position(**{name: state[name] for name in names if name in state})
    texts = {
        name: read_text(inside(folder, name, f"{folder / STATE}: texts"), MAX_TABLE_BYTES)
        for name in state["texts"]
    }
    return Checkpoint(folder, texts, position, state.get("values", {}))


def resolve(path: Path) -> Path:
    """Return the checkpoint folder for a checkpoint or a run folder (then its `last`).

    Raises:
        ConfigError: Neither.
    """
    found = find(path) or find(path / "checkpoints" / LAST)
    if found is None:
        raise ConfigError(
            f"{path}: no checkpoint ({STATE}) there nor in checkpoints/{LAST}; give a run folder"
        )
    return found


def find(folder: Path) -> Path | None:
    """Return a checkpoint folder, or the older one where a process died between its two renames."""
    older = folder.with_name(folder.name + OLDER)
    return next((each for each in (folder, older) if (each / STATE).is_file()), None)


def what_is_left(run: Path) -> str:
    """Say where a run that ended early can go on."""
    last = find(run / "checkpoints" / LAST)
    return f"go on with train.resume={last}" if last else "no checkpoint was written yet"


def restore_weights(module: nn.Module, weights: Mapping[str, Tensor], where: str, partial: bool) -> None:
    """Copy saved weights into a module.

    Args:
        module: A module of the same sizes.
        weights: Name -> tensor.
        where: Named in errors.
        partial: The module may hold more than was saved.

    Raises:
        ConfigError: A name or a shape that the module does not have, or a weight that was not saved.
    """
    own = module.state_dict()
    missing = set() if partial else set(own) - set(weights)
    for name in (*weights, *sorted(missing)):
        saved = tuple(weights[name].shape) if name in weights else "no such weight"
        found = tuple(own[name].shape) if name in own else "no such weight"
        if saved != found:
            raise ConfigError(
                f"{where}: {name}: saved: {saved}, this model: {found}; was it made with other model options?"
            )
    module.load_state_dict(dict(weights), strict=not partial)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, wherever they lie, as safetensors."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, path)


def _replace(folder: Path, complete: Path) -> None:
    """Give a complete folder its name; at every instant `find` sees this one or the one before.

    An older folder is removed only while `folder` is whole: after a death between the renames it is the
    only checkpoint that there is.
    """
    older = folder.with_name(folder.name + OLDER)
    if folder.exists():
        shutil.rmtree(older, ignore_errors=True)
        folder.rename(older)
    complete.rename(folder)
    shutil.rmtree(older, ignore_errors=True)
