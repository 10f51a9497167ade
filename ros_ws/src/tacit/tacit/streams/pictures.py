"""Judges the pictures of one stream: the same bytes again and again, or black."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import ImageError
from tacit.images.colour import decode_pixels
from tacit.images.depth import as_depth
from tacit.streams.findings import Finding

BLACK_LEVEL, BLACK_FRACTION = 10, 0.95
"""Black: more than this part of a picture is darker than this level; so says rule W04 of `tacit check`."""

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
        frozen_after: So many equal pictures in a row, each with a new stamp, are a camera that stands still.
        size: (height, width).
        is_depth: Depth: a pixel of 0 is a hole; only a picture of nothing but holes is doubted.

    Attributes:
        longest_repeat: Most equal pictures in a row.
    """

    def __init__(self, frozen_after: int, size: tuple[int, int], is_depth: bool = False) -> None:
        self._frozen_after, self._pixels, self._is_depth = frozen_after, size[0] * size[1], is_depth
        self.reset()

    def reset(self) -> None:
        """Forget the pictures seen."""
        self._before: NDArray[np.uint8] | None = None
        self._repeats = self._seen = 0
        self._usual = 0.0
        self._was_black = False
        self.longest_repeat = 1

    def judge(self, picture: NDArray[np.uint8]) -> Finding | None:
        """Return what is wrong with a picture: RGB (H, W, 3), or encoded bytes (N,).

        Refused is one that was looked at and cannot be decoded; frozen or black ones are doubted.
        """
        before, self._before = self._before, picture
        if before is not None and _equal(before, picture):
            self._repeats += 1
            self.longest_repeat = max(self.longest_repeat, self._repeats + 1)
        else:
            self._repeats = 0
            if self._is_telling(picture):
                try:
                    self._was_black = _is_empty(picture) if self._is_depth else _is_black(picture)
                except ImageError as problem:
                    self._seen += 1
                    return Finding("undecodable", str(problem))
        self._seen += 1
        if self._repeats + 1 >= self._frozen_after:
            return Finding(
                "frozen",
                f"{self._repeats + 1} pictures in a row are the same to the bit; does the camera still see? "
                "(`frozen_after` in the rig, if its driver repeats pictures)",
                refused=False,
            )
        if self._was_black and self._is_depth:
            text = "no pixel holds a distance; too near, too far, or is its projector off?"
            return Finding("black", text, refused=False)
        if self._was_black:
            return Finding("black", "the picture is black; lens cap, exposure or lights?", refused=False)
        return None

    def _is_telling(self, picture: NDArray[np.uint8]) -> bool:
        """Whether to look if a picture is black: decoding each would cost a recorder half of its time."""
        small = picture.size < max(BLACK_BYTES_PER_PIXEL * self._pixels, SHRUNK * self._usual)
        self._usual += USUAL_SHARE * (picture.size - self._usual)
        return picture.ndim > 1 or small or self._was_black or self._seen % LOOK_EVERY == 0


def _is_black(picture: NDArray[np.uint8]) -> bool:
    if picture.ndim > 1:
        return _mostly_dark(picture[::STRIDE, ::STRIDE])
    small = decode_pixels(picture, cv2.IMREAD_REDUCED_COLOR_8)
    if small is None:
        raise ImageError(f"image of {picture.size} bytes cannot be decoded; is its camera or cable failing?")
    return _mostly_dark(np.asarray(small, dtype=np.uint8))


def _is_empty(depth: NDArray) -> bool:
    return not as_depth(depth).any()


def _mostly_dark(picture: NDArray[np.uint8]) -> bool:
    """Whether more than `BLACK_FRACTION` of all values are dark; a bright picture shows in its first rows."""
    dark = picture.size
    for start in range(0, len(picture), LOOKED_ROWS):
        dark -= np.count_nonzero(picture[start : start + LOOKED_ROWS] >= BLACK_LEVEL)
        if dark <= BLACK_FRACTION * picture.size:
            return False
    return picture.size > 0


def _equal(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether two pictures are equal; most that differ do so in the first few rows already."""
    if a.shape != b.shape:
        return False
    head = slice(None, 4096) if a.ndim == 1 else slice(None, 4)
    return bool(np.array_equal(a[head], b[head]) and np.array_equal(a, b))
