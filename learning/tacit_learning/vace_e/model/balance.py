"""How hard the flow and the feature losses pull at the tokens that both read, and a limit for the latter.

Contrastive losses want clips of one task to look alike, whatever their motion. Unbalanced they pulled 7 times
as hard at the motion encoder as the flow did after 1000 steps on drawn clips, and far harder at the start.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tacit_learning.engine.distributed import world_size

FLOW, FEATURES = 0, 1
MEMORY = 0.95  # of the moving average, per backward pass


class Balance(nn.Module):
    """Scales the gradient that features send into the tokens; values pass as they are.

    Attributes:
        share: The features pull at most this often as hard as the flow; None: as hard as they do.
        norms: Norms of the gradients at the tokens by flow and features (2,), averaged over steps; NaN at
            first. Until the flow pulls, features do not either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share: float | None = None
        self.norms = torch.full((2,), torch.nan)
        self._seen = torch.zeros(2)

    def flow(self, tokens: Tensor) -> Tensor:
        """Return tokens for the video, watched."""
        return self._watched(tokens, FLOW)

    def features(self, tokens: Tensor) -> Tensor:
        """Return tokens for the features, watched before their gradient is scaled."""
        if self.share is None or not tokens.requires_grad:
            return tokens
        return self._watched(_Scaled.apply(tokens, self.scale().to(tokens)), FEATURES)

    def scale(self) -> Tensor:
        """Return what the gradient of the features is multiplied by at the tokens, 0..1."""
        flow, features = self.norms.nan_to_num(0.0)
        return ((self.share or 1.0) * flow / features.clamp(min=1e-12)).clamp(max=1.0)

    def settle(self) -> Tensor:
        """Take what the last backward pass showed into the average, on all processes, and return it."""
        squares, self._seen = self._seen, torch.zeros(2)
        if world_size() > 1:
            squares = squares.to("cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(squares)
        norms = squares.cpu().sqrt() / world_size()
        if bool(torch.isfinite(norms).all()) and float(norms[FEATURES]) > 0:
            known = torch.where(torch.isnan(self.norms), norms, self.norms)
            self.norms = MEMORY * known + (1 - MEMORY) * norms
        return self.norms

    def _watched(self, tokens: Tensor, kind: int) -> Tensor:
        if self.share is None or not (self.training and tokens.requires_grad):
            return tokens
        seen = tokens.view_as(tokens)
        seen.register_hook(lambda gradient: self._note(gradient, kind))
        return seen

    def _note(self, gradient: Tensor, kind: int) -> None:
        self._seen[kind] += gradient.detach().float().square().sum().cpu()


class _Scaled(torch.autograd.Function):
    """Identity whose gradient is scaled."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return tokens.view_as(tokens)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (scale,) = ctx.saved_tensors
        return scale * gradient, None
