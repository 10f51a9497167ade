"""Exponential moving average of weights; buffers are copied."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """Keep an averaged copy of a module.

    Args:
        module: The module that trains.
        decay: Share of the old average per step; 0 makes the copy equal to the module.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards `module`; integer and float buffers become its own."""
        averages: list[torch.Tensor] = list(self.module.parameters())
        weights: list[torch.Tensor] = list(module.parameters())
        if averages:
            torch._foreach_lerp_(averages, weights, 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(buffer)
