"""Causal convolutions that run over a whole sequence or frame by frame, with the same result.

Output t uses inputs up to t. Before the first frame the input is taken to have stood still: the
sequence is padded with its first frame, and a stream fills its memory with it. Legend: B sequences,
C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CausalConv(nn.Module):
    """A dilated convolution over time that never looks ahead.

    Args:
        channels_in: C of the input.
        channels_out: C of the output.
        kernel: Number of taps.
        dilation: Frames between taps.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, kernel, dilation=dilation)
        self.reach = (kernel - 1) * dilation

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return self.conv.in_channels * self.reach

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        before = x_BCT[..., :1].expand(-1, -1, self.reach)
        return self.conv(torch.cat([before, x_BCT], dim=-1))

    def step(self, x_BC: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Take one frame.

        Args:
            x_BC: The frame.
            memory: The last `reach` inputs, flat (B, state_size); ignored where `is_first`.
            is_first: Whether this frame starts its sequence (B, 1).

        Returns:
            Output (B, C') and the new memory.
        """
        still = x_BC.unsqueeze(-1).expand(-1, -1, self.reach)
        past = torch.where(is_first.unsqueeze(-1), still, memory.view(len(x_BC), -1, self.reach))
        window = torch.cat([past, x_BC.unsqueeze(-1)], dim=-1)
        return self.conv(window).squeeze(-1), window[..., 1:].flatten(1)


class CausalStack(nn.Module):
    """Residual causal convolutions x + relu(conv(x)), one per dilation.

    Args:
        channels: C.
        dilations: One layer each.
        kernel: Taps of every layer.
        dropout: After the ReLU.
    """

    def __init__(
        self, channels: int, dilations: Sequence[int], kernel: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CausalConv(channels, channels, kernel, d) for d in dilations)
        self.dropout = nn.Dropout(dropout)

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return sum(layer.state_size for layer in self.causal_layers())

    def causal_layers(self) -> list[CausalConv]:
        """Return the layers with their type."""
        return [layer for layer in self.layers if isinstance(layer, CausalConv)]

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x = x_BTC.transpose(1, 2)
        for layer in self.layers:
            x = x + self.dropout(torch.relu(layer(x)))
        return x.transpose(1, 2)

    def step(self, x_BC: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Take one frame; see `CausalConv.step`."""
        memories = split(memory, [layer.state_size for layer in self.causal_layers()])
        kept = []
        for layer, old in zip(self.causal_layers(), memories, strict=True):
            y, new = layer.step(x_BC, old, is_first)
            x_BC = x_BC + torch.relu(y)
            kept.append(new)
        return x_BC, join(kept, x_BC)


def split(memory: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cut a flat memory (B, sum of sizes) into its parts."""
    return list(memory.split(list(sizes), dim=-1)) if sizes else []


def join(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Put parts together to a flat memory; without parts (B, 0)."""
    return torch.cat(list(parts), dim=-1) if parts else like[:, :0]
