"""Which episodes show the same, and which end unlike the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tacit.episode.measures import Measures

SAME_STATE = 0.02
"""Largest difference of two paths that are one [rad, m]: nobody leads an arm twice so much alike."""
SAME_GREY = 3.0
"""Mean difference of small pictures of one scene, compressed twice [grey levels]."""
BLOCK = 512
NEIGHBOURS = 3
MAX_OTHERS = 500
"""Episodes that each is held against; with more the nearest are hardly nearer, and thousands take hours."""


class Likeness(NamedTuple):
    """Two episodes, by their keys, that show the same."""

    first: int
    second: int


def near_duplicates(episodes: Mapping[int, Measures]) -> list[Likeness]:
    """Return the pairs of episodes whose motion and pictures are the same, however they are stored."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for number, one in episodes.items():
        by_size.setdefault((*one.path.shape, len(one.begin)), []).append(number)
    found = []
    for numbers in by_size.values():
        paths = np.stack([episodes[number].path.reshape(-1) for number in numbers])
        for i, j in _near(paths - paths.mean(axis=0), SAME_STATE):
            first, second = episodes[numbers[i]], episodes[numbers[j]]
            if (
                _differs(first.begin, second.begin) < SAME_GREY
                and _differs(first.end, second.end) < SAME_GREY
            ):
                found.append(Likeness(numbers[i], numbers[j]))
    return found


def _near(points: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """Return the pairs i < j of points (n, d) that differ by at most `limit` in every dimension."""
    squares = np.einsum("nd,nd->n", points, points)
    pairs = []
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        distances = squares[start : start + BLOCK, None] + squares - 2 * block @ points.T
        rows, columns = np.nonzero(distances <= 1.01 * limit**2 * points.shape[1] + 1e-4)
        for i, j in zip(rows + start, columns, strict=True):
            if i < j and np.abs(points[i] - points[j]).max() <= limit:
                pairs.append((int(i), int(j)))
    return pairs


def odd_ends(episodes: Mapping[int, Measures]) -> dict[int, tuple[float, str]]:
    """Return how far the end of each episode lies from those of the others, and what of it is odd.

    Each is held against its three nearest ones, for there may be several ways to end; how far these are is
    told in robust deviations from what is usual.
    """
    numbers = list(episodes)
    parts = {
        "the last picture": ([episodes[n].end for n in numbers], 1.0),
        "where the robot ends": ([episodes[n].path[-1] for n in numbers], 0.1),
        "what is touched, and when,": ([episodes[n].touched for n in numbers], 0.04),
    }
    odd = dict.fromkeys(numbers, (0.0, ""))
    for what, (rows, floor) in parts.items():
        if len({len(row) for row in rows}) != 1 or not len(rows[0]):
            continue
        away = _from_nearest(np.stack(rows).astype(np.float32))
        middle = float(np.median(away))
        spread = max(1.4826 * float(np.median(np.abs(away - middle))), 0.25 * middle, floor)
        for number, distance in zip(numbers, away, strict=True):
            odd[number] = max(odd[number], ((float(distance) - middle) / spread, what))
    return odd


def _from_nearest(rows: np.ndarray) -> np.ndarray:
    """Return the mean distance (n,) of each row from its nearest others; a distance is a mean over a row."""
    away = np.empty(len(rows))
    others = np.arange(0, len(rows), -(-len(rows) // MAX_OTHERS))
    for i, row in enumerate(rows):
        distances = np.abs(rows[others] - row).mean(axis=1)
        distances[others == i] = np.inf
        away[i] = np.sort(distances)[:NEIGHBOURS].mean()
    return away


def _differs(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean()) if len(first) else 0.0
