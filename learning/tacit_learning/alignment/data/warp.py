"""Changes of time for clips of annotated videos: offset, speed, pauses, rewinds and early ends.

A clip is a list of frame numbers of one video. Time runs on while a number repeats and while numbers
fall, so progress can be told from what is seen alone, never from a clock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit_learning.alignment.settings import WarpConfig

SHORTEST = 8  # frames; a shorter rest of a video says nothing about its course
SWAY_MEMORY = 0.8
"""Of the wandering of a pause from frame to frame: it turns round every few frames."""
SWAY_WIDEST = 2.0
"""A pause wanders at most so many standard deviations away."""


class Clip(NamedTuple):
    """Frame numbers (T',) of a video, and which of them are of a rest that the video itself has not (T',)."""

    frames: NDArray[np.int64]
    rests: NDArray[np.bool_]


def untouched(num_frames: int) -> Clip:
    """Return a whole video as it is."""
    return _moving(np.arange(num_frames))


def warp(num_frames: int, fps: float, config: WarpConfig, rng: np.random.Generator) -> Clip:
    """Draw one clip.

    Args:
        num_frames: T of the video.
        fps: Its rate.
        config: Chances and sizes.
        rng: The only source of chance.
    """
    clip = _moving(_stretch(num_frames, config, rng))
    # The hold comes first, so that rewinds and pauses also begin at a task that is done.
    if rng.random() < config.hold:
        clip = _insert(clip, len(clip.frames), np.full(_length(config.hold_s, fps, rng), num_frames - 1))
    if rng.random() < config.rewind:
        clip = _rewind(clip, _length(config.rewind_s, fps, rng), rng)
    if rng.random() < config.pause:
        length = _length(config.pause_s, fps, rng)
        at = int(rng.integers(0, len(clip.frames)))
        wander = _sway(length, config.sway_s * fps, rng) if config.sway_s else 0
        clip = _insert(clip, at, np.clip(np.full(length, clip.frames[at]) + wander, 0, num_frames - 1))
    if rng.random() < config.truncate and len(clip.frames) > SHORTEST:
        clip = _taken(clip, slice(0, int(rng.integers(SHORTEST, len(clip.frames)))))
    return clip


def _stretch(num_frames: int, config: WarpConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Start anywhere and play at another speed, down to every frame several times."""
    start = 0
    if rng.random() < config.offset:
        start = int(rng.integers(0, max(num_frames - SHORTEST, 1)))
    # Even in the logarithm: half and double speed are as likely as each other.
    speed = float(np.exp(rng.uniform(np.log(config.slowest), np.log(config.fastest))))
    return np.floor(np.arange(start, num_frames, speed)).astype(np.int64)


def _moving(frames: NDArray[np.int64]) -> Clip:
    return Clip(frames, np.zeros(len(frames), bool))


def _taken(clip: Clip, places: NDArray[np.int64] | slice) -> Clip:
    return Clip(clip.frames[places], clip.rests[places])


def _insert(clip: Clip, at: int, rest: NDArray[np.int64]) -> Clip:
    rests = np.insert(clip.rests, at, np.ones(len(rest), bool))
    return Clip(np.insert(clip.frames, at, rest), rests)


def _rewind(clip: Clip, length: int, rng: np.random.Generator) -> Clip:
    """Play the `length` frames before a random one backwards, then go on from there."""
    every = np.arange(len(clip.frames))
    at = int(rng.integers(0, len(every)))
    back = max(at - length, 0)
    return _taken(clip, np.concatenate([every[: at + 1], every[back:at][::-1], every[back + 1 :]]))


def _sway(length: int, deviation: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw how far a pause has wandered (length,) [frames]: x_k+1 = m x_k + sqrt(1 - m^2) deviation n_k."""
    pushes = np.sqrt(1 - SWAY_MEMORY**2) * rng.standard_normal(length)
    wandered, x = np.zeros(length), 0.0
    for k, push in enumerate(pushes.tolist()):
        wandered[k] = x = SWAY_MEMORY * x + push
    return np.rint(deviation * np.clip(wandered, -SWAY_WIDEST, SWAY_WIDEST)).astype(np.int64)


def _length(longest_s: float, fps: float, rng: np.random.Generator) -> int:
    return int(rng.integers(1, max(2, round(longest_s * fps))))
