"""Read a policy of the original ACT code: `policy_best.ckpt` and `dataset_stats.pkl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tacit.bundle.player import PlaySpec
from tacit.errors import ConfigError
from tacit_learning.foreign_act.policy import DEVIATIONS, Imported, Scale
from tacit_learning.foreign_act.weights import (
    ACT_NAMES,
    network_of,
    read_arrays,
    read_checkpoint,
    renamed,
    shape_of,
)
from tacit_learning.layers.backbone import IMAGENET_MEAN, IMAGENET_STD

CHECKPOINTS = ("policy_best.ckpt", "policy_last.ckpt")
STATISTICS = "dataset_stats.pkl"
HEADS = 8
"""Fixed in act's imitate_episodes.py; weights do not tell it."""


def read_act(path: Path, cameras: Mapping[str, tuple[int, int]], heads: int = HEADS) -> Imported:
    """Return a policy of act.

    Args:
        path: The folder, or a checkpoint in it.
        cameras: (height, width) [px] of each camera; a policy of act reads all of its cameras by the same
            weights, and so neither knows their names nor minds their order.
        heads: Of the attention.

    Raises:
        ConfigError: Missing or damaged files, or no policy of act.
    """
    checkpoint = _checkpoint(path)
    stats = read_arrays(checkpoint.parent / STATISTICS)
    weights = renamed(read_checkpoint(checkpoint), ACT_NAMES)
    shape = shape_of(weights, heads, "post", str(checkpoint))
    where = str(checkpoint.parent / STATISTICS)
    state, action = (_scale(stats, name, where) for name in ("qpos", "action"))
    colours = Scale(*(torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD, IMAGENET_STD)))
    low, high = _range(stats, state)
    return Imported(
        network=network_of(weights, shape, str(checkpoint)),
        state=state,
        action=action,
        pictures={name: (colours, size) for name, size in cameras.items()},
        state_min=low,
        state_max=high,
        play=PlaySpec(mode="temporal_ensemble"),
        told={"trained_by": "act", "policy": "act"},
    )


def _checkpoint(path: Path) -> Path:
    if path.is_file():
        return path
    for name in CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    raise ConfigError(f"{path}: neither a checkpoint nor a folder with {' or '.join(CHECKPOINTS)}")


def _scale(stats: Mapping[str, np.ndarray], name: str, where: str) -> Scale:
    parts = []
    for part in (f"{name}_mean", f"{name}_std"):
        if part not in stats:
            raise ConfigError(f"{where}: no {part}; found {', '.join(sorted(stats)) or 'nothing'}")
        values = np.asarray(stats[part], np.float32).reshape(-1)
        if not np.isfinite(values).all() or (part.endswith("std") and (values <= 0).any()):
            raise ConfigError(f"{where}: {part}: expected finite numbers, deviations above 0")
        parts.append(torch.from_numpy(values.copy()))
    return Scale(parts[0], parts[1], parts[1])


def _range(stats: Mapping[str, np.ndarray], state: Scale) -> tuple[Tensor, Tensor]:
    low, high = state.offset - DEVIATIONS * state.factor, state.offset + DEVIATIONS * state.factor
    seen: Sequence[float] | np.ndarray | None = stats.get("example_qpos")
    if seen is not None and np.ndim(seen) == 2 and np.shape(seen)[1] == len(low):
        example = torch.from_numpy(np.asarray(seen, np.float32))
        low, high = torch.minimum(low, example.amin(0)), torch.maximum(high, example.amax(0))
    return low, high
