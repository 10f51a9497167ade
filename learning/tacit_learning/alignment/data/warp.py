"""Changes of time for clips of annotated videos: offset, speed, pauses, rewinds and early ends.

A clip is a list of frame numbers of one video. Time runs on while a number repeats and while numbers
fall, so progress can be told from what is seen alone, never from a clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit_learning.alignment.settings import WarpConfig

SHORTEST = 8  # frames; a shorter rest of a video says nothing about its course


def warp(num_frames: int, fps: float, config: WarpConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the frame numbers (T',) of one clip.

    Args:
        num_frames: T of the video.
        fps: Its rate.
        config: Chances and sizes.
        rng: The only source of chance.
    """
    frames = _stretch(num_frames, config, rng)
    # The hold comes first, so that rewinds and pauses also begin at a task that is done.
    if rng.random() < config.hold:
        frames = np.concatenate([frames, np.full(_length(config.hold_s, fps, rng), num_frames - 1)])
    if rng.random() < config.rewind:
        frames = _rewind(frames, _length(config.rewind_s, fps, rng), rng)
    if rng.random() < config.pause:
        frames = _pause(frames, _length(config.pause_s, fps, rng), rng)
    if rng.random() < config.truncate and len(frames) > SHORTEST:
        frames = frames[: rng.integers(SHORTEST, len(frames))]
    return frames


def _stretch(num_frames: int, config: WarpConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Start anywhere and play at another speed, down to every frame several times."""
    start = 0
    if rng.random() < config.offset:
        start = int(rng.integers(0, max(num_frames - SHORTEST, 1)))
    # Even in the logarithm: half and double speed are as likely as each other.
    speed = float(np.exp(rng.uniform(np.log(config.slowest), np.log(config.fastest))))
    return np.floor(np.arange(start, num_frames, speed)).astype(np.int64)


def _rewind(frames: NDArray[np.int64], length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Play the `length` frames before a random one backwards, then go on from there."""
    at = int(rng.integers(0, len(frames)))
    back = max(at - length, 0)
    return np.concatenate([frames[: at + 1], frames[back:at][::-1], frames[back + 1 :]])


def _pause(frames: NDArray[np.int64], length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    at = int(rng.integers(0, len(frames)))
    return np.concatenate([frames[:at], np.full(length, frames[at]), frames[at:]])


def _length(longest_s: float, fps: float, rng: np.random.Generator) -> int:
    return int(rng.integers(1, max(2, round(longest_s * fps))))
