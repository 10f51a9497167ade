"""Clips for progress training: whole episodes from a random start, warped in time, with pauses.

A clip is a list of frame numbers; a repeated number is a pause in which time runs on and progress
stands still. So no clock can solve the task. Legend: B batch, T clip length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tacit.config import Config
from tacit.errors import EpisodeError
from tacit_learning.data.episodes import EpisodeTable

MIN_CLIP = 8  # frames; a shorter rest of an episode says nothing about its course


class ClipConfig(Config):
    """Augmentation in time. Probabilities per clip; `done_at` is the progress that counts as done."""

    offset_probability: float = 0.5
    slowest: float = 0.7
    fastest: float = 1.4
    pause_probability: float = 0.3
    pause_s: float = 2.0
    hold_s: float = 2.0
    done_at: float = 0.97


@dataclass(frozen=True)
class ClipBatch:
    """Rows of the table, padded with the last one; arrays (B, T)."""

    rows: np.ndarray
    progress: np.ndarray
    mask: np.ndarray


def require_progress(table: EpisodeTable) -> None:
    """Refuse episodes without step annotations.

    Raises:
        EpisodeError: Names the first one.
    """
    for episode in table.episodes:
        if episode.progress is None:
            raise EpisodeError(
                f"{episode.path}: /annotations/steps is empty, so its progress is unknown; record a stream "
                "of role steps, or annotate the episode"
            )


def draw_clips(table: EpisodeTable, count: int, config: ClipConfig, rng: np.random.Generator) -> ClipBatch:
    """Draw `count` augmented clips of random episodes."""
    chosen = rng.integers(0, len(table.episodes), count)
    return _pad(
        table, chosen, [draw_clip(table.episodes[e].num_ticks, table.fps, config, rng) for e in chosen]
    )


def whole_episodes(table: EpisodeTable) -> ClipBatch:
    """Return every episode as it was recorded."""
    frames = [np.arange(episode.num_ticks) for episode in table.episodes]
    return _pad(table, range(len(frames)), frames)


def draw_clip(num_ticks: int, fps: float, config: ClipConfig, rng: np.random.Generator) -> np.ndarray:
    """Return frame numbers (T,), never decreasing: random start, speed, pause and final hold."""
    start = 0
    if rng.random() < config.offset_probability:
        start = int(rng.integers(0, max(num_ticks - MIN_CLIP, 1)))
    speed = rng.uniform(config.slowest, config.fastest)
    frames = np.floor(np.arange(start, num_ticks, speed)).astype(int)
    if rng.random() < config.pause_probability:
        at = int(rng.integers(0, len(frames)))
        length = int(rng.uniform(0, config.pause_s) * fps)
        frames = np.concatenate([frames[:at], np.repeat(frames[at], length), frames[at:]])
    hold = int(rng.uniform(0, config.hold_s) * fps)
    return np.concatenate([frames, np.repeat(num_ticks - 1, hold + 1)])


def _pad(table: EpisodeTable, episodes: Sequence[int] | np.ndarray, frames: list[np.ndarray]) -> ClipBatch:
    longest = max(len(f) for f in frames)
    rows = np.zeros((len(frames), longest), dtype=int)
    progress = np.zeros((len(frames), longest), dtype=np.float32)
    mask = np.zeros((len(frames), longest), dtype=bool)
    for i, (episode, frame) in enumerate(zip(episodes, frames, strict=True)):
        padded = np.concatenate([frame, np.repeat(frame[-1], longest - len(frame))])
        target = table.episodes[episode].progress
        assert target is not None
        rows[i], progress[i] = padded + table.starts[episode], target[padded]
        mask[i, : len(frame)] = True
    return ClipBatch(rows, progress, mask)
