"""Judges the pictures of one stream: the same few again and again, or nothing to be seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import ImageError
from tacit.images.colour import decode_pixels
from tacit.images.depth import as_depth
from tacit.streams.findings import Finding

BLACK_LEVEL, WHITE_LEVEL, BLIND_FRACTION = 10, 246, 0.95
"""Black or white: more than this part of a picture is darker than the one level, or as bright as the other.
Rule W04 of `tacit check` finds the one black and the other without an edge."""

RING = 4
"""A driver that stalls may go round its buffers, of which there are so many, rather than repeat the last."""

STRIDE = 8
"""Every eighth pixel of every eighth row tells whether a picture is black."""

LOOKED_ROWS = 5
"""So many of those rows are looked at together: a twelfth of a VGA picture."""

BLACK_BYTES_PER_PIXEL, LOOK_EVERY = 0.06, 60
"""Encoded pictures with fewer bytes per pixel are decoded to look, and one in 60 of the others."""

SHRUNK, USUAL_SHARE = 0.7, 0.1
"""So is one with less than this part of the bytes that its forerunners had, on a running average: where the
light has gone only noise is left to encode, and it may take more bytes than any fixed bound says."""


class PictureJudge:
    """Judges the images of one camera or tactile sensor.

    Args:
        frozen_after: So many pictures in a row that were there before, each with a new stamp, are a camera
            that stands still.
        size: (height, width).
        is_depth: Depth: a pixel of 0 is a hole; only a picture of nothing but holes is doubted.
        ring: How many pictures before are held against each.

    Attributes:
        longest_repeat: Most pictures in a row of which each equals one of those before it.
    """

    def __init__(
        self, frozen_after: int, size: tuple[int, int], is_depth: bool = False, ring: int = RING
    ) -> None:
        self._frozen_after, self._pixels, self._is_depth = frozen_after, size[0] * size[1], is_depth
        self._ring = ring
        self.reset()

    def reset(self) -> None:
        """Forget the pictures seen."""
        self._before: deque[NDArray[np.uint8]] = deque(maxlen=self._ring)
        self._repeats = self._seen = 0
        self._usual = 0.0
        self._blind = ""
        self.longest_repeat = 1

    def judge(self, picture: NDArray[np.uint8]) -> Finding | None:
        """Return what is wrong with a picture: RGB (H, W, 3), or encoded bytes (N,).

        Refused is one that was looked at and cannot be decoded; frozen or empty ones are doubted.
        """
        is_known = any(_equal(before, picture) for before in reversed(self._before))
        self._before.append(picture)
        if is_known:
            self._repeats += 1
            self.longest_repeat = max(self.longest_repeat, self._repeats + 1)
        else:
            self._repeats = 0
            if self._is_telling(picture):
                try:
                    self._blind = _no_distance(picture) if self._is_depth else _no_scene(picture)
                except ImageError as problem:
                    self._seen += 1
                    return Finding("undecodable", str(problem))
        self._seen += 1
        if self._repeats + 1 >= self._frozen_after:
            return Finding(
                "frozen",
                f"{self._repeats + 1} pictures in a row are the same few to the bit; does the camera see? "
                "(`frozen_after` in the rig, if its driver repeats pictures)",
                refused=False,
            )
        return Finding("black", self._blind, refused=False) if self._blind else None

    def _is_telling(self, picture: NDArray[np.uint8]) -> bool:
        """Whether to look if a picture is black: decoding each would cost a recorder half of its time."""
        small = picture.size < max(BLACK_BYTES_PER_PIXEL * self._pixels, SHRUNK * self._usual)
        self._usual += USUAL_SHARE * (picture.size - self._usual)
        return picture.ndim > 1 or small or bool(self._blind) or self._seen % LOOK_EVERY == 0


def _no_scene(picture: NDArray[np.uint8]) -> str:
    """Return why nothing can be seen in a picture; "" where something can."""
    pixels = picture[::STRIDE, ::STRIDE] if picture.ndim > 1 else _shrunk(picture)
    if _mostly(pixels, lambda part: part < BLACK_LEVEL):
        return "the picture is black; lens cap, exposure or lights?"
    if _mostly(pixels, lambda part: part >= WHITE_LEVEL):
        return "the picture is white; exposure or lights?"
    return ""


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels of encoded bytes (N,), eight times smaller."""
    small = decode_pixels(picture, cv2.IMREAD_REDUCED_COLOR_8)
    if small is None:
        raise ImageError(f"image of {picture.size} bytes cannot be decoded; is its camera or cable failing?")
    return np.asarray(small, dtype=np.uint8)


def _no_distance(depth: NDArray) -> str:
    if as_depth(depth).any():
        return ""
    return "no pixel holds a distance; too near, too far, or is its projector off?"


def _mostly(picture: NDArray[np.uint8], is_so: Callable[[NDArray], NDArray]) -> bool:
    """Whether more than `BLIND_FRACTION` of all values are so; one of a scene shows in its first rows."""
    left = (1 - BLIND_FRACTION) * picture.size
    for start in range(0, len(picture), LOOKED_ROWS):
        part = picture[start : start + LOOKED_ROWS]
        left -= part.size - np.count_nonzero(is_so(part))
        if left <= 0:
            return False
    return picture.size > 0


def _equal(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether two pictures are equal; most that differ do so in the first few rows already."""
    if a.shape != b.shape:
        return False
    head = slice(None, 4096) if a.ndim == 1 else slice(None, 4)
    return bool(np.array_equal(a[head], b[head]) and np.array_equal(a, b))
