"""Fixed sine position tables of ACT, one and two dimensional.

Source: Vaswani et al. 2017; DETR's 2-D form as used by tonyzhaozh/act@742c753. Legend: C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_1d(length: int, channels: int) -> Tensor:
    """Return a table (length, C): positions from 0, even channels sine, odd channels cosine."""
    position = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    return _interleave(position / _periods(channels)).float()


def sine_2d(height: int, width: int, channels: int) -> Tensor:
    """Return a table (height, width, C): first half of the channels encodes y, second half x.

    Positions run 1..H scaled by 2 pi / (H + 1e-6), likewise x.
    """
    if channels % 4:
        raise ValueError(f"sine_2d: {channels} channels, expected a multiple of 4")
    half = channels // 2
    rows = _interleave(_angles(height) / _periods(half)).unsqueeze(1).expand(-1, width, -1)
    columns = _interleave(_angles(width) / _periods(half)).unsqueeze(0).expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).float()


def _angles(length: int) -> Tensor:
    steps = torch.arange(1, length + 1, dtype=torch.float64).unsqueeze(1)
    return steps / (length + 1e-6) * 2 * math.pi


def _periods(channels: int) -> Tensor:
    pair = torch.arange(channels, dtype=torch.float64).div(2, rounding_mode="floor")
    return TEMPERATURE ** (2 * pair / channels)


def _interleave(angles: Tensor) -> Tensor:
    """Take the sine of even and the cosine of odd channels of angles (L, C)."""
    table = angles.clone()
    table[:, 0::2] = angles[:, 0::2].sin()
    table[:, 1::2] = angles[:, 1::2].cos()
    return table
