"""Which frame is seen when: rates as exact fractions, and stamps."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tacit.errors import AnnotationError

FPS_DENOMINATOR = 1_001_000
"""Rates are kept as fractions of this much: 30000/1001 stays exact to 1e-9."""


def exact_rate(fps: float) -> Fraction:
    """Return a frame rate as the fraction that was meant."""
    return Fraction(fps).limit_denominator(FPS_DENOMINATOR)


def resample_frames(num_frames: int, fps: float, new_fps: float) -> NDArray[np.int64]:
    """Return the frame that is seen at each tick of another rate (N,): floor(j fps / new_fps).

    Times are exact fractions, so a frame never falls to the wrong side of a boundary; no frame of
    the future is taken.
    """
    ratio = exact_rate(fps) / exact_rate(new_fps)
    count = math.ceil(num_frames / ratio)
    return (np.arange(count, dtype=object) * ratio.numerator // ratio.denominator).astype(np.int64)


def frames_at_stamps(stamps_ns: np.ndarray, fps: float) -> NDArray[np.int64]:
    """Return the latest frame at or before each tick of an even clock that starts with frame 0 (N,).

    Args:
        stamps_ns: Stamps of the frames (T,) i8 [ns], rising; frames may be missing or late.
        fps: Rate of the even clock [Hz].

    Raises:
        AnnotationError: Stamps do not rise.
    """
    if len(stamps_ns) == 0 or bool((np.diff(stamps_ns) <= 0).any()):
        raise AnnotationError("stamps: expected at least one frame and strictly rising stamps")
    elapsed = np.asarray(stamps_ns, np.int64) - int(stamps_ns[0])
    period_ns = 10**9 / exact_rate(fps)
    count = math.floor((int(elapsed[-1]) + 1) / period_ns) + 1  # stamps are rounded to whole ns
    ticks = [math.ceil(j * period_ns) for j in range(count)]
    return np.searchsorted(elapsed, ticks, side="right") - 1
