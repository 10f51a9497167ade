"""Hierarchical Spatial Alignment: InfoNCE between a touch and where it is seen.

Source: DreamTacVLA, arXiv:2512.23864; rules of masks and negatives are ours. The policy chooses
rows and negatives (`tacit_learning.act_hsa.touch_alignment`). Legend: B rows, N negatives, D features.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

ZERO_NORM = 1e-8  # below this a feature has no direction; dividing by it would explode gradients


def hsa_loss(
    touch: Tensor,
    vision: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    negatives: Tensor | None = None,
    negative_mask: Tensor | None = None,
    pair_mask: Tensor | None = None,
    valid: Tensor | None = None,
    in_batch: bool | None = None,
    symmetric: bool = False,
    reduction: Literal["mean", "sum", "none"] = "mean",
    bank: Tensor | None = None,
    bank_mask: Tensor | None = None,
) -> Tensor:
    """Compute L_i = logsumexp(s_ii, {s_ij: j in N(i)}, {t_i.n_ik / kappa}, {t_i.b_m / kappa}) - s_ii.

    s_ij is the cosine of touch i and vision j over kappa. A row without negatives has loss 0 and
    stays in the mean. A row without direction (zero norm) is invalid, unless the whole side is
    zero: then every similarity is 0 and the loss is ln(1 + N).

    Args:
        touch: Touch features (B, D).
        vision: Features of the image region where the sensor is (B, D).
        temperature: kappa > 0; a scalar tensor where it is learnt.
        negatives: Explicit negatives of each row (B, N, D).
        negative_mask: True = may serve as a negative (B, N).
        pair_mask: True = vision j may serve as a negative of touch i (B, B).
        valid: False rows neither count nor serve as negatives (B,).
        in_batch: Use the other rows as negatives; None: only when `negatives` is None.
        symmetric: Mean of both directions of the in-batch part (vision -> touch has no explicit
            negatives); no effect without an in-batch part.
        reduction: "mean" over valid rows, "sum", or "none" (B,) with 0 at invalid rows.
        bank: Negatives that all rows share, beside the others (M, D).
        bank_mask: True = may serve as a negative of that row (B, M).

    Returns:
        Scalar, or (B,) for "none"; float32 at least. No valid row: 0 with zero gradient.
    """
    _check(touch, vision, temperature, negatives, negative_mask, reduction)
    with torch.autocast(touch.device.type, enabled=False):
        touch, vision = _full_precision(touch), _full_precision(vision)
        keep = _usable(touch, vision, valid)
        t, v = _unit(touch, keep), _unit(vision, keep)
        use_batch = negatives is None if in_batch is None else in_batch
        similarity = t @ v.T / temperature
        allowed = _allowed(keep, pair_mask) & use_batch
        logits = [_mask(similarity, allowed)]
        if negatives is not None:
            logits.append(_explicit(t, _full_precision(negatives), negative_mask, temperature))
        if bank is not None:
            logits.append(_shared(t, _full_precision(bank), bank_mask, temperature))
        losses = _info_nce(similarity, logits)
        if symmetric and use_batch:
            losses = 0.5 * (losses + _info_nce(similarity, [_mask(similarity.T, allowed.T)]))
        losses = torch.where(keep, losses, 0.0)
        if reduction == "none":
            return losses
        total = losses.sum()
        return total / keep.sum().clamp(min=1) if reduction == "mean" else total


def chance_level(num_negatives: float) -> float:
    """Return ln(1 + N): the loss of features that carry no information.

    Unrelated unit features start slightly above, by about 1 / (2 D kappa^2).
    """
    return math.log1p(num_negatives)


def _info_nce(similarity: Tensor, logits: list[Tensor]) -> Tensor:
    positive = similarity.diagonal().unsqueeze(1)
    return torch.logsumexp(torch.cat([positive, *logits], dim=1), dim=1) - positive.squeeze(1)


def _explicit(t: Tensor, negatives: Tensor, mask: Tensor | None, temperature: float | Tensor) -> Tensor:
    n = _unit(negatives, torch.isfinite(negatives).all(-1))
    logits = torch.einsum("bd,bnd->bn", t, n) / temperature
    return logits if mask is None else _mask(logits, mask)


def _shared(t: Tensor, bank: Tensor, mask: Tensor | None, temperature: float | Tensor) -> Tensor:
    logits = t @ _unit(bank, torch.isfinite(bank).all(-1)).T / temperature
    return logits if mask is None else _mask(logits, mask)


def _allowed(keep: Tensor, pair_mask: Tensor | None) -> Tensor:
    """Return which (i, j), i != j, are in-batch negatives (B, B)."""
    others = ~torch.eye(len(keep), dtype=torch.bool, device=keep.device)
    allowed = others & keep.unsqueeze(0) & keep.unsqueeze(1)
    return allowed if pair_mask is None else allowed & pair_mask


def _usable(touch: Tensor, vision: Tensor, valid: Tensor | None) -> Tensor:
    """Return rows that are valid and have a direction (B,)."""
    rows = torch.ones(len(touch), dtype=torch.bool, device=touch.device) if valid is None else valid
    usable = rows
    for features in (touch, vision):
        directed = features.detach().norm(dim=-1) > ZERO_NORM
        if bool((directed & rows).any()):
            usable = usable & directed
    return usable


def _unit(features: Tensor, keep: Tensor) -> Tensor:
    """Normalise rows; rows not kept and rows without direction become zero, with zero gradient."""
    safe = torch.where(keep.unsqueeze(-1), features, 0.0)
    directed = safe.detach().norm(dim=-1, keepdim=True) > ZERO_NORM
    unit = torch.nn.functional.normalize(torch.where(directed, safe, 1.0), dim=-1)
    return torch.where(directed, unit, 0.0)


def _mask(logits: Tensor, allowed: Tensor) -> Tensor:
    return logits.masked_fill(~allowed, -math.inf)


def _full_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check(
    touch: Tensor,
    vision: Tensor,
    temperature: float | Tensor,
    negatives: Tensor | None,
    negative_mask: Tensor | None,
    reduction: str,
) -> None:
    if touch.ndim != 2 or touch.shape != vision.shape:
        raise ValueError(f"hsa_loss: touch {tuple(touch.shape)}, vision {tuple(vision.shape)}; both (B, D)")
    if negatives is not None and (negatives.ndim != 3 or negatives.shape[::2] != touch.shape):
        raise ValueError(f"hsa_loss: negatives {tuple(negatives.shape)}, expected (B, N, D)")
    if negative_mask is not None and negatives is None:
        raise ValueError("hsa_loss: negative_mask without negatives")
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"hsa_loss: temperature {temperature}, expected > 0")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"hsa_loss: reduction {reduction!r}, expected 'mean', 'sum' or 'none'")
