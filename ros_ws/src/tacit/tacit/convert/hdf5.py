"""New HDF5 files of other programs, whose failures are those of the disk."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import h5py

_NUMBER = re.compile(r"errno = (\d+)")


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
