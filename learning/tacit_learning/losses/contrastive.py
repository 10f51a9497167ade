"""Supervised contrastive loss: features of one class draw together, those of others apart.

Source: Khosla et al. 2020, arXiv:2004.11362, Eq. 2 (mean outside the logarithm), without the factor
T / T_base of HobbitLong/SupContrast@66a8fe5. Legend: B rows, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -1


def supervised_contrastive_loss(features: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    """Compute L = 1/|V| sum_{i in V} -1/|P(i)| sum_{p in P(i)} log softmax_{a != i}(z_i . z_a / T)[p].

    z are the rows of unit length, P(i) the other rows with the label of i, V the rows with at least
    one such partner. A perfect clustering does not reach 0 but `contrastive_floor(labels)`.

    Args:
        features: Any length, normalised here (B, D).
        labels: Class of every row (B,), int64; rows of -1 neither count nor serve as negatives.
        temperature: T > 0.

    Returns:
        Scalar, float32 at least; 0 with zero gradient when no row has a partner.
    """
    _check(features, labels, temperature)
    with torch.autocast(features.device.type, enabled=False):
        if features.dtype in (torch.float16, torch.bfloat16):
            features = features.float()
        unit = F.normalize(features, dim=-1)
        known, partners = _partners(labels)
        others = known[:, None] & known[None, :] & ~_diagonal(labels)
        lowest = torch.finfo(unit.dtype).min
        similarity = (unit @ unit.T / temperature).masked_fill(~others, lowest)
        log_softmax = similarity - similarity.logsumexp(dim=1, keepdim=True)
        count = partners.sum(1)
        per_row = -torch.where(partners, log_softmax, 0.0).sum(1) / count.clamp(min=1)
        return per_row.sum() / (count > 0).sum().clamp(min=1)


def contrastive_floor(labels: Tensor) -> Tensor:
    """Return the loss of perfect, infinitely separated clusters: the mean of ln |P(i)| over V.

    What exceeds it is what training can still remove; the floor itself depends on the batch alone.
    """
    _, partners = _partners(labels)
    count = partners.sum(1)
    logarithms = torch.where(count > 0, count.clamp(min=1).double().log(), 0.0)
    return (logarithms.sum() / (count > 0).sum().clamp(min=1)).float()


def _partners(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows are known (B,) and which pairs share a label (B, B)."""
    known = labels != IGNORE
    same = (labels[:, None] == labels[None, :]) & known[:, None]
    return known, same & ~_diagonal(labels)


def _diagonal(labels: Tensor) -> Tensor:
    return torch.eye(len(labels), dtype=torch.bool, device=labels.device)


def _check(features: Tensor, labels: Tensor, temperature: float) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"supervised_contrastive_loss: features {tuple(features.shape)}, labels {tuple(labels.shape)}; "
            "expected (B, D) and (B,)"
        )
    if not temperature > 0:
        raise ValueError(f"supervised_contrastive_loss: temperature {temperature}, expected > 0")
