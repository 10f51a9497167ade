"""Readings of taxels as pictures to look at: a tile for each channel, as the face of the sensor lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.images.colour import Image

HEIGHT_PX, GAP_PX = 60, 2
"""About so high is a picture; a wrench of one taxel is six squares of that size."""
GROUND, UNKNOWN = (24, 26, 30), (128, 128, 128)
MORE, LESS = (255, 159, 28), (64, 196, 255)
"""Above and below the reading without contact; apart for the colour blind."""


def taxel_colours(
    reading: ArrayLike, low: ArrayLike, high: ArrayLike, offset: ArrayLike | None = None
) -> Image:
    """Return a reading (R, C, K) as a picture (H, W, 3): dark as without contact, orange more, blue less.

    Args:
        reading: What the sensor said; grey where it is no number.
        low, high: Range of each channel (K,); its width is the full colour.
        offset: Reading (R, C, K) without contact; 0 where it is not known.
    """
    values = np.asarray(reading, np.float64)
    span = np.asarray(high, np.float64) - np.asarray(low, np.float64)
    change = (values - (0.0 if offset is None else np.asarray(offset, np.float64))) / span
    factor = max(1, HEIGHT_PX // values.shape[0])
    tiles: list[NDArray[np.uint8]] = []
    for channel in np.moveaxis(np.clip(change, -1.0, 1.0), -1, 0):
        tiles.append(np.kron(_coloured(channel), np.ones((factor, factor, 1), np.uint8)))
        tiles.append(np.zeros((tiles[0].shape[0], GAP_PX, 3), np.uint8))
    return np.concatenate(tiles[:-1], axis=1)


def _coloured(change: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return -1..1 (R, C) as colours (R, C, 3)."""
    ground, more, less = (np.array(c, np.float64) for c in (GROUND, MORE, LESS))
    known = np.nan_to_num(change)[..., None]
    colours = ground + np.abs(known) * (np.where(known > 0, more, less) - ground)
    colours[np.isnan(change)] = UNKNOWN
    return (colours + 0.5).astype(np.uint8)
