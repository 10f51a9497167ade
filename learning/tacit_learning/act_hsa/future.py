"""Touch to come: what the trunk and the chunk say of the touch feature some ticks later.

Predicted is the mean touch token that the policy itself reads, normalised. It gets no gradient from here, or
all touches would become one, easy to predict. Legend: B batch, S sensors, T' tokens of each, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class FutureTouch(nn.Module):
    """Predict the touch features (B, S, D) to come.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * dim)
        self.hidden = nn.Linear(2 * dim, dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, step: Tensor, felt: Tensor) -> Tensor:
        """Predict.

        Args:
            step: What the decoder says of the step of the chunk at that time (B, D).
            felt: Mean of the encoder's tokens of each sensor (B, S, D).
        """
        joined = torch.cat([step.unsqueeze(1).expand_as(felt), felt], -1)
        return self.output(nn.functional.gelu(self.hidden(self.norm(joined))))


def touch_features(tokens: Tensor) -> Tensor:
    """Map touch tokens (B, S, T', D) to what is predicted of them (B, S, D): zero mean and unit deviation."""
    return layer_norm(tokens.detach().mean(2), tokens.shape[-1:])


def future_loss(predicted: Tensor, features: Tensor, valid: Tensor) -> Tensor:
    """Average the squared error (B, S, D) over the samples whose episode goes on (B,); 0 where none does."""
    error = (predicted - features).square().mean((1, 2))
    return torch.where(valid, error, 0.0).sum() / valid.sum().clamp(min=1)
