"""VAVA: optimal transport between two videos, with priors on time and a place for unmatched frames.

    loss = <T, D> + intra_weight (C(x) + C(y)) + inter_weight C(x, y) (`sequence_terms`)
    D_ij = |x_i - y_j|^2, with a virtual row and column of cost zeta
    T = plan of K = P exp((S - D) / l2) after `max_iterations` of Sinkhorn (`transport`)
    S = l1 (phi / (g^2 + 1) + (1 - phi) / (o^2 + 1))
    P = phi N(g / s; delta) + (1 - phi) N(o / s; delta),  s = sqrt(1/N^2 + 1/M^2)
    g = |i/N - j/M|, o = mean gap from the nearest matches of i and of j
    l1 = lambda1 (N + M), l2 = lambda2 N M / 4
N and M count the virtual frame in g, o and s, not in l1 and l2; phi falls with the step: first the
diagonal, then the matches.
Source: Liu et al. 2022, arXiv:2111.09301; weizheliu/VAVA@8894230, which does not run as published.
Where the two differ we follow the paper: matches count in both directions, best and worst matches are
read from the plan. The plan sums to 1, so <T, D> is a mean and not divided again. Legend: N, M frames,
D features; row and column 0 of the transport belong to the virtual frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tacit_learning.losses.distances import check_pair, existing_frames, full_precision, squared_distances
from tacit_learning.losses.sequence_terms import inter_contrastive, intra_contrastive
from tacit_learning.losses.transport import sinkhorn_plan


@full_precision
def vava_loss(
    x: Tensor,
    y: Tensor,
    *,
    step: int,
    max_iterations: int = 20,
    lambda1: float = 1.0,
    lambda2: float = 0.1,
    zeta: float = 0.5,
    delta: float = 2.0,
    virtual_distance: float = 5.0,
    intra_weight: float = 0.5,
    window: float = 15.0,
    margin: float = 2.0,
    inter_weight: float = 1e-4,
    temperature: float = 0.5,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
) -> Tensor:
    """Compute the loss above.

    Args:
        x: Frames (N, D), meant to be of unit norm; not normalised here.
        y: Frames (M, D).
        step: Optimiser step, not epoch.
        max_iterations: Iterations of Sinkhorn.
        lambda1: Pull of the plan towards the priors in S.
        lambda2: Entropy; larger is softer.
        zeta: Cost of leaving a frame unmatched.
        delta: Width of the priors in P, in frames.
        virtual_distance: Distance from the diagonal, in frames, that the priors give the virtual frame.
        intra_weight: Weight of the contrast within each video.
        window: Frames up to this gap attract each other there.
        margin: Squared distance that frames further apart should keep there.
        inter_weight: Weight of best against worst matches.
        temperature: Temperature of the latter.
        x_mask: True at frames that exist (N,); the others are left out, their values never read.
        y_mask: The same of y (M,).

    Returns:
        Scalar.
    """
    check_pair("vava_loss", x, y)
    x, y = existing_frames("vava_loss", x, x_mask), existing_frames("vava_loss", y, y_mask)
    if not (lambda2 > 0 and delta > 0):
        raise ValueError(f"vava_loss: lambda2 {lambda2}, expected > 0; delta {delta}, expected > 0")
    n, m = len(x), len(y)
    distances = squared_distances(x, y)
    cost = torch.nn.functional.pad(distances, (1, 0, 1, 0), value=zeta)
    structure, log_prior = _priors(distances.detach(), phi(step), delta, virtual_distance)
    scale = lambda2 * n * m / 4
    plan = sinkhorn_plan(log_prior + (lambda1 * (n + m) * structure - cost) / scale, max_iterations)
    loss = (plan * cost).sum()
    if intra_weight:
        loss = loss + intra_weight * (_intra(x, window, margin) + _intra(y, window, margin))
    if inter_weight:
        loss = loss + inter_weight * inter_contrastive(x, y, plan[1:, 1:], temperature=temperature)
    return loss


def phi(step: int) -> float:
    """Return the weight of the diagonal prior, 0.999^floor(sqrt(step + 1)) within [0.001, 0.999]."""
    if step < 0:
        raise ValueError(f"vava_loss: step {step}, expected >= 0")
    return min(max(0.999 ** math.isqrt(step + 1), 0.001), 0.999)


def _intra(x: Tensor, window: float, margin: float) -> Tensor:
    positions = torch.arange(len(x), device=x.device, dtype=x.dtype)
    return intra_contrastive(x, positions, window=window, margin=margin, near_weight="shrinking")


def _priors(
    distances: Tensor, diagonal_weight: float, delta: float, virtual_distance: float
) -> tuple[Tensor, Tensor]:
    """Return S / l1 and log P (N + 1, M + 1), up to a constant of P that Sinkhorn removes."""
    n, m = distances.shape[0] + 1, distances.shape[1] + 1
    rows = torch.arange(1, n + 1, device=distances.device, dtype=distances.dtype).unsqueeze(1)
    columns = torch.arange(1, m + 1, device=distances.device, dtype=distances.dtype).unsqueeze(0)
    from_diagonal = (rows / n - columns / m).abs()
    # Frame i is row i + 1, counted from 1 row i + 2; the virtual frame matches the virtual frame.
    best_column = torch.nn.functional.pad(distances.argmin(1) + 2, (1, 0), value=1).unsqueeze(1)
    best_row = torch.nn.functional.pad(distances.argmin(0) + 2, (1, 0), value=1).unsqueeze(0)
    from_matches = 0.5 * ((rows - best_row).abs() / n + (columns - best_column).abs() / m)
    for gap in (from_diagonal, from_matches):
        virtual = 1.5 * 2 * virtual_distance / (n + m)
        gap[0, 1:], gap[1:, 0] = virtual, virtual
    frame = math.sqrt(1 / n**2 + 1 / m**2)
    structure = diagonal_weight / (from_diagonal.square() + 1)
    structure += (1 - diagonal_weight) / (from_matches.square() + 1)
    sharp = -0.5 / (frame * delta) ** 2
    log_prior = torch.logaddexp(
        from_diagonal.square() * sharp + math.log(diagonal_weight),
        from_matches.square() * sharp + math.log1p(-diagonal_weight),
    )
    return structure, log_prior
