"""Did it work, and if not, what went wrong? A causal GRU over features, with a calibrated say on both.

It stands beside whatever learns progress, since a failure goes through the motions of a success: two nets
would share what is seen, not what it means. Legend: B videos, T frames, F features, K kinds of failure.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit_learning.alignment.settings import OutcomeConfig

TEMPERATURES = torch.logspace(-1, 1, 61)
"""What calibration chooses from: a tenth to ten."""


class Outcome(NamedTuple):
    """Logits: success (B, T); failure (B, T, 1 + K), the first that nothing goes wrong."""

    success: Tensor
    failure: Tensor

    @property
    def success_probability(self) -> Tensor:
        """Probability that the task is done, and well (B, T)."""
        return self.success.sigmoid()

    @property
    def failure_probabilities(self) -> Tensor:
        """Probability of nothing, and of each kind of failure (B, T, 1 + K)."""
        return self.failure.softmax(-1)


class OutcomeNet(nn.Module):
    """Linear, GRU, Linear; logits are divided by temperatures that validation videos have set.

    Args:
        config: Sizes.
        num_features: F.
        num_failures: K.
    """

    temperature: Tensor

    def __init__(self, config: OutcomeConfig, num_features: int, num_failures: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.input = nn.Linear(num_features, config.width)
        self.gru = nn.GRU(config.width, config.hidden, batch_first=True)
        self.output = nn.Sequential(
            nn.Linear(config.hidden + config.width, config.width),
            nn.ReLU(),
            nn.Linear(config.width, 2 + num_failures),
        )
        self.register_buffer("temperature", torch.ones(2))

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return self.gru.hidden_size

    def forward(self, features: Tensor) -> Outcome:
        """Read scaled features (B, T, F) of whole videos."""
        entered = self._enter(features)
        remembered, _ = self.gru(entered)
        return self._read(remembered, entered)

    def step(self, features: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Outcome, Tensor]:
        """Take one frame (B, F); see `layers.causal.CausalConv.step`. Logits have T = 1."""
        entered = self._enter(features).unsqueeze(1)
        start = torch.where(is_first, 0.0, memory).unsqueeze(0)
        remembered, last = self.gru(entered, start)
        return self._read(remembered, entered), last.squeeze(0)

    @torch.no_grad()
    def calibrate(self, success: tuple[Tensor, Tensor], failure: tuple[Tensor, Tensor]) -> None:
        """Choose the temperatures under which logits and truths (N, ...) of held-out frames agree best.

        Args:
            success: Logits (N,) as they are said now, and truths (N,) 0 or 1.
            failure: Logits (N, 1 + K) as they are said now, and truths (N,) 0..K.
        """
        said, true = success
        if len(said) and 0 < true.mean() < 1:
            plain = said * self.temperature[0]
            losses = [
                nn.functional.binary_cross_entropy_with_logits(plain / t, true) for t in TEMPERATURES.to(said)
            ]
            self.temperature[0] = TEMPERATURES[int(torch.stack(losses).argmin())]
        said, true = failure
        if len(said) and said.shape[1] > 1 and (true > 0).any():
            plain = said * self.temperature[1]
            losses = [nn.functional.cross_entropy(plain / t, true) for t in TEMPERATURES.to(said)]
            self.temperature[1] = TEMPERATURES[int(torch.stack(losses).argmin())]

    def _enter(self, features: Tensor) -> Tensor:
        return torch.relu(self.input(self.dropout(features)))

    def _read(self, remembered: Tensor, entered: Tensor) -> Outcome:
        said = self.output(torch.cat([remembered, entered], dim=-1))
        return Outcome(said[..., 0] / self.temperature[0], said[..., 1:] / self.temperature[1])
