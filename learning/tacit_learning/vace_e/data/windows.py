"""Which moments of an episode are seen, and which rows of its trajectories belong to them.

Videos are read at the rate of the model, by the time of their frames. Videos and motion share one window: a
row carries its time in frames of the window, so that a motion of another rate, or one that was thinned out,
stays aligned. Sizes: frames 4 k + 1 (the first latent frame holds one, the others four), height and width
multiples of 16.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tacit.errors import ConfigError
from tacit.images import ImageTransform
from tacit_learning.vace_e.arguments import WindowMode

FRAME_STEP, MIN_FRAMES, SIZE_STEP = 4, 5, 16
HALF_FRAME = 0.5
MATCHING_FRAMES = 1  # trajectories and video may differ by the frame that a codec drops
ROUNDING = 1e-4  # frames; stamps of files are whole ticks
WHITE_FROM = 128  # of a mask; lossy codecs ring around its edges


def fitting_frames(available: int, wanted: int) -> int:
    """Return the largest 4 k + 1 of at most `wanted` and `available` frames; 0 when below 5."""
    most = min(available, wanted)
    count = most - (most - 1) % FRAME_STEP
    return count if count >= MIN_FRAMES else 0


def check_size(height: int, width: int, num_frames: int) -> None:
    """Refuse sizes that the video model has no whole tokens for.

    Raises:
        ConfigError: Names the nearest sizes.
    """
    for name, value in (("height", height), ("width", width)):
        if value < SIZE_STEP or value % SIZE_STEP:
            low = max(value // SIZE_STEP, 1) * SIZE_STEP
            raise ConfigError(
                f"{name}: {value} is no multiple of {SIZE_STEP}; the nearest are {low} and {low + 16}"
            )
    if num_frames < MIN_FRAMES or num_frames % FRAME_STEP != 1:
        low = max(num_frames - (num_frames - 1) % FRAME_STEP, MIN_FRAMES)
        raise ConfigError(
            f"num_frames: {num_frames} is not 4 k + 1; the nearest are {low} and {low + FRAME_STEP}"
        )


def model_times(shown: np.ndarray, duration: float, fps: float | None) -> np.ndarray:
    """Return the moments of an episode that the model may see [s].

    Args:
        shown: When the frames of its main video are shown [s].
        duration: When its shortest video shows its last frame [s].
        fps: Rate of the model; None: the frames of the main video, whatever their rate.
    """
    if fps is None:
        return shown[shown <= duration + ROUNDING]
    return np.arange(math.floor(duration * fps + ROUNDING) + 1) / fps


def choose_windows(
    available: int,
    wanted: int,
    mode: WindowMode,
    identity: str,
    seed: int = 0,
    stride: int | None = None,
    draws: int = 1,
) -> list[np.ndarray]:
    """Return the windows of an episode, the frames (F,) i8 of each, all of one length.

    Args:
        available: Frames of the episode, at the rate of the model.
        wanted: Frames of a window at most.
        mode: `first` ones; `uniform`, spread over the whole episode; `random`, `draws` windows in a row from
            starts that depend on `identity` and `seed` alone, so a cache stays valid; `chunked`, one after
            another; `sliding`, one every `stride` frames. The last one of both ends with the episode.
        identity: Name of the episode.
        seed: Another seed, other starts.
        stride: Of `sliding`; None: half a window.
        draws: Windows of `random`.

    Raises:
        ValueError: Fewer than five frames.
    """
    count = fitting_frames(available, wanted)
    if not count:
        raise ValueError(f"{available} frames, {wanted} wanted: expected at least {MIN_FRAMES}")
    if mode == "uniform":
        return [np.round(np.linspace(0, available - 1, count)).astype(np.int64)]
    last, starts = available - count, [0]
    if mode == "random":
        names = [f"{seed}:{identity}", *(f"{seed}:{identity}:{draw}" for draw in range(1, draws))]
        starts = [_hashed(name) % (last + 1) for name in names]
    elif mode != "first":
        step = count if mode == "chunked" else stride or max(1, count // 2)
        starts = sorted({*range(0, last + 1, step), last})
    return [start + np.arange(count) for start in starts]


class Rows(NamedTuple):
    """Rows of a trajectory that lie in a window, and when."""

    rows: np.ndarray  # (T,) i8
    times: np.ndarray  # (T,) f4, in frames of the window


def rows_in_window(num_rows: int, shown: np.ndarray, moments: np.ndarray, longest: int) -> Rows:
    """Return the rows of a trajectory that belong to a window of the video.

    A trajectory as long as the video (give or take one frame) has a row per frame, at its time; another one
    spans the same time evenly. Rows within half a frame of the window stay, or the nearest one where none
    does; beyond `longest` they are thinned out evenly, first and last kept, times unchanged.

    Args:
        num_rows: Rows of the trajectory.
        shown: When the frames of the whole video are shown, in any unit.
        moments: Those of the window (F,), in the same unit.
        longest: Rows at most.
    """
    if not num_rows:
        return Rows(np.zeros(0, np.int64), np.zeros(0, np.float32))
    if abs(num_rows - len(shown)) > MATCHING_FRAMES:
        at = shown[0] + np.arange(num_rows) * ((shown[-1] - shown[0]) / max(num_rows - 1, 1))
    else:
        at = np.append(shown, 2.0 * shown[-1] - shown[-2])[:num_rows]
    times = _window_times(at, moments)
    inside = np.flatnonzero((times >= -HALF_FRAME) & (times <= len(moments) - 1 + HALF_FRAME))
    if not inside.size:
        inside = np.array([np.abs(times - (len(moments) - 1) / 2).argmin()])
    index = inside[thinned(len(inside), longest)]
    return Rows(index, times[index].astype(np.float32))


def thinned(length: int, longest: int) -> np.ndarray:
    """Return at most `longest` evenly spaced positions of 0..length-1, both ends among them."""
    if length <= longest:
        return np.arange(length)
    return np.round(np.linspace(0, length - 1, longest)).astype(np.int64)


def _window_times(at: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Map times to frames of the window; outside, at the window's mean pace."""
    count = np.arange(len(moments), dtype=np.float64)
    pace = (moments[-1] - moments[0]) / (len(moments) - 1)
    times = np.interp(at, moments, count)
    times = np.where(at < moments[0], (at - moments[0]) / pace, times)
    return np.where(at > moments[-1], count[-1] + (at - moments[-1]) / pace, times)


def nearest_shape(size: tuple[int, int], choices: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the (height, width) of `choices` whose aspect is nearest to that of `size`, by ratio."""
    return min(choices, key=lambda choice: abs(math.log(choice[0] * size[1] / (choice[1] * size[0]))))


def fit_video(video: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return frames (F, height, width, 3): scaled to cover, then cut about the centre."""
    cover = ImageTransform(video.shape[1], video.shape[2], height, width, "crop")
    return np.stack([cover.image(frame) for frame in video])


def fit_mask(video: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return masks (F, height, width) bool, by the same cut: nearest pixel first, then white or not."""
    cover = ImageTransform(video.shape[1], video.shape[2], height, width, "crop")
    return np.stack([cover.mask(frame) >= WHITE_FROM for frame in video.max(axis=-1)])


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
