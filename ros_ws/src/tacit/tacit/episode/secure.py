"""Open an HDF5 file from elsewhere without following it elsewhere.

External storage and virtual datasets read foreign files silently; filters are plugins; a declared
shape can ask for all memory. Everything is checked before any element is read.
"""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np

from tacit.errors import EpisodeError

ALLOWED_FILTERS = frozenset({1, 2, 3})
"""deflate, shuffle, fletcher32: inside libhdf5, no plugin is loaded."""
MAX_OBJECTS = 10_000
MAX_DEPTH = 12
MAX_BYTES = 1 << 36
"""Largest declared size of one dataset: 64 GiB, half an hour of raw VGA at 30 Hz."""


def open_episode(path: str | Path) -> h5py.File:
    """Open a file for reading after checking every link and dataset in it.

    Raises:
        EpisodeError: Missing, not HDF5, cut off, or holding what an episode never holds.
    """
    path = Path(path)
    if not path.is_file():
        raise EpisodeError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as problem:
        raise EpisodeError(
            f"{path}: cannot be opened as HDF5 ({problem}); an interrupted recording is mended by "
            "`tacit recover`, a file cut in transfer must be copied again"
        ) from None
    try:
        check_links(file)
    except EpisodeError:
        file.close()
        raise
    return file


def check_links(file: h5py.File) -> None:
    """Check that a file holds hard links and plain datasets only.

    Raises:
        EpisodeError: A soft or external link, external or virtual storage, a filter other than
            deflate, shuffle and fletcher32, a foreign type, or a size beyond reason.
    """
    try:
        paths = _hard_links(file)
        for path in paths:
            item = h5py.h5o.open(file.id, path)
            if isinstance(item, h5py.h5d.DatasetID):
                _check_dataset(item, f"{file.filename}: /{path.decode()}")
            elif not isinstance(item, h5py.h5g.GroupID):
                raise EpisodeError(f"{file.filename}: /{path.decode()}: a {type(item).__name__}")
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as problem:
        raise EpisodeError(f"{file.filename}: damaged structure ({problem}); try `tacit recover`") from None


def _hard_links(file: h5py.File) -> list[bytes]:
    """Return the paths of all links after checking their kind, number and depth; each group is
    entered once, so a cycle ends."""
    paths: list[bytes] = []

    def visit(path: bytes, info: h5py.h5l.LinkInfo) -> str | None:
        where = f"/{path.decode(errors='replace')}"
        if info.type != h5py.h5l.TYPE_HARD:
            kind = "soft link" if info.type == h5py.h5l.TYPE_SOFT else "link to another file"
            return f"{where}: a {kind}; only hard links are read"
        if path.count(b"/") >= MAX_DEPTH or len(paths) >= MAX_OBJECTS:
            return f"{where}: nested deeper than {MAX_DEPTH}, or more than {MAX_OBJECTS} objects"
        paths.append(path)
        return None

    problem = file.id.links.visit(visit, info=True)
    if problem is not None:
        raise EpisodeError(f"{file.filename}: {problem}")
    return paths


def _check_dataset(dataset: h5py.h5d.DatasetID, where: str) -> None:
    creation = dataset.get_create_plist()
    if creation.get_external_count() or creation.get_layout() == h5py.h5d.VIRTUAL:
        raise EpisodeError(f"{where}: its data lie in another file; that is never followed")
    filters = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
    if filters - ALLOWED_FILTERS:
        raise EpisodeError(
            f"{where}: HDF5 filters {sorted(filters)}; allowed {sorted(ALLOWED_FILTERS)}; repack it with "
            "`h5repack -f NONE`"
        )
    dtype = dataset.dtype
    if dtype.kind not in "biufSU" and not _is_plain_object(dtype):
        raise EpisodeError(f"{where}: type {dtype}; expected numbers, strings or variable-length bytes")
    if math.prod(dataset.shape) * dtype.itemsize > MAX_BYTES:
        raise EpisodeError(f"{where}: declares shape {dataset.shape}, more than {MAX_BYTES >> 30} GiB")


def _is_plain_object(dtype: np.dtype) -> bool:
    """Variable-length bytes or strings; references and everything else are refused."""
    return h5py.check_vlen_dtype(dtype) == np.uint8 or h5py.check_string_dtype(dtype) is not None
