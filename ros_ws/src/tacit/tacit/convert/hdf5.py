"""HDF5 files of other programs: told apart without reading them, and written so that a full disk is told."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py

from tacit.episode import find_episodes
from tacit.errors import EpisodeError

_NUMBER = re.compile(r"errno = (\d+)")


MOST_LOOKED_AT = 20
"""Files of a folder that say what it holds; a data set of ours may have ten thousand."""


def any_hdf5(source: Path, is_ours: Callable[[h5py.File], bool]) -> bool:
    """Whether one of the first HDF5 files at a path is of a kind; damaged ones are passed over."""
    try:
        paths = find_episodes(source)
    except EpisodeError:
        return False
    for path in paths[:MOST_LOOKED_AT]:
        with contextlib.suppress(OSError), h5py.File(path, "r") as file:
            if is_ours(file):
                return True
    return False


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield a new file that keeps no rows in memory: on a full disk they would fail again at the end.

    Raises:
        OSError: The disk is full, or the file cannot be made.
    """
    try:
        with h5py.File(path, "x", rdcc_nbytes=0) as file:
            yield file
    except RuntimeError as problem:  # what h5py raises where closing a file fails
        number = _NUMBER.search(str(problem))
        if number is None:
            raise
        code = int(number.group(1))
        raise OSError(code, os.strerror(code), str(path)) from None
