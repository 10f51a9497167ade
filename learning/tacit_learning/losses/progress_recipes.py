"""Losses of learnable progress heads on action segments: the dense default and the modes of older recipes.

g is the target, q the prediction, both in 0..1. Legend: S segments, L frames of the longest.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Mode = Literal["dense", "legacy", "sqrt_weighted", "uniform_mono", "mse"]
SQRT_CAP, MONOTONIC_MARGIN, MONOTONIC_WEIGHT, END_WEIGHT = 5.0, 0.01, 2.0, 1.0
LOW, HIGH = 0.33, 0.67
"""Edges of the three strata of stratified sampling."""


def segment_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    mode: Mode,
    weight_cap: float | None = 20.0,
    boundary: tuple[Tensor, Tensor] | None = None,
    boundary_weight: float = 5.0,
) -> Tensor:
    """Compute the loss of sampled frames of action segments.

    legacy: sum w |q-g| / sum w with w = min(1/max(g, 1/cap), cap), plus boundary_weight times the
    mean of |q - g| at the first and last frame. sqrt_weighted: w = 1/sqrt(max(g, 1/5)), divided by
    count, boundary weight 1. uniform_mono: mean |q-g| + 2 mean max(0, q_early - q_late + .01) + mean
    |q_last - 1|. mse: mean (q-g)^2 plus the last. dense: `dense_loss`.

    Args:
        prediction: q (S, L).
        target: g (S, L) of the same frames, in order of time.
        mask: Which entries exist (S, L).
        mode: One of the above.
        weight_cap: Largest weight of `legacy`; None: all weights 1.
        boundary: q and g (S, 2) at the first and last frame of each segment; None: no such term.
        boundary_weight: Weight of that term in `legacy`.
    """
    if mode == "dense":
        return dense_loss(prediction, target, mask)
    error = (prediction - target).abs()
    first_last = (boundary[0] - boundary[1]).abs() if boundary is not None else None
    if mode == "legacy":
        loss = _mean(error, mask, _inverse_weights(target, weight_cap))
        return loss if first_last is None else loss + boundary_weight * first_last.mean()
    if mode == "sqrt_weighted":
        loss = _mean(error / target.clamp(min=1 / SQRT_CAP).sqrt(), mask)
        return loss if first_last is None else loss + first_last.mean()
    last = first_last[:, 1] if first_last is not None else error.new_zeros(1)
    if mode == "uniform_mono":
        falls = (prediction[:, :-1] - prediction[:, 1:] + MONOTONIC_MARGIN).clamp(min=0)
        pairs = mask[:, :-1] & mask[:, 1:]
        return _mean(error, mask) + MONOTONIC_WEIGHT * _mean(falls, pairs) + END_WEIGHT * last.mean()
    return _mean(error.square(), mask) + END_WEIGHT * last.square().mean()


def dense_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    monotonic_weight: float = 0.0,
    end_weight: float = 0.0,
) -> Tensor:
    """Compute mean |q-g| over all frames, a hinge on rising targets and the error where they reach 1.

    The hinge asks q to rise by min(.01, rise of g) wherever g rises: a fixed margin would ask for
    more than the target itself does in actions of more than 100 frames, and where a clip is rewound
    g falls and so may q.

    Args:
        prediction: q (S, L).
        target: g (S, L).
        mask: Which entries count.
        monotonic_weight: Weight of the hinge.
        end_weight: Weight of the frames whose target is 1.
    """
    error = (prediction - target).abs()
    loss = _mean(error, mask)
    if monotonic_weight:
        rise = target[:, 1:] - target[:, :-1]
        pairs = mask[:, 1:] & mask[:, :-1] & (rise > 0)
        hinge = (prediction[:, :-1] - prediction[:, 1:] + rise.clamp(max=MONOTONIC_MARGIN)).clamp(min=0)
        loss = loss + monotonic_weight * _mean(hinge, pairs)
    if end_weight:
        loss = loss + end_weight * _mean(error, mask & (target >= 1 - 1e-6))
    return loss


def sample_frames(
    length: int, count: int, stratified: bool, generator: torch.Generator, shortest: int = 1
) -> Tensor:
    """Draw frames of a segment whose prefixes are judged, in order of time.

    Args:
        length: L of the segment.
        count: How many.
        stratified: One after the other from progress <= .33, <= .67 and the rest.
        generator: Source of randomness of this step and process.
        shortest: Shortest prefix in frames, where the segment has as many.

    Returns:
        Frame numbers (count,) in 0..L-1, sorted; may repeat in short segments.
    """
    first = min(shortest, length) - 1
    frames = torch.arange(first, length)
    if not stratified:
        return frames[torch.randint(len(frames), (count,), generator=generator)].sort().values
    progress = (frames + 1) / length
    strata = [frames[progress <= LOW], frames[(progress > LOW) & (progress <= HIGH)], frames[progress > HIGH]]
    strata = [stratum for stratum in strata if len(stratum)]
    chosen = [strata[i % len(strata)] for i in range(count)]
    drawn = [stratum[torch.randint(len(stratum), (1,), generator=generator)] for stratum in chosen]
    return torch.cat(drawn).sort().values


def _inverse_weights(target: Tensor, cap: float | None) -> Tensor:
    if cap is None:
        return torch.ones_like(target)
    return (1 / target.clamp(min=1 / cap)).clamp(max=cap)


def _mean(values: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the weighted mean over `mask`; 0 where it is empty."""
    weights = mask.to(values) if weights is None else weights.masked_fill(~mask, 0.0)
    return (values * weights).sum() / weights.sum().clamp(min=1e-9)
