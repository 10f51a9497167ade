"""Did it work, and if not, what went wrong? A causal GRU over features, with a calibrated say on both.

It stands beside whatever learns progress, since a failure goes through the motions of a success: two nets
would share what is seen, not what it means. What goes wrong also shows in how things change: who hangs goes
nowhere, who gives up goes back. So drift enters beside what is seen: how far averages have gone, not how much
differs from frame to frame, which does not tell who is pushed about where it hangs from who is at work.
Legend: B videos, T frames, F features, W width, K kinds of failure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit_learning.alignment.settings import OutcomeConfig
from tacit_learning.layers.causal import join, split

TEMPERATURES = torch.logspace(-1, 1, 61)
"""What calibration chooses from: a tenth to ten."""
SLOW = 0.1
"""Drift between the two averages that is half way between resting and going on; what enters is about 1."""


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


class Average(nn.Module):
    """The exponential average of values over time, the first of which stood before.

    Args:
        frames: Time constant.
    """

    def __init__(self, frames: float) -> None:
        super().__init__()
        self.keeps = math.exp(-1.0 / frames)

    def forward(self, x: Tensor) -> Tensor:
        """Average (B, T, W) over time."""
        age = torch.arange(x.shape[1], device=x.device)
        age = age.unsqueeze(1) - age
        weights = (1 - self.keeps) * torch.where(age >= 0, self.keeps ** age.clamp(min=0), 0.0)
        weights[:, 0] /= 1 - self.keeps
        return weights @ x

    def step(self, x: Tensor, before: Tensor, is_first: Tensor) -> Tensor:
        """Return the average with one value (B, W) more."""
        return torch.where(is_first, x, self.keeps * before + (1 - self.keeps) * x)


class OutcomeNet(nn.Module):
    """Linear, drift, GRU, Linear; logits are divided by temperatures that validation videos have set.

    With e what enters of a frame, s and l a short and a long average of it, and d = |s - l| how far it
    drifts, the GRU reads relu(e), e - l, d / (d + SLOW), and the same of the long average of d: how far that
    has faded says for how long nothing has gone on.

    Args:
        config: Sizes.
        num_features: F.
        num_failures: K.
    """

    temperature: Tensor

    def __init__(self, config: OutcomeConfig, num_features: int, num_failures: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.enter = nn.Linear(num_features, config.width)
        self.soon, self.late = Average(config.short_frames), Average(config.long_frames)
        self.gru = nn.GRU(4 * config.width, config.hidden, batch_first=True)
        self.output = nn.Sequential(
            nn.Linear(config.hidden + 4 * config.width, config.width),
            nn.ReLU(),
            nn.Linear(config.width, 2 + num_failures),
        )
        self.register_buffer("temperature", torch.ones(2))

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return sum(self._sizes())

    def forward(self, features: Tensor) -> Outcome:
        """Read scaled features (B, T, F) of whole videos."""
        # One mask for all frames of a video: what comes and goes by chance would be drift.
        e = self.enter(features * self.dropout(torch.ones_like(features[:, :1])))
        trend = self.late(e)
        drift = (self.soon(e) - trend).abs()
        entered = _entered(e, trend, drift, self.late(drift))
        remembered, _ = self.gru(entered)
        return self._read(remembered, entered)

    def step(self, features: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Outcome, Tensor]:
        """Take one frame (B, F); see `layers.causal.CausalConv.step`. Logits have T = 1."""
        hidden, soon, trend, drifted = split(memory, self._sizes())
        e = self.enter(features)
        soon, trend = self.soon.step(e, soon, is_first), self.late.step(e, trend, is_first)
        drift = (soon - trend).abs()
        drifted = self.late.step(drift, drifted, is_first)
        entered = _entered(e, trend, drift, drifted).unsqueeze(1)
        remembered, last = self.gru(entered, torch.where(is_first, 0.0, hidden).unsqueeze(0))
        return self._read(remembered, entered), join([last.squeeze(0), soon, trend, drifted], e)

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

    def _sizes(self) -> list[int]:
        return [self.gru.hidden_size, *[self.enter.out_features] * 3]

    def _read(self, remembered: Tensor, entered: Tensor) -> Outcome:
        said = self.output(torch.cat([remembered, entered], dim=-1))
        return Outcome(said[..., 0] / self.temperature[0], said[..., 1:] / self.temperature[1])


def _entered(e: Tensor, trend: Tensor, *drifts: Tensor) -> Tensor:
    gone = [torch.relu(d) for d in drifts]  # never below 0, but what a stream is given to remember may be
    return torch.cat([torch.relu(e), e - trend, *(d / (d + SLOW) for d in gone)], dim=-1)
