"""AdamW: its groups, its learning rate as a function of progress, and its state by names."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from tacit.errors import ConfigError
from tacit_learning.engine.checkpoint import Flat
from tacit_learning.engine.config import TrainConfig

ON_CPU = StateDictOptions(full_state_dict=True, cpu_offload=True)
# not strict: a parameter that no loss has reached yet has no moments
WHOLE = StateDictOptions(full_state_dict=True, strict=False)


def make_optimizer(module: nn.Module, config: TrainConfig, lr: float) -> torch.optim.AdamW:
    """Return AdamW for what trains; weights decay, and those of a `backbone` may have their own rate."""
    backbone: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (backbone if ".backbone." in f".{name}" else rest).append(parameter)
    groups = [{"params": rest, "base_lr": lr}]
    if backbone:
        groups.append({"params": backbone, "base_lr": config.lr_backbone or lr})
    return torch.optim.AdamW(groups, lr=lr, weight_decay=config.weight_decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, share: float) -> None:
    """Set the rate of every group: linear warm-up times a cosine from 1 to `final_lr`.

    Args:
        optimizer: With `base_lr` in its groups.
        config: Warm-up steps and final fraction.
        step: Optimiser step of the stage, from 0.
        share: Share of the training that is over, 0..1.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
    factor = warmup * (config.final_lr + (1 - config.final_lr) * cosine)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> Flat:
    """Return the state by names of parameters; whole on the main process where it is sharded."""
    state: Any = get_optimizer_state_dict(module, optimizer, options=ON_CPU)
    if not state:  # sharded, and not the main process
        return {}
    flat = {f"{name}/{key}": value for name, each in state["state"].items() for key, value in each.items()}
    return flat | {"param_groups": state["param_groups"]}


def restore_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, flat: Flat, where: str) -> None:
    """Put a state of `optimizer_state` back.

    Raises:
        ConfigError: It is of other parameters: another stage, or another model.
    """
    groups = flat["param_groups"]
    saved = {name for group in groups for name in group["params"]}
    trains = {name for name, each in module.named_parameters() if each.requires_grad}
    if odd := sorted(trains ^ saved):
        raise ConfigError(
            f"{where}: the optimiser there is of {len(saved)} parameters, this stage trains {len(trains)}; "
            f"the first that differ: {', '.join(odd[:3])}; keep training_stages as they were"
        )
    states: dict[str, Flat] = {name: {} for name in saved}
    for path, value in flat.items():
        if path != "param_groups":
            name, key = path.rsplit("/", 1)
            states[name][key] = value
    optimizer.zero_grad(set_to_none=True)  # torch fills a fresh state by a step, and only without gradients
    state = {"state": {name: each for name, each in states.items() if each}, "param_groups": groups}
    set_optimizer_state_dict(module, optimizer, state, options=WHOLE)  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        if not states.get(name):  # torch leaves the moments of its own step there, and a count of 1
            optimizer.state.pop(parameter, None)
