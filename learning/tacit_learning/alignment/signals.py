"""Progress as per-frame signals for other trainers: rewards and sample weights in one parquet file.

Rows are frames in the order of the data set. `progress_sparse` is the column that LeRobot's
reward-aligned behaviour cloning reads; the other columns are for everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tacit.errors import AnnotationError

GOOD_GAIN = 0.01
"""A chunk that gains more than this has the full weight (arXiv:2509.25358)."""
EPS = 1e-6
SCHEMA = "tacit-signals 1"


@dataclass(frozen=True)
class EpisodeProgress:
    """Progress of one episode (T,) in 0..1, the times of its frames (T,) [s], and done (T,) if known."""

    name: str
    progress: NDArray[np.float32]
    seconds: NDArray[np.float64]
    done: NDArray[np.float32] | None = None


class Weights(NamedTuple):
    """Gain of progress over the next chunk (T,), and the weight of the sample (T,) in 0..1."""

    gain: NDArray[np.float64]
    weight: NDArray[np.float64]


def chunk_gain(progress: NDArray[np.float32], chunk: int) -> NDArray[np.float64]:
    """Compute r_t = p_(t+chunk) - p_t (T,); past the end the last value holds."""
    values = np.asarray(progress, np.float64)
    ahead = np.minimum(np.arange(len(values)) + chunk, len(values) - 1)
    return values[ahead] - values


def chunk_weights(episodes: Sequence[NDArray[np.float32]], chunk: int) -> list[Weights]:
    """Compute the weights of reward-aligned behaviour cloning (arXiv:2509.25358).

    w = 1 where r > `GOOD_GAIN`, 0 where r < 0, else (r - (max(mean, 0) - 2 std)) / (4 std + eps) within 0..1,
    mean and std of r over all frames of all episodes. LeRobot reads the mean so: a data set that loses ground
    on average must not make standing still worth more than a half.

    Args:
        episodes: Progress (T,) of each.
        chunk: Frames that one action chunk of the policy covers.

    Raises:
        AnnotationError: Progress is not finite, or the chunk is empty.
    """
    if chunk < 1:
        raise AnnotationError(f"signals: chunk {chunk}, expected at least 1 frame")
    for number, progress in enumerate(episodes):
        if not len(progress) or not np.isfinite(progress).all():
            raise AnnotationError(f"signals: episode {number}: progress is empty or not finite")
    gains = [chunk_gain(progress, chunk) for progress in episodes]
    every = np.concatenate(gains)
    std = max(float(every.std()), EPS)
    low, spread = max(float(every.mean()), 0.0) - 2 * std, 4 * std + EPS
    return [
        Weights(
            gain,
            np.where(gain > GOOD_GAIN, 1.0, np.where(gain < 0, 0.0, np.clip((gain - low) / spread, 0, 1))),
        )
        for gain in gains
    ]


def write_signals(path: Path, episodes: Sequence[EpisodeProgress], chunk: int, *, source: str = "") -> int:
    """Write one row per frame and return their number.

    Columns: index (running), episode_index, frame_index, timestamp [s], episode (name), progress_sparse,
    done (null where unknown), reward (gain to the next frame), gain and weight over `chunk` frames.

    Args:
        path: The parquet file.
        episodes: In the order of the data set.
        chunk: See `chunk_weights`.
        source: Noted in the metadata: which model made them.
    """
    weights = chunk_weights([episode.progress for episode in episodes], chunk)
    tables = [
        _table(number, episode, weight)
        for number, (episode, weight) in enumerate(zip(episodes, weights, strict=True))
    ]
    table = pa.concat_tables(tables)
    table = table.add_column(0, "index", pa.array(np.arange(len(table), dtype=np.int64)))
    notes = {"schema": SCHEMA, "chunk": str(chunk), "source": source}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(notes), path)
    return len(table)


def _table(number: int, episode: EpisodeProgress, weights: Weights) -> pa.Table:
    length = len(episode.progress)
    done = pa.nulls(length, pa.float32()) if episode.done is None else pa.array(episode.done, pa.float32())
    return pa.table(
        {
            "episode_index": pa.array(np.full(length, number, np.int64)),
            "frame_index": pa.array(np.arange(length, dtype=np.int64)),
            "timestamp": pa.array(np.asarray(episode.seconds, np.float32)),
            "episode": pa.array([episode.name] * length),
            "progress_sparse": pa.array(np.asarray(episode.progress, np.float32)),
            "done": done,
            "reward": pa.array(chunk_gain(episode.progress, 1).astype(np.float32)),
            "gain": pa.array(weights.gain.astype(np.float32)),
            "weight": pa.array(weights.weight.astype(np.float32)),
        }
    )
