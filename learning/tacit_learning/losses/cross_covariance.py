"""Cross-covariance of two features: 0 when neither predicts the other linearly.

Source: Cheung et al. 2014, arXiv:1412.6583, Eq. 4, with the mean over entries for half their sum. It
removes linear dependence only. Legend: B rows, D E features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cross_covariance_loss(x: Tensor, y: Tensor) -> Tensor:
    """Compute mean_{d,e} Cov(x, y)_{de}^2 with Cov = (x - mean x)^T (y - mean y) / (B - 1).

    Args:
        x: Features (B, D), B >= 2.
        y: Features (B, E).

    Returns:
        Scalar, float32 at least.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"cross_covariance_loss: x {tuple(x.shape)}, y {tuple(y.shape)}; expected (B, D), (B, E), B >= 2"
        )
    with torch.autocast(x.device.type, enabled=False):
        x, y = _full(x - x.mean(0)), _full(y - y.mean(0))
        return (x.T @ y / (len(x) - 1)).square().mean()


def _full(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
