"""How often each frame is drawn: shares of data sets, weights of signals, and who commanded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tacit.episode import EpisodeReader
from tacit.episode.annotated import read_sources
from tacit.episode.schema import SOURCES
from tacit.errors import EpisodeError
from tacit_learning.data.episodes import Episode, EpisodeTable
from tacit_learning.data.view import DataConfig

COLUMNS = ("episode", "frame_index", "weight")


def row_weights(table: EpisodeTable, config: DataConfig) -> np.ndarray | None:
    """Return how often each row is drawn (T,) f8, beside the others; None where all are drawn alike.

    Raises:
        EpisodeError: The file of weights does not fit the episodes, or leaves nothing to draw.
    """
    if config.frame_weights is config.dataset_weights is config.source_weights is None:
        return None
    weights = np.ones(len(table))
    if config.source_weights is not None:
        weights = np.concatenate([_source_weights(e, config.source_weights) for e in table.episodes])
    if config.frame_weights is not None:
        weights = weights * np.concatenate(_frame_weights(Path(config.frame_weights), table.episodes))
    if config.dataset_weights is not None:
        of_episode = np.array([_dataset_of(episode.path, config.datasets) for episode in table.episodes])
        of_row = of_episode[table.episode_of]
        totals = np.bincount(of_row, weights, len(config.datasets))
        shares = np.divide(config.dataset_weights, totals, out=np.zeros(len(totals)), where=totals > 0)
        weights = weights * shares[of_row]
    if not weights.any():
        raise EpisodeError(f"all {len(table)} frames have weight 0: nothing is left to train on")
    return weights


def _source_weights(episode: Episode, weights: Mapping[str, float]) -> np.ndarray:
    """Return the weight of each frame by who commanded; 1 where nobody says so."""
    with EpisodeReader(episode.path) as reader:
        told = read_sources(reader.file)[episode.first : episode.first + episode.num_ticks]
    of_source = np.array([*(weights.get(name, 1.0) for name in SOURCES), 1.0])  # -1 is the last
    return np.asarray(of_source[np.where((told >= 0) & (told < len(SOURCES)), told, -1)])


def _dataset_of(path: Path, roots: tuple[str, ...]) -> int:
    return next(i for i, root in enumerate(roots) if path.is_relative_to(root))


def _frame_weights(source: Path, episodes: list[Episode]) -> list[np.ndarray]:
    """Return the weights of the frames of each episode, by its name in the file.

    A name is the end of a path without `.hdf5`: `episode_3`, or `place_cube/episode_3` where several
    folders have one.
    """
    weights = _read(source)
    endings: dict[str, list[str]] = defaultdict(list)
    for name in weights:
        endings[name.rpartition("/")[2]].append(name)
    chosen: list[np.ndarray] = []
    owners: dict[str, Path] = {}
    for episode in episodes:
        whole = "/" + episode.path.with_suffix("").as_posix()
        names = [name for name in endings[episode.path.stem] if whole.endswith(f"/{name}")]
        if not names:
            raise EpisodeError(
                f"{source}: holds no weights for {episode.path}; export them for that data set"
            )
        name = max(names, key=len)
        if owners.setdefault(name, episode.path) != episode.path:
            raise EpisodeError(
                f"{source}: {name!r} may be {owners[name]} or {episode.path}; export again from the folder "
                "above both"
            )
        chosen.append(_of_frames(weights[name], episode, source))
    return chosen


def _of_frames(rows: np.ndarray, episode: Episode, source: Path) -> np.ndarray:
    """Return the weights of the frames that were kept."""
    if len(rows) != (episode.file_ticks or len(rows)) or len(rows) < episode.first + episode.num_ticks:
        raise EpisodeError(
            f"{source}: {len(rows)} frames of {episode.path}, which has {episode.file_ticks}; it was changed "
            "since: export again"
        )
    return rows[episode.first : episode.first + episode.num_ticks]


def _read(source: Path) -> dict[str, np.ndarray]:
    """Return the weights (t,) f8 of every episode by its name.

    Raises:
        EpisodeError: Not a file of signals, or weights that are none.
    """
    try:
        table = pq.read_table(source, columns=list(COLUMNS))
        names = table["episode"].combine_chunks().dictionary_encode()
        frames = table["frame_index"].to_numpy()
        weights = np.asarray(table["weight"].to_numpy(), np.float64)
    except (OSError, pa.ArrowException, KeyError, ValueError) as problem:
        raise EpisodeError(
            f"{source}: no file of `tacit export signals` ({problem}); expected columns {', '.join(COLUMNS)}"
        ) from None
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise EpisodeError(f"{source}: weights below 0 or not finite; export the file again")
    places = np.asarray(names.indices)
    order, counts = np.argsort(places, kind="stable"), np.bincount(places, minlength=len(names.dictionary))
    found = {}
    for name, rows in zip(names.dictionary.to_pylist(), np.split(order, np.cumsum(counts)[:-1]), strict=True):
        if not np.array_equal(frames[rows], np.arange(len(rows))):
            raise EpisodeError(
                f"{source}: {name}: frames are not 0 to {len(rows) - 1} in order; export it again"
            )
        found[str(name)] = weights[rows]
    return found
