"""Statistics of the training split: what normalises states and actions, and what is in range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tacit.config import Config
from tacit.errors import EpisodeError

ANGLE_STD_FLOOR = 0.03  # [rad]; a joint that never moves has a deviation near 4e-6 and would explode
OPENING_STD_FLOOR = 0.005  # [m]


class Statistics(Config):
    """Low-dimensional statistics in canonical units, order of `names`."""

    names: tuple[str, ...]
    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    state_min: tuple[float, ...]
    state_max: tuple[float, ...]
    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]
    num_frames: int


def compute_statistics(
    names: Sequence[str], gripper_indices: Sequence[int], state: np.ndarray, action: np.ndarray
) -> Statistics:
    """Summarise training frames.

    Args:
        names: Order of the state vector.
        gripper_indices: Which elements are openings [m]; the others are angles [rad].
        state: (T, A).
        action: (T, A).

    Raises:
        EpisodeError: A value is not finite.
    """
    if not (np.isfinite(state).all() and np.isfinite(action).all()):
        raise EpisodeError("training data: a state or action is not finite; run `tacit check` on it")
    floor = np.full(len(names), ANGLE_STD_FLOOR)
    floor[list(gripper_indices)] = OPENING_STD_FLOOR
    return Statistics(
        names=tuple(names),
        state_mean=_tuple(state.mean(0)),
        state_std=_tuple(np.maximum(state.std(0), floor)),
        state_min=_tuple(state.min(0)),
        state_max=_tuple(state.max(0)),
        action_mean=_tuple(action.mean(0)),
        action_std=_tuple(np.maximum(action.std(0), floor)),
        num_frames=len(state),
    )


def _tuple(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values.astype(np.float64))
