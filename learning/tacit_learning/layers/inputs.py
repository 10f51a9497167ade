"""From stored images to what networks read: the one preparation of training, encoding and export.

Legend: B batch, N cameras, S sensors, H W image, h w touch image.
"""

from __future__ import annotations

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
