"""Numbers of all clips as embeddings that can be compared, and which two clips are best labelled by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tacit_learning.annotate.sources import Groups

PICTURE_PARTS = 12
"""Principal parts of a stream of pictures: enough to tell where things are, too few for noise."""
CLOCK_WEIGHT = 0.15
"""Of the share of the clip that is over: where nothing moves, clips are laid over each other evenly."""


def embed(numbers: Sequence[Groups]) -> list[NDArray[np.float32]]:
    """Scale the groups of all clips alike and put them side by side.

    Every number is z-scored over all frames of all clips, wide groups are reduced to their principal
    parts, and each group weighs the same however wide it is.

    Args:
        numbers: One per clip; groups that a clip lacks are left out of all.

    Returns:
        Embeddings (T, D) of each clip.
    """
    shared = [name for name in numbers[0] if all(name in groups for groups in numbers)]
    lengths = [len(next(iter(groups.values()))) for groups in numbers]
    parts = [_scaled(np.concatenate([groups[name] for groups in numbers])) for name in shared]
    parts.append(CLOCK_WEIGHT * np.concatenate([_clock(length) for length in lengths]))
    rows = np.concatenate(parts, axis=1).astype(np.float32)
    return np.split(rows, np.cumsum(lengths)[:-1])


def best_to_label(lengths: Mapping[str, int], count: int = 2) -> list[str]:
    """Return the clips of the most ordinary length: they show what most of the others do."""
    middle = float(np.median(list(lengths.values())))
    return sorted(lengths, key=lambda name: (abs(lengths[name] - middle), name))[:count]


def _scaled(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    z = (rows - rows.mean(0)) / (rows.std(0) + 0.05 * rows.std() + 1e-9)
    if z.shape[1] > 3 * PICTURE_PARTS:
        some = z[:: max(1, len(z) // 4000)]
        _, _, axes = np.linalg.svd(some, full_matrices=False)
        z = z @ axes[:PICTURE_PARTS].T
    return np.asarray(z / (np.sqrt((z**2).sum(1).mean()) + 1e-9), np.float64)


def _clock(length: int) -> NDArray[np.float64]:
    return np.linspace(-1, 1, length)[:, None]
