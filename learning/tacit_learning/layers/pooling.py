"""From a pixel box to weights over the tokens of that image, by covered area.

Nothing is floored to indices and nothing outside the image is moved to its border: a box that
covers no token has zero weights and its row is not usable. Legend: B boxes, H W token grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_CENTRE = 0.5  # stored boxes put pixel centres at integers (OpenCV); edges are half a pixel further


def token_weights(boxes: Tensor, image_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Compute each token's share of the area that a box covers.

    Args:
        boxes: Edges [x0, y0, x1, y1] in pixels of the image the tokens came from, half open,
            image from 0 to its size (..., 4). NaN boxes cover nothing.
        image_size: (height, width) of that image [px].
        grid: (rows, columns) of tokens.

    Returns:
        Weights (..., rows, columns) that sum to 1, or are all 0 where nothing is covered.
    """
    height, width = image_size
    rows, columns = grid
    boxes = torch.nan_to_num(boxes, nan=0.0, posinf=0.0, neginf=0.0)
    across = _overlap(boxes[..., 0], boxes[..., 2], columns, width / columns)
    down = _overlap(boxes[..., 1], boxes[..., 3], rows, height / rows)
    area = down.unsqueeze(-1) * across.unsqueeze(-2)
    total = area.sum((-2, -1), keepdim=True)
    return torch.where(total > 0, area / total.clamp(min=1e-12), 0.0)


def dilate(boxes: Tensor, margin: tuple[float, float]) -> Tensor:
    """Grow boxes (..., 4) by margin = (pixels down, pixels across) on every side."""
    down, across = margin
    return boxes + boxes.new_tensor([-across, -down, across, down])


def pool(tokens: Tensor, weights: Tensor) -> Tensor:
    """Average tokens (..., H*W, D) with weights (..., H, W) to features (..., D)."""
    return torch.einsum("...ld,...l->...d", tokens, weights.flatten(-2))


def _overlap(start: Tensor, end: Tensor, count: int, size: float) -> Tensor:
    """Return the length that [start, end) covers of each of `count` cells (..., count)."""
    lower = torch.arange(count, dtype=start.dtype, device=start.device) * size
    covered = torch.minimum(end.unsqueeze(-1), lower + size) - torch.maximum(start.unsqueeze(-1), lower)
    return covered.clamp(min=0)
