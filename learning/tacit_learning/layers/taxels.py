"""Arrays of taxels to tokens: a small convolution for each sensor, all on the grid of the other touch.

Legend: B batch, S arrays, R rows, C columns, K channels, M values of all arrays, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]
HIDDEN = (16, 32)
"""Channels between. A skin has some hundred numbers; what it needs is the shape of a contact, not depth."""


class TaxelEncoder(nn.Module):
    """Map the readings of several arrays to tokens.

    Args:
        shapes: (R, C, K) of each.
        dim: Width of a token.
        grid: (rows, columns) of the tokens of each; arrays that are smaller say the same in several.
    """

    def __init__(self, shapes: Sequence[Shape], dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self._shapes = tuple(shapes)
        self.networks = nn.ModuleList(_network(channels, dim) for _, _, channels in shapes)
        for number, (rows, columns, _) in enumerate(shapes):
            pooling = torch.kron(_overlap(grid[0], rows), _overlap(grid[1], columns))
            self.register_buffer(f"pooling_{number}", pooling, persistent=False)

    def forward(self, taxels: Tensor) -> Tensor:
        """Map prepared readings (B, M) to tokens (B, S, T, D)."""
        tokens = []
        parts = taxels.split([prod(shape) for shape in self._shapes], dim=1)
        for number, (network, shape) in enumerate(zip(self.networks, self._shapes, strict=True)):
            seen = network(parts[number].unflatten(1, shape).movedim(-1, 1)).flatten(2)
            tokens.append(self.get_buffer(f"pooling_{number}") @ seen.transpose(1, 2))
        return torch.stack(tokens, dim=1)


def _network(channels: int, dim: int) -> nn.Sequential:
    first, second = HIDDEN
    return nn.Sequential(
        nn.Conv2d(channels, first, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(first, second, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(second, dim, 1),
    )


def _overlap(cells: int, taxels: int) -> Tensor:
    """Return which share of each cell of one axis is of which taxel (cells, taxels); rows sum to 1."""
    cell, taxel = torch.arange(cells)[:, None] / cells, torch.arange(taxels)[None] / taxels
    ends = torch.minimum(cell + 1 / cells, taxel + 1 / taxels)
    shared = (ends - torch.maximum(cell, taxel)).clamp(min=0)
    return shared / shared.sum(1, keepdim=True)
