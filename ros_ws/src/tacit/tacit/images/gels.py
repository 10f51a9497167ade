"""Touch images against the gel of the same run without contact: what is left is touch, not the gel.

Gels differ in colour, age and are replaced. A model that reads differences from the run's own untouched
gel is not moved by that.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.images.colour import Image

NO_CONTACT = 128
"""What an untouched gel becomes, in every pixel."""
TOUCHED = 4.0
"""Grey levels of local structure that a free gel lacks: over seven demonstrations of the simulated cell free
gels had 1.4 at most (2.6 with another colour and noise of 3 levels), touched ones 5.8 at least."""
WIDE, FINE = 0.5, 0.1
"""Kernels as parts of the height: what is wider is light and colour, what is finer is noise."""


def against(image: Image, reference: Image) -> Image:
    """Return 128 + image - reference, cut to bytes (..., H, W, 3): an untouched gel becomes grey."""
    difference = image.astype(np.int16) - reference
    return np.clip(NO_CONTACT + difference, 0, 255).astype(np.uint8)


def local_structure(image: Image, blank: Image) -> float:
    """Return the largest local deviation of an image from a free gel, however both are lit [grey levels].

    Args:
        image: (H, W, 3).
        blank: A gel without contact (H, W, 3), of another unit or another day.
    """
    difference = image.astype(np.float32) - blank
    local = difference - _blur(difference, WIDE)
    return float(np.abs(_blur(local, FINE)).mean(axis=-1).max())


def _blur(image: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    side = max(1, round(share * image.shape[0]))
    return np.asarray(cv2.blur(image, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)
