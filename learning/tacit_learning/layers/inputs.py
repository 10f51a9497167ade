"""From stored images to what networks read: the one preparation of training, encoding and export.

Legend: B batch, N cameras, S sensors, H W image, h w touch image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TOUCH_ZERO = 0.5  # a gel without contact becomes mid grey, so that pretrained backbones see an image


def prepare_images(images: Tensor) -> Tensor:
    """Map RGB bytes (B, N, H, W, 3) to 0..1 floats (B, N, 3, H, W)."""
    return images.movedim(-1, 2).float() / 255


def prepare_touch(touch: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the images without contact.

    Args:
        touch: RGB bytes (B, S, h, w, 3).
        references: The same sensors without contact (S, h, w, 3) u1.

    Returns:
        0.5 + difference / 255 (B, S, 3, h, w), and the mean absolute difference (B, S) [grey levels].
    """
    difference = touch.float() - references.float()
    return TOUCH_ZERO + difference.movedim(-1, 2) / 255, difference.abs().mean((-3, -2, -1))


def prepare_taxels(taxels: Tensor, spans: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Scale the readings of arrays by the width of their range, and lift weak ones out of it.

    A touch is some hundredths of what a taxel can say; the root of its share is some tenths.

    Args:
        taxels: Against no contact (B, M), in the units of the sensors.
        spans: Widths of the ranges (M,).
        counts: How many values each array has.

    Returns:
        sign(x) sqrt(|x|) of the shares x (B, M), and the mean |x| of each array (B, S) in 255ths, as grey
        levels of a gel are counted.
    """
    shares = taxels / spans
    contact = torch.stack([255 * part.abs().mean(1) for part in shares.split(list(counts), 1)], 1)
    return shares.sign() * shares.abs().sqrt(), contact
