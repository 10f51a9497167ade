"""AdamW groups and the learning rate as a function of progress."""

from __future__ import annotations

import math

import torch
from torch import nn

from tacit_learning.engine.config import TrainConfig


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay in every group; parameters of a `backbone` get their own rate."""
    backbone: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (backbone if ".backbone." in f".{name}" else rest).append(parameter)
    groups = [{"params": rest, "base_lr": config.lr}]
    if backbone:
        groups.append({"params": backbone, "base_lr": config.lr_backbone or config.lr})
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, share: float
) -> float:
    """Set the rate of every group: linear warm-up times a cosine from 1 to `final_lr`.

    Args:
        optimizer: With `base_lr` in its groups.
        config: Warm-up steps and final fraction.
        step: Optimiser step, from 0.
        share: Share of the training that is over, 0..1.

    Returns:
        The factor applied to every `base_lr`.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
    factor = warmup * (config.final_lr + (1 - config.final_lr) * cosine)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return factor
