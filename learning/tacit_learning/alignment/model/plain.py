"""What plain GRUs make of scaled features: one of the stream, some of actions whose start is told.

A head with ideas of its own should never do worse than these, so they learn side by side, each for itself,
and the mean of all is what the model says. Legend: B sequences, T frames, F features, H hidden, M nets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

MEMBERS = 3
"""GRUs of actions whose start is told: actions are short, so some more cost little and err less together."""


class Plain(NamedTuple):
    """Progress of the action and of the video (B, T), in 0..1."""

    action: Tensor
    video: Tensor


class PlainNet(nn.Module):
    """GRUs with one linear layer behind each: for streams, and for actions from their first frame.

    Args:
        num_features: F.
        hidden: H.
    """

    def __init__(self, num_features: int, hidden: int) -> None:
        super().__init__()
        self.stream = nn.GRU(num_features, hidden, batch_first=True)
        self.of_stream = nn.Linear(hidden, 2)
        self.starts = nn.ModuleList(nn.GRU(num_features, hidden, batch_first=True) for _ in range(MEMBERS))
        self.of_starts = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(MEMBERS))

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return self.stream.hidden_size

    def forward(self, features: Tensor) -> Plain:
        """Read scaled features (B, T, F) of whole videos."""
        return self._read(self.stream(features)[0])

    def from_start(self, features: Tensor) -> Tensor:
        """Return what each net says (M, B, T) of actions (B, T, F), each from its first frame."""
        nets = zip(self.starts, self.of_starts, strict=True)
        return torch.stack([read(net(features)[0]).squeeze(-1).sigmoid() for net, read in nets])

    def step(self, features: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Plain, Tensor]:
        """Take one frame (B, F); see `layers.causal.CausalConv.step`. Progress has T = 1."""
        start = torch.where(is_first, 0.0, memory).unsqueeze(0)
        remembered, last = self.stream(features.unsqueeze(1), start)
        return self._read(remembered), last.squeeze(0)

    def _read(self, remembered: Tensor) -> Plain:
        return Plain(*self.of_stream(remembered).sigmoid().unbind(-1))
