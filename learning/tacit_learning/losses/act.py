"""Losses of ACT: Kullback-Leibler term of the CVAE and L1 over a padded chunk.

Source: Zhao et al. 2023, arXiv:2304.13705; tonyzhaozh/act@742c753. Legend: B batch, K chunk,
A action, L latent.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Compute KL(N(mu, exp(logvar)) || N(0, 1)), summed over the latent, averaged over the batch.

    -1/2 sum_l (1 + logvar - mu^2 - exp(logvar)).

    Args:
        mu: Posterior mean (B, L).
        logvar: Posterior log variance (B, L).

    Returns:
        Scalar, >= 0.
    """
    return kl_per_dimension(mu, logvar).sum()


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """Compute the KL term of every latent dimension (L,), averaged over the batch."""
    return (-0.5 * (1 + logvar - mu.square() - logvar.exp())).mean(0)


def masked_l1(
    pred: Tensor,
    target: Tensor,
    is_pad: Tensor,
    over: Literal["valid", "all"] = "valid",
    weights: Tensor | None = None,
) -> Tensor:
    """Average w |pred - target| over the steps that exist.

    Args:
        pred: Chunk (B, K, A).
        target: Chunk (B, K, A); its padded part is never read, NaN there is harmless.
        is_pad: True beyond the end of the episode (B, K).
        over: "valid" divides by the valid entries; "all" by every entry (tonyzhaozh/act), so
            that padding dilutes the error.
        weights: w of each step (B, K); 1 if None. It is divided by the number of steps, not by their sum, so
            that two halves of a batch weigh as the whole does.

    Returns:
        Scalar; 0 with zero gradient when everything is padding.
    """
    if over not in ("valid", "all"):
        raise ValueError(f"masked_l1: over={over!r}, expected 'valid' or 'all'")
    keep = ~is_pad.unsqueeze(-1)
    error = torch.where(keep, pred - torch.where(keep, target, 0.0), 0.0).abs()
    if weights is not None:
        error = error * weights.unsqueeze(-1)
    count = keep.sum() * pred.shape[-1] if over == "valid" else torch.tensor(error.numel())
    return error.sum() / count.clamp(min=1)
