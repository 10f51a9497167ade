"""Augmentation of a batch on its device: random shifts that move boxes too, colour for cameras only.

Touch images are measurements: they are never shifted nor recoloured. Depth is shifted, and not recoloured.
Legend: B batch, N cameras, H W pixels, S sensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.config import Config
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch


class AugmentConfig(Config):
    """Strengths; 0 switches off. `shift` is a fraction of the image side.

    2 px of 64 made closed-loop success reliable in the simulated cell (40 of 40 against 26-39).
    `state_noise` is in standard deviations and is added by the policy, which knows them.
    """

    shift: float = 0.03125
    brightness: float = 0.0
    contrast: float = 0.0
    state_noise: float = 0.0


def augment(
    batch: Batch, config: AugmentConfig, generator: torch.Generator, depth: Sequence[int] = ()
) -> Batch:
    """Return the batch with its camera images changed and their boxes moved along.

    Args:
        batch: See `tacit_learning.data.keys`.
        config: Strengths.
        generator: Source of randomness (CPU).
        depth: Which of the N cameras measure depth.
    """
    images, boxes = batch[keys.IMAGES], batch[keys.BOXES]
    if config.shift > 0:
        offsets = _draw_offsets(images, config.shift, generator)
        images = shift_images(images, offsets)
        boxes = shift_boxes(boxes, offsets)
    if config.brightness > 0 or config.contrast > 0:
        recoloured = _jitter(images, config, generator)
        recoloured[:, list(depth)] = images[:, list(depth)]
        images = recoloured
    return {**batch, keys.IMAGES: images, keys.BOXES: boxes}


def shift_images(images: Tensor, offsets: Tensor) -> Tensor:
    """Move image content by whole pixels; the border repeats its edge.

    Args:
        images: (B, N, H, W, 3).
        offsets: Content moves by (dy, dx) pixels, integers (B, N, 2).
    """
    height, width = images.shape[2:4]
    margin = int(offsets.abs().max())
    padded = _repeat_edges(_repeat_edges(images, 2, margin), 3, margin)
    starts = (margin - offsets.flatten(0, 1)).tolist()
    views = [
        image[y : y + height, x : x + width]
        for image, (y, x) in zip(padded.flatten(0, 1), starts, strict=True)
    ]
    return torch.stack(views).unflatten(0, images.shape[:2])


def shift_boxes(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Move boxes (B, N, S, 4) by the (dy, dx) of their camera (B, N, 2)."""
    xyxy = offsets.flip(-1).repeat(1, 1, 2).unsqueeze(2)
    return boxes + xyxy.to(boxes)


def _repeat_edges(images: Tensor, axis: int, margin: int) -> Tensor:
    """Pad one axis by `margin` copies of its first and last slice."""
    first, last = images.narrow(axis, 0, 1), images.narrow(axis, images.shape[axis] - 1, 1)
    return torch.cat([*[first] * margin, images, *[last] * margin], dim=axis)


def _draw_offsets(images: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    limit = torch.tensor([round(fraction * side) for side in images.shape[2:4]])
    uniform = torch.rand(*images.shape[:2], 2, generator=generator)
    return (uniform * (2 * limit + 1)).floor().long() - limit


def _jitter(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Scale contrast around the mean and add brightness, per image."""
    draw = torch.rand(2, *images.shape[:2], 1, 1, 1, generator=generator).to(images.device) * 2 - 1
    values = images.float()
    mean = values.mean((2, 3, 4), keepdim=True)
    values = (values - mean) * (1 + config.contrast * draw[0]) + mean + 255 * config.brightness * draw[1]
    return values.round().clamp(0, 255).to(torch.uint8)
