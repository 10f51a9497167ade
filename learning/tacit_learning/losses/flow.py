"""Flow matching on latents: noise levels, weights, and the squared error of the velocity.

Source: Lipman et al. 2022, arXiv:2210.02747 (the straight path), the shift of Esser et al. 2024,
arXiv:2403.03206; the bell weight of modelscope/DiffSynth-Studio@fed7b18. Legend: B batch, C channels,
T latent frames, H W latent cells.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

FlowWeighting = Literal["none", "bell", "logit_normal"]
NUM_TIMESTEPS = 1000


def sample_uniform(
    batch: int,
    *,
    generator: torch.Generator | None = None,
    rank: int = 0,
    world: int = 1,
    logit_normal: bool = False,
) -> Tensor:
    """Draw u (B,) in (0, 1), one per sample, stratified over the global batch.

    Sample k of the B x world samples falls in a stratum of its own, [s, s + 1) / (B x world), in
    random order. All ranks must share the state of `generator`.

    Args:
        batch: Samples on this rank.
        generator: On the CPU.
        rank: Number of this process.
        world: Number of processes.
        logit_normal: Return sigmoid(n), n the normal quantile of u, in place of u.
    """
    total = batch * world
    order = torch.randperm(total, generator=generator)
    u = (order + torch.rand(total, generator=generator)) / total
    u = u[rank * batch : (rank + 1) * batch]
    if not logit_normal:
        return u
    tiny = torch.finfo(u.dtype).eps
    return torch.sigmoid(torch.special.ndtri(u.clamp(tiny, 1 - tiny)))


def shift_sigma(u: Tensor, shift: float) -> Tensor:
    """Compute sigma = s u / (1 + (s - 1) u): s > 1 spends more samples on high noise."""
    return shift * u / (1 + (shift - 1) * u)


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Compute x_t = (1 - sigma) x_0 + sigma n.

    Args:
        latents: x_0 (B, C, T, H, W).
        noise: n, the same shape.
        sigma: One per sample (B,).
    """
    level = sigma.view(-1, *[1] * (latents.ndim - 1))
    return (1 - level) * latents + level * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """Return n - x_0, the velocity of the straight path, the same shape."""
    return noise - latents


def timestep_of(sigma: Tensor) -> Tensor:
    """Return what the transformer reads: 1000 sigma (B,)."""
    return NUM_TIMESTEPS * sigma


def flow_weight(sigma: Tensor, kind: FlowWeighting, shift: float) -> Tensor:
    """Return omega (B,), the weight of each sample by its noise level.

    `bell`: y = exp(-2 ((t - 500) / 1000)^2) at t = 1000 sigma, less its minimum, scaled to mean 1
    over the shifted grid of 1000 steps; 0 at sigma = 1. `none` and `logit_normal` (where the draw of
    u is not uniform) weigh all samples by 1.
    """
    if kind != "bell":
        return torch.ones_like(sigma)
    lowest, total = _bell_grid(shift)
    return NUM_TIMESTEPS * (_bell(timestep_of(sigma)) - lowest).clamp(min=0) / total


def mask_share(mask: Tensor, cells: tuple[int, int, int], num_reference: int = 0) -> Tensor:
    """Return M (B, 1, T, H, W), the white share of the pixels of each latent cell.

    Latent frame 0 stands for frame 0, latent frame j for frames 4j-3..4j; reference slots have none.

    Args:
        mask: 1 = generate (B, F, height, width), F = 4 (T - num_reference) - 3.
        cells: (T, H, W) of the latents, reference slots included.
        num_reference: Slots before the video.
    """
    frames, height, width = cells
    first = F.adaptive_avg_pool3d(mask[:, None, :1].float(), (1, height, width))
    reference = first.new_zeros((len(mask), 1, num_reference, height, width))
    share = [reference, first]
    if frames - num_reference > 1:
        rest = mask[:, None, 1:].float()
        share.append(F.adaptive_avg_pool3d(rest, (frames - num_reference - 1, height, width)))
    return torch.cat(share, dim=2)


def share_weight(share: Tensor, gain: float, num_reference: int = 0) -> Tensor:
    """Return W = 1 + (gain - 1) M of a `mask_share`, scaled to mean 1 per sample; reference slots weigh 1."""
    weight = 1 + (gain - 1) * share
    video = weight[:, :, num_reference:]
    scaled = video / video.mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.cat([weight[:, :, :num_reference], scaled], dim=2)


def flow_loss_per_sample(
    predicted: Tensor,
    latents: Tensor,
    noise: Tensor,
    *,
    weight: Tensor | None = None,
    cell_weight: Tensor | None = None,
    skip_frames: int = 0,
) -> Tensor:
    """Compute omega mean(W (v - (n - x_0))^2) of every sample.

    Args:
        predicted: v (B, C, T, H, W).
        latents: x_0.
        noise: n.
        weight: omega (B,), None = 1.
        cell_weight: W (B, 1, T, H, W), None = 1.
        skip_frames: Leading latent frames that do not count: the reference slot.

    Returns:
        (B,), float32 at least.
    """
    if not predicted.shape == latents.shape == noise.shape:
        raise ValueError(
            f"flow_loss_per_sample: predicted {tuple(predicted.shape)}, latents {tuple(latents.shape)}, "
            f"noise {tuple(noise.shape)}; expected one shape"
        )
    with torch.autocast(predicted.device.type, enabled=False):
        dtype = torch.promote_types(predicted.dtype, torch.float32)
        target = velocity_target(latents.to(dtype), noise.to(dtype))
        error = (predicted.to(dtype) - target).square()
        if cell_weight is not None:
            error = error * cell_weight
        loss = error[:, :, skip_frames:].mean(dim=(1, 2, 3, 4))
        return loss if weight is None else weight * loss


def _bell(timestep: Tensor) -> Tensor:
    return torch.exp(-2 * ((timestep - NUM_TIMESTEPS / 2) / NUM_TIMESTEPS).square())


@cache
def _bell_grid(shift: float) -> tuple[float, float]:
    """Return (minimum of y, sum of y - minimum) over the shifted grid 1, 0.999 .. 0.001."""
    u = torch.linspace(1, 0, NUM_TIMESTEPS + 1, dtype=torch.float64)[:-1]
    y = _bell(timestep_of(shift_sigma(u, shift)))
    return float(y.min()), float((y - y.min()).sum())
