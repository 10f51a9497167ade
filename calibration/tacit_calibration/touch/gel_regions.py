"""Parts of a picture that could be a gel: of one colour, convex, shaped and sized as expected.

Nothing here knows a rig: an expected outline goes in, outlines come back, with edges to parts of a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.geometry.transforms import FloatArray
from tacit.images import Image

SEEDS = 11
"""Places along each side of the window whose colours are tried: a gel covers two by two and more."""
CHROMA_STEPS, LAB_STEPS = (0.03, 0.06, 0.12), (8.0, 14.0, 24.0)
"""How far colours of one region lie apart: shares of red, green and blue; and CIE Lab, for grey gels."""
DARK = 30.0
"""Below this sum of red, green and blue a share is mostly noise, and drawn towards black."""
MIN_AREA, MAX_AREA = 0.45, 2.2
MIN_SOLIDITY, MIN_LIKENESS, SAME = 0.85, 0.72, 0.92
SMALLEST_PX = 60.0
"""The expected outline is enlarged to about this width before regions are grown."""
NUM_EDGE_POINTS = 96
MIN_STEP = 12.0
"""Levels (of all three channels together) between both sides of an edge; a camera's noise is 3 to 5."""
MIN_SUPPORT = 0.5
CORNER_SHARE = 0.14
"""This much of a side at each of its ends is left out: gels have rounded corners."""


@dataclass(frozen=True, eq=False)
class Region:
    """What could be a gel: its edge (M, 2) [px], the hull (K, 2) around that, the share with a clear edge."""

    points: FloatArray
    hull: FloatArray
    support: float


def find_regions(image: Image, shapes: Sequence[FloatArray], reach_px: float) -> list[Region]:
    """Return the regions within reach of an expected outline that are shaped like it.

    Args:
        image: RGB (H, W, 3).
        shapes: Convex outlines (K, 2) [px] that are expected, the largest first; any will do.
        reach_px: How far it may lie from where it is expected.
    """
    window = _window(image, shapes[0], reach_px)
    if window is None:
        return []
    corner, crop, scale = window
    found: list[Region] = []
    for mask in _grown(crop):
        hull = _convex(mask)
        if hull is None:
            continue
        pixels = (hull + 0.5) / scale - 0.5 + corner
        if not any(_is_like(pixels, shape) for shape in shapes):
            continue
        if any(overlap(pixels, other.hull) > SAME for other in found):
            continue
        points, support = edges_along(image, pixels)
        if support >= MIN_SUPPORT:
            found.append(Region(points, convex_hull(points), support))
    return found


def edges_along(image: Image, hull: FloatArray) -> tuple[FloatArray, float]:
    """Return where the colour changes across an outline, to parts of a pixel.

    Args:
        image: RGB (H, W, 3).
        hull: Convex outline (K, 2) [px], a few pixels off at most.

    Returns:
        Points (M, 2), none near corners, and the share of the outline that has a clear edge.
    """
    at, outwards = _along(hull)
    reach = float(np.clip(0.1 * np.sqrt(area(hull)), 3.0, 7.0))
    steps = np.arange(-reach, reach + 0.25, 0.5)
    places = at[:, None] + steps[:, None] * outwards[:, None]
    low = np.clip(np.floor(places.min(axis=(0, 1))).astype(int), 0, np.array(image.shape[1::-1]) - 1)
    high = np.maximum(np.ceil(places.max(axis=(0, 1))).astype(int) + 1, low + 1)
    colours = cv2.remap(
        image[low[1] : high[1], low[0] : high[0]].astype(np.float32),
        (places[..., 0] - low[0]).astype(np.float32),
        (places[..., 1] - low[1]).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float64)
    size = np.array([image.shape[1] - 1, image.shape[0] - 1])
    is_seen = ((places >= 0) & (places <= size)).all(axis=(1, 2))
    offset = _crossing(colours, steps)
    is_edge = np.isfinite(offset) & is_seen
    return at[is_edge] + offset[is_edge, None] * outwards[is_edge], float(np.mean(is_edge))


def overlap(first: FloatArray, second: FloatArray) -> float:
    """Return the shared area of two convex outlines by that of both together."""
    shared, _ = cv2.intersectConvexConvex(first.astype(np.float32), second.astype(np.float32))
    return float(shared / max(area(first) + area(second) - shared, 1e-9))


def area(hull: FloatArray) -> float:
    """Return the area of an outline [px^2]."""
    return max(abs(cv2.contourArea(hull.astype(np.float32))), 1e-9)


def convex_hull(points: FloatArray) -> FloatArray:
    """Return the convex hull (K, 2) of points, in order."""
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], np.float64)


def _is_like(hull: FloatArray, expected: FloatArray) -> bool:
    """Tell whether an outline is as large as the expected one, and overlaps it once brought to its place."""
    ratio = area(hull) / area(expected)
    placed = middle(hull) + np.sqrt(ratio) * (expected - middle(expected))
    return MIN_AREA < ratio < MAX_AREA and overlap(hull, placed) >= MIN_LIKENESS


def middle(hull: FloatArray) -> FloatArray:
    """Return the centre of area (2,) [px] of an outline."""
    moments = cv2.moments(hull.astype(np.float32))
    return np.array([moments["m10"], moments["m01"]]) / max(moments["m00"], 1e-9)


def _window(
    image: Image, expected: FloatArray, reach_px: float
) -> tuple[FloatArray, NDArray[np.uint8], float] | None:
    """Return the corner [px] of the part of a picture that is searched, that part, and its enlargement."""
    low = np.floor(np.maximum(expected.min(axis=0) - reach_px, 0)).astype(int)
    high = np.ceil(np.minimum(expected.max(axis=0) + reach_px + 1, image.shape[1::-1])).astype(int)
    if (high - low < 8).any():
        return None
    crop = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    scale = float(np.clip(round(SMALLEST_PX / np.sqrt(area(expected))), 1, 4))
    if scale > 1:
        crop = np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR))
    return low.astype(np.float64), np.asarray(cv2.medianBlur(crop, 5), np.uint8), scale


def _grown(crop: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the mask of every region around some place whose colours are like the one there."""
    levels = crop.astype(np.float32)
    chroma = levels / np.maximum(levels.sum(axis=2, keepdims=True), DARK)
    lab = np.asarray(cv2.cvtColor(levels / 255, cv2.COLOR_RGB2LAB))
    height, width = crop.shape[:2]
    for space, steps in ((chroma, CHROMA_STEPS), (lab, LAB_STEPS)):
        for step in steps:
            seen = np.zeros((height, width), bool)
            for y in np.linspace(0, height - 1, SEEDS + 2)[1:-1].astype(int):
                for x in np.linspace(0, width - 1, SEEDS + 2)[1:-1].astype(int):
                    if seen[y, x]:
                        continue
                    mask = np.zeros((height + 2, width + 2), np.uint8)
                    flags = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (255 << 8)
                    around = (step,) * 3
                    cv2.floodFill(space, mask, (int(x), int(y)), (0.0,) * 3, around, around, flags)
                    seen |= mask[1:-1, 1:-1] > 0
                    yield mask[1:-1, 1:-1]


def _convex(mask: NDArray[np.uint8]) -> FloatArray | None:
    """Return the convex hull (K, 2) of the largest part of a mask; None where it is not convex or cut off."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    largest = max(contours, key=cv2.contourArea)
    x, y, width, height = cv2.boundingRect(largest)
    if x == 0 or y == 0 or x + width == mask.shape[1] or y + height == mask.shape[0] or len(largest) < 4:
        return None
    hull = cv2.convexHull(largest)[:, 0].astype(np.float64)
    is_solid = cv2.contourArea(largest) >= MIN_SOLIDITY * area(hull)
    return hull if is_solid else None


def _along(hull: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return points along an outline (M, 2), none near sharp corners, and their normals to the outside."""
    side = np.roll(hull, -1, axis=0) - hull
    length = np.linalg.norm(side, axis=1)
    # Few long sides are a predicted box; many short ones are a seen outline, rounded by itself.
    margin = CORNER_SHARE if len(hull) <= 8 else 0.0
    counts = np.maximum(np.rint(NUM_EDGE_POINTS * length / length.sum()), 1).astype(int)
    which = np.repeat(np.arange(len(hull)), counts)
    share = np.concatenate([margin + (1 - 2 * margin) * (np.arange(n) + 0.5) / n for n in counts])
    at = hull[which] + share[:, None] * side[which]
    normal = np.stack([side[:, 1], -side[:, 0]], axis=1) / np.maximum(length, 1e-9)[:, None]
    turn = np.sign(np.sum(hull[:, 0] * np.roll(hull[:, 1], -1) - hull[:, 1] * np.roll(hull[:, 0], -1)))
    return at, (turn * normal)[which]


def _crossing(colours: FloatArray, steps: FloatArray) -> FloatArray:
    """Return where each profile (M, T, 3) is half way from its inner to its outer colour; NaN if nowhere."""
    third = max(2, len(steps) // 3)
    inner, outer = np.median(colours[:, :third], axis=1), np.median(colours[:, -third:], axis=1)
    change = outer - inner
    size = np.linalg.norm(change, axis=1)
    share = np.einsum("mtc,mc->mt", colours - inner[:, None], change) / np.maximum(size, 1e-9)[:, None] ** 2
    is_crossed = (share[:, :-1] < 0.5) & (share[:, 1:] >= 0.5)
    rise = np.maximum(share[:, 1:] - share[:, :-1], 1e-9)
    where = steps[:-1] + (0.5 - share[:, :-1]) / rise * (steps[1] - steps[0])
    where = np.where(is_crossed, where, np.inf)
    nearest = where[np.arange(len(where)), np.argmin(np.abs(where), axis=1)]
    return np.where((size >= MIN_STEP) & np.isfinite(nearest), nearest, np.nan)
