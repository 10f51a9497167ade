"""Statistics as LeRobot keeps them: of single episodes, and of the whole set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tacit.images import Image

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = 256
Stats = dict[str, np.ndarray]


def number_stats(values: np.ndarray) -> Stats | None:
    """Return min, max, mean, std (population), quantiles and count over the rows of (T, ...).

    Rows with a value that is not finite, such as the box of a sensor behind the camera, are left out; None
    where no row is left.
    """
    rows = values.reshape(len(values), -1).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return None
    shape = values.shape[1:] or (1,)
    found = {name: getattr(rows, name)(axis=0) for name in ("min", "max", "mean", "std")}
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    found |= dict(zip(QUANTILES, quantiles, strict=True))
    return {name: value.reshape(shape) for name, value in found.items()} | {"count": np.array([len(rows)])}


def picture_stats(images: Iterable[Image]) -> Stats:
    """Return the same of pictures (H, W, 3) uint8, for each channel (3, 1, 1) and scaled to [0, 1].

    `count` is the number of pictures, as LeRobot counts.
    """
    histogram = np.zeros((3, LEVELS), dtype=np.int64)
    count = 0
    for image in images:
        count += 1
        for channel in range(3):
            histogram[channel] += np.bincount(image[..., channel].ravel(), minlength=LEVELS)
    return {name: v.reshape(3, 1, 1) for name, v in _of_histogram(histogram).items()} | {
        "count": np.array([count])
    }


def _of_histogram(histogram: np.ndarray) -> Stats:
    levels, total = np.arange(LEVELS) / (LEVELS - 1), histogram.sum(axis=1)
    mean = histogram @ levels / total
    variance = histogram @ levels**2 / total - mean**2
    cumulated = np.cumsum(histogram, axis=1)
    found = {
        "min": levels[(histogram > 0).argmax(axis=1)],
        "max": levels[LEVELS - 1 - (histogram[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(variance, 0.0)),
    }
    for name, share in QUANTILES.items():
        found[name] = levels[(cumulated >= share * total[:, None]).argmax(axis=1)]
    return found


def merge(parts: Iterable[Stats]) -> Stats:
    """Return the statistics of several episodes together.

    Mean, std, min, max and count are exact; a quantile is the mean of the episodes' quantiles by their
    length, as LeRobot merges them.
    """
    parts = list(parts)
    counts = np.array([float(part["count"][0]) for part in parts])
    weights = (counts / counts.sum()).reshape(-1, *(1 for _ in parts[0]["mean"].shape))

    def weighted(values: Iterable[np.ndarray]) -> np.ndarray:
        return (np.stack(list(values)) * weights).sum(axis=0)

    mean = weighted(part["mean"] for part in parts)
    variance = weighted(part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts)
    found = {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
    }
    return found | {name: weighted(part[name] for part in parts) for name in QUANTILES}


def as_lists(stats: Mapping[str, Stats]) -> dict[str, dict[str, list]]:
    """Return statistics as JSON takes them."""
    return {key: {name: value.tolist() for name, value in part.items()} for key, part in stats.items()}
