"""Does the task go on, stand still or go back? A small causal net over features and their changes.

It sees a third of a second and the frame itself, so it answers at once, and an estimate of progress that is
only being revised does not move it. Learned from paused and rewound clips. Legend: B videos, T frames,
F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tacit_learning.alignment.settings import MotionConfig
from tacit_learning.layers.causal import CausalStack, join, split

LAG = 3  # frames over which the change is taken: .3 s at 10 Hz
GAIN = 2.0  # of the change, which is smaller than the features


class MotionNet(nn.Module):
    """Linear over features and their change, residual causal convolutions, Linear to 3 logits.

    Args:
        config: Sizes.
        num_features: F.
    """

    def __init__(self, config: MotionConfig, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.dropout = nn.Dropout(config.dropout)
        self.input = nn.Linear(2 * num_features, config.width)
        self.stack = CausalStack(config.width, config.dilations, dropout=config.dropout)
        self.output = nn.Linear(config.width, 3)

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return sum(self._sizes())

    def forward(self, features: Tensor) -> Tensor:
        """Map scaled features (B, T, F) to logits of back, still, on (B, T, 3)."""
        first = features[:, :1].expand(-1, LAG, -1)
        before = torch.cat([first, features], dim=1)[:, : features.shape[1]]
        return self.output(torch.relu(self.stack(self._enter(features, before))))

    def step(self, features: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Take one frame (B, F); see `layers.causal.CausalConv.step`. Logits have T = 1."""
        past, caches = split(memory, self._sizes())
        past = torch.where(is_first, features.repeat(1, LAG), past)
        x, caches = self.stack.step(self._enter(features, past[:, : self.num_features]), caches, is_first)
        past = torch.cat([past[:, self.num_features :], features], dim=-1)
        return self.output(torch.relu(x)).unsqueeze(1), join([past, caches], features)

    def _sizes(self) -> list[int]:
        return [LAG * self.num_features, self.stack.state_size]

    def _enter(self, now: Tensor, before: Tensor) -> Tensor:
        return self.input(torch.cat([self.dropout(now), GAIN * (now - before)], dim=-1))


def direction(motion: Tensor) -> Tensor:
    """Return p(on) - p(back) in -1..1 of motion logits (..., 3)."""
    back, _, on = motion.softmax(-1).unbind(-1)
    return on - back
