"""The commit mark: how many rows of each table are certainly in the file.

A kill in the middle of an HDF5 flush may leave a dataset longer than what was written of it, and
the missing rows then read as zeros. So the counts are written after each flush, and flushed on
their own; recovery believes no row beyond them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import h5py
import numpy as np

from tacit.config.documents import json_list
from tacit.errors import EpisodeError

ROWS, TABLES = "committed_rows", "committed_tables"
TICKS = "ticks"


class CommitMark:
    """Root attributes `committed_tables` (JSON names) and `committed_rows` (i8), updated in place."""

    def __init__(self, file: h5py.File, tables: list[str]) -> None:
        self._tables = tables
        file.attrs[TABLES] = json.dumps(tables)
        file.attrs.create(ROWS, np.zeros(len(tables), dtype=np.int64))
        self._file = file

    def write(self, rows: Mapping[str, int]) -> None:
        """Write the counts; call it after a flush and flush again."""
        counts = np.array([rows[table] for table in self._tables], dtype=np.int64)
        h5py.h5a.open(self._file.id, ROWS.encode()).write(counts)


def committed_rows(file: h5py.File) -> dict[str, int]:
    """Return the committed rows by table; empty for files that carry no mark."""
    if ROWS not in file.attrs or TABLES not in file.attrs:
        return {}
    tables = json_list(str(file.attrs[TABLES]), f"{file.filename}: {TABLES}", EpisodeError)
    rows = np.atleast_1d(file.attrs[ROWS]).tolist()
    if len(tables) != len(rows):
        raise EpisodeError(f"{file.filename}: {TABLES} and {ROWS} do not belong together")
    return dict(zip(tables, rows, strict=True))
