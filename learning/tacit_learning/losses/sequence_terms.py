"""Contrastive terms beside an alignment loss: within one video (near frames alike, far frames apart)
and between two matched videos (best matches nearer than worst ones).

Sources: contrastive-IDM of LAV (Haresh et al. 2021, arXiv:2103.17260; trquhuytin/LAV-CVPR21@3c4154c) and
C(x), C(x, y) of VAVA (Liu et al. 2022, arXiv:2111.09301; weizheliu/VAVA@8894230). Legend: N, M frames,
D features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tacit_learning.losses.distances import full_precision, squared_distances

# Weight of a pair whose positions differ by g: 1, 1 + g^2, or 1 / (1 + g^2).
Weight = Literal["one", "growing", "shrinking"]


@full_precision
def intra_contrastive(
    x: Tensor,
    positions: Tensor,
    *,
    window: float,
    margin: float = 2.0,
    unit: float = 1.0,
    near_weight: Weight = "one",
    far_weight: Weight = "one",
    reduction: Literal["sum", "mean"] = "mean",
) -> Tensor:
    """Compute sum_ij [g <= window] w_near d_ij + [g > window] w_far max(0, margin - d_ij).

    g = |positions_i - positions_j|, d = |x_i - x_j|^2; the weights w are those of g / unit. LAV:
    far_weight "growing" with the length as unit, "sum"; VAVA: near_weight "shrinking", "mean".

    Args:
        x: Frames (N, D).
        positions: (N,), in the unit of `window`.
        window: Frames up to this gap attract each other.
        margin: Squared distance beyond which far frames no longer repel each other.
        unit: Gaps are divided by it in the weights.
        near_weight: w_near.
        far_weight: w_far.
        reduction: "mean" divides by N^2.

    Returns:
        Scalar.
    """
    if x.ndim != 2 or positions.shape != x.shape[:1] or len(x) == 0:
        raise ValueError(
            f"intra_contrastive: x {tuple(x.shape)}, positions {tuple(positions.shape)}; "
            "expected (N, D) and (N,)"
        )
    gap = (positions.unsqueeze(0) - positions.unsqueeze(1)).abs()
    near = gap <= window
    scaled = gap / unit
    # w_near d, or w_far margin - w_far d: one product and sum, cut at 0, where only far frames come.
    slope = torch.where(near, _weight(scaled, near_weight), -_weight(scaled, far_weight))
    start = torch.where(near, 0.0, -margin * slope)
    total = torch.addcmul(start, squared_distances(x, x), slope).relu().sum()
    return total / len(x) ** 2 if reduction == "mean" else total


@full_precision
def inter_contrastive(x: Tensor, y: Tensor, matches: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Compute the two-way cross-entropy -log softmax([best, worst] / temperature) against "worst".

    best and worst are the mean squared distances, both directions added, of every frame to its most and
    least likely match: the worst should be the farther one.

    Args:
        x: Frames (N, D).
        y: Frames (M, D).
        matches: How much frame i of x belongs to frame j of y (N, M); no gradient flows into it.
        temperature: Divides the distances.

    Returns:
        Scalar, > 0; ln 2 where nothing is told apart.
    """
    if matches.shape != (len(x), len(y)):
        raise ValueError(f"inter_contrastive: matches {tuple(matches.shape)}, expected {(len(x), len(y))}")
    matches = matches.detach()
    best = _mean_distance(x, y[matches.argmax(1)]) + _mean_distance(y, x[matches.argmax(0)])
    worst = _mean_distance(x, y[matches.argmin(1)]) + _mean_distance(y, x[matches.argmin(0)])
    return torch.nn.functional.softplus((best - worst) / temperature)


def _mean_distance(x: Tensor, matched: Tensor) -> Tensor:
    return (x - matched).square().sum(-1).mean()


def _weight(gap: Tensor, kind: Weight) -> Tensor:
    if kind == "one":
        return torch.ones_like(gap)
    if kind == "growing":
        return 1 + gap.square()
    if kind == "shrinking":
        return 1 / (1 + gap.square())
    raise ValueError(f"intra_contrastive: weight {kind!r}, expected 'one', 'growing' or 'shrinking'")
