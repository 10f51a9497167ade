"""Masks that do not tell where the hand is: looser ones, drawn again and again.

A mask that follows the outline of the hand says all that the motion says, so a model learns to read the
mask and to ignore the motion. Version 0 of a window's mask is fixed, for validation and samples; the
others are drawn, and a training step takes one of them. Legend: F frames, H W pixels.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

MaskKind = Literal["tight", "loose", "open"]
SHARES = {"frame": 0.1, "time": 0.3, "hull": 0.2, "box": 0.3, "open": 0.1}
"""How often a drawn mask follows every frame, or is that of the whole window: its pixels, their hull, their
box, or everything. Following the frames tells the place, so it is rare, but data of others look like that."""
MARGIN = 1 / 6  # of the longer side of the hand's box at most (and one pixel at least), on each side
DECOY = 0.5  # how often another window's mask is added, or the hand is always in the middle of the mask


def loosened(mask: np.ndarray, kind: MaskKind) -> np.ndarray:
    """Return version 0 of a mask (F, H, W) bool: as it is, the box of the whole window, or everything."""
    if kind == "tight" or not mask.any():
        return mask
    if kind == "open":
        return np.ones_like(mask)
    return _over_time(mask, "box", (_margin(mask),) * 4)


def drawn_mask(mask: np.ndarray, decoy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a looser mask that holds all of `mask`.

    Args:
        mask: (F, H, W) bool, True = generate.
        decoy: Mask of another window, of the same size; added by chance.
        rng: Draws.
    """
    if not mask.any():
        return mask
    kind = rng.choice(list(SHARES), p=list(SHARES.values()))
    if kind == "open":
        return np.ones_like(mask)
    margins = tuple(int(m) for m in rng.integers(1, _margin(mask) + 1, 4))
    if kind == "frame":
        shape = rng.choice(["time", "hull", "box"])
        return np.concatenate([_over_time(each[None], shape, margins) for each in mask])
    whole = mask | decoy.any(0) if rng.random() < DECOY else mask
    return _over_time(whole, kind, margins)


def _margin(mask: np.ndarray) -> int:
    """Return the widest margin [px]: a share of the picture's shorter side."""
    return max(1, round(MARGIN * min(mask.shape[1:])))


def _over_time(mask: np.ndarray, shape: str, margins: tuple[int, ...]) -> np.ndarray:
    """Return the pixels that are ever white, with margins [left, top, right, bottom], for every frame."""
    ever: np.ndarray = np.asarray(mask.any(0))
    if not ever.any():
        return mask
    left, top, right, bottom = margins
    kernel = np.ones((top + bottom + 1, left + right + 1), np.uint8)
    grown = np.asarray(cv2.dilate(ever.astype(np.uint8), kernel, anchor=(right, bottom)))
    points = np.argwhere(grown)[:, ::-1].astype(np.int32)
    if shape == "box":
        (x, y), (u, v) = points.min(0), points.max(0)
        grown[y : v + 1, x : u + 1] = 1
    elif shape == "hull":
        cv2.fillConvexPoly(grown, cv2.convexHull(points), (1,))
    return np.broadcast_to(grown.astype(bool), mask.shape).copy()
