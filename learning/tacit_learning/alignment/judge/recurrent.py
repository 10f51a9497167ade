"""A plain causal GRU over z-scored features: the least that a method with ideas of its own must beat.

It learns progress of the action by the mean error of every action frame, from whole videos or from
actions whose start it is told. Legend: B sequences, T frames, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

HIDDEN = 64
FRAMES = 3000
"""Frames of one step, about: eight whole videos, or many actions."""
MOST = 64
"""Sequences of one step at most."""
RATE = 3e-3
Rows = Sequence[NDArray[np.float32]]


class PlainGru(nn.Module):
    """GRU, Linear, sigmoid.

    Args:
        width: F.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map z-scored features (B, T, F) to progress (B, T) in 0..1."""
        return self.output(self.gru(features)[0]).squeeze(-1).sigmoid()

    @torch.no_grad()
    def estimate(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return progress (T,) of one sequence (T, F)."""
        return self(torch.from_numpy(features).unsqueeze(0))[0].double().numpy()


def fit_gru(
    features: Rows, targets: Rows, masks: Sequence[NDArray[np.bool_]], steps: int, seed: int
) -> PlainGru:
    """Train on sequences.

    Args:
        features: (T, F) of each, z-scored.
        targets: Progress (T,) of each.
        masks: Which frames count (T,).
        steps: Optimiser steps; the rate falls to 0 along a cosine.
        seed: Of weights and batches.
    """
    rows = zip(features, targets, masks, strict=True)
    sequences = [tuple(map(torch.from_numpy, row)) for row in rows if row[2].any()]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = PlainGru(features[0].shape[1])
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    size = min(max(round(FRAMES / np.mean([len(x) for x, *_ in sequences])), 2), MOST)
    for _ in range(steps):
        drawn = [sequences[i] for i in rng.integers(0, len(sequences), size)]
        x, y, m = (pad_sequence(list(column), batch_first=True) for column in zip(*drawn, strict=True))
        loss = ((net(x) - y).abs() * m).sum() / m.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net.eval()
