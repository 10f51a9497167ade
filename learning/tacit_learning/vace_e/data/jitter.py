"""Jittered views of an item's trajectories: the same doing, seen a little differently.

Two views of one episode are a positive pair for contrastive losses. Objects and hands move together,
so relations between them stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tacit.config import Config
from tacit_learning.vace_e.data.items import VaceEItem

POSITIONS = (slice(0, 3), slice(9, 12))
ROTATION_COLUMNS = (slice(3, 6), slice(6, 9), slice(12, 15), slice(15, 18))


class JitterConfig(Config):
    """How far views differ. Trajectories are taken to have z against gravity."""

    kept: float = 0.8  # share of the window's time that stays, at least
    noise_m: float = 0.005
    turn: float = 0.5  # [rad], largest rotation about gravity


def jittered(item: VaceEItem, rng: np.random.Generator, config: JitterConfig | None = None) -> VaceEItem:
    """Return the item with its trajectories cropped in time, turned about gravity, with noise.

    Times of the rows that stay are unchanged; values that are not valid stay 0.
    """
    config = config or JitterConfig()
    turn = _about_z(rng.uniform(-config.turn, config.turn))
    first, last = _crop(item.num_frames, config.kept, rng)
    rows = _within(item.motion_times, first, last)
    object_rows = _within(item.object_times, first, last)
    motion = _moved(item.motion[rows], POSITIONS, ROTATION_COLUMNS, turn, config.noise_m, rng)
    columns = POSITIONS[:1], ROTATION_COLUMNS[:2]
    objects = _moved(item.objects[:, object_rows], *columns, turn, config.noise_m, rng)
    valid, object_valid = item.motion_valid[rows], item.object_valid[:, object_rows]
    return replace(
        item,
        motion=np.where(valid, motion, np.float32(0)),
        motion_valid=valid,
        motion_times=item.motion_times[rows],
        objects=np.where(object_valid[..., None], objects, np.float32(0)),
        object_valid=object_valid,
        object_times=item.object_times[object_rows],
    )


def _crop(num_frames: int, kept: float, rng: np.random.Generator) -> tuple[float, float]:
    length = rng.uniform(kept, 1.0) * (num_frames - 1)
    first = rng.uniform(0, num_frames - 1 - length)
    return first, first + length


def _within(times: np.ndarray, first: float, last: float) -> np.ndarray:
    """Return the rows inside a span of time; all when none is."""
    rows = np.flatnonzero((times >= first) & (times <= last))
    return rows if rows.size else np.arange(len(times))


def _about_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _moved(
    values: np.ndarray,
    positions: tuple[slice, ...],
    columns: tuple[slice, ...],
    turn: np.ndarray,
    noise_m: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Turn positions and the columns of rotations (..., 3), and add noise to the positions."""
    moved = values.copy()
    for part in (*positions, *columns):
        moved[..., part] = values[..., part] @ turn.T
    for part in positions:
        moved[..., part] += rng.normal(0, noise_m, moved[..., part].shape)
    return moved
