"""Finish an interrupted episode: keep every tick that is certainly whole, lose nothing else.

The source stays where it is until the recovered file has its name; then it goes to `trash/`.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.columns import datasets
from tacit.episode.commit import TICKS, committed_rows
from tacit.episode.excerpt import copy_excerpt
from tacit.episode.files import PART_SUFFIX, move_to_trash, rename_new
from tacit.episode.finish import content_sha256, write_derived
from tacit.episode.secure import open_episode
from tacit.errors import EpisodeError, ImageError
from tacit.images import decode_image
from tacit.images.encoded import is_complete

BLOCK = 256
TEMPORARY_SUFFIX = ".recovering"
"""Not `.part`: a recovery that is killed must never be taken for a recording."""


def recover(path: str | Path) -> Path:
    """Finish the interrupted episode at `path`.

    Ticks are cut to the shortest of the per-tick datasets; streams and events each to their own
    length; steps, statistics and drops are rebuilt. A file that was complete and only lacked its
    name is renamed.

    Args:
        path: `episode_<n>.hdf5.part`, or an `.hdf5` whose state is `recording`.

    Returns:
        The path of the episode, `state="recovered"`.

    Raises:
        EpisodeError: Unreadable, in use by a recorder, complete already, or without one whole tick.
            The source is then untouched.
    """
    path = Path(path)
    target = path.with_name(path.name.removesuffix(PART_SUFFIX))
    if path != target and target.exists() and os.path.samefile(path, target):
        path.unlink()  # killed between the two halves of the final rename: both names, one file
        return target
    with open_episode(path) as source:
        state = source.attrs.get("state", schema.RECORDING)
        if state not in schema.FINAL_STATES:
            temporary = _copy_to_temporary(source, path)
    if state in schema.FINAL_STATES:
        if path == target:
            raise EpisodeError(f"{path}: is {state} already; there is nothing to recover")
        return rename_new(path, target)
    if path == target:
        move_to_trash(path)
        return rename_new(temporary, target)
    recovered = rename_new(temporary, target)
    move_to_trash(path)
    return recovered


def _copy_to_temporary(source: h5py.File, path: Path) -> Path:
    """Write the finished copy under a free temporary name; on failure nothing stays."""
    num_ticks = whole_ticks(source)
    if num_ticks == 0:
        raise EpisodeError(f"{path}: holds no whole tick; move it to trash/ if nobody needs it")
    temporary = _free_name(path)
    try:
        with h5py.File(temporary, "x") as copy:
            committed = committed_rows(source)

            @functools.cache
            def rows_of(table: str) -> slice:
                return slice(num_ticks if table == TICKS else _table_length(source, table, committed))

            copy_excerpt(source, copy, rows_of)
            _finish(copy, num_ticks)
            copy.flush()
            os.fsync(copy.id.get_vfd_handle())
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise EpisodeError(f"{temporary}: cannot be written ({problem}); {path} is untouched") from None
    return temporary


def whole_ticks(file: h5py.File) -> int:
    """Return how many ticks are whole in every per-tick dataset: written, committed, decodable."""
    if schema.TICK_NS not in file:
        return 0
    per_tick = [d for path, d in datasets(file) if schema.axis_of(path) == "tick"]
    count = min(len(dataset) for dataset in per_tick)
    count = min(count, committed_rows(file).get(TICKS, count))
    stamps = file[schema.TICK_NS][:count]
    backwards = np.flatnonzero(np.diff(stamps, prepend=0) <= 0)
    count = int(backwards[0]) if len(backwards) else count
    for dataset in per_tick:
        count = _readable_rows(dataset, count)
    return _decodable_rows(file, count)


def _readable_rows(dataset: h5py.Dataset, count: int) -> int:
    """Return the length of the readable beginning, at most `count`."""
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        try:
            dataset[start:stop]
        except OSError:
            return next((row for row in range(start, stop) if not _is_readable(dataset, row)), stop)
    return count


def _is_readable(dataset: h5py.Dataset, row: int) -> bool:
    try:
        dataset[row]
    except OSError:
        return False
    return True


def _decodable_rows(file: h5py.File, count: int) -> int:
    """Cut ticks from the end until the last image of every stream decodes."""
    streams = [(path, d) for path, d in datasets(file) if schema.is_encoded(d)]
    streams = [(path, d) for path, d in streams if path.startswith("observations")]
    for path, dataset in streams:
        index = file.get(f"timestamps/{path.rpartition('/')[2]}/index")
        while count and not _decodes(dataset[count - 1], index, count - 1):
            count -= 1
    return count


def _decodes(data: np.ndarray, index: h5py.Dataset | None, row: int) -> bool:
    """Whether an image is whole; none at all is right where the stream had not been seen yet."""
    if not len(data):
        return index is not None and row < len(index) and index[row] < 0
    try:
        decode_image(data)
    except ImageError:
        return False
    return is_complete(data)


def _table_length(source: h5py.File, table: str, committed: dict[str, int]) -> int:
    """Return the common readable length of a native table or of the events."""
    members = [item for item in source[table].values() if isinstance(item, h5py.Dataset)]
    count = min(len(dataset) for dataset in members)
    count = min(count, committed.get(table, count))
    return min(_readable_rows(dataset, count) for dataset in members)


def _finish(copy: h5py.File, num_ticks: int) -> None:
    write_derived(copy)
    stamps = copy[schema.TICK_NS]
    copy.attrs["state"] = schema.RECOVERED
    copy.attrs["termination_reason"] = "error"
    copy.attrs["recovered_frames"] = np.int64(num_ticks)
    copy.attrs["num_ticks"] = np.int64(num_ticks)
    copy.attrs["started_ns"] = np.int64(stamps[0])
    copy.attrs["ended_ns"] = np.int64(stamps[-1])
    copy.attrs["content_sha256"] = content_sha256(copy)


def _free_name(path: Path) -> Path:
    stem = path.name.removesuffix(PART_SUFFIX)
    names = (path.with_name(f"{stem}.{n}{TEMPORARY_SUFFIX}") for n in range(1_000_000))
    return next(name for name in names if not name.exists())
