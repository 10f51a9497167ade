"""Open an HDF5 file from elsewhere without following it elsewhere.

External storage and virtual datasets read foreign files silently; filters are plugins; a declared
shape can ask for all memory. Everything is checked before any element is read.
"""

from __future__ import annotations

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
    seen: set[int] = set()
    try:
        _check_group(file, file["/"], "", 0, seen)
    except (OSError, RuntimeError, KeyError) as problem:
        raise EpisodeError(f"{file.filename}: damaged structure ({problem}); try `tacit recover`") from None


def _check_group(file: h5py.File, group: h5py.Group, prefix: str, depth: int, seen: set[int]) -> None:
    if depth > MAX_DEPTH:
        raise EpisodeError(f"{file.filename}: {prefix}: groups nested deeper than {MAX_DEPTH}")
    for name in group:
        path = f"{prefix}/{name}"
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            kind = type(group.get(name, getlink=True)).__name__
            raise EpisodeError(f"{file.filename}: {path}: a {kind}; only hard links are read")
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > MAX_OBJECTS:
            raise EpisodeError(f"{file.filename}: more than {MAX_OBJECTS} objects")
        if isinstance(item, h5py.Group):
            _check_group(file, item, path, depth + 1, seen)
        elif isinstance(item, h5py.Dataset):
            _check_dataset(file, item, path)
        else:
            raise EpisodeError(f"{file.filename}: {path}: a {type(item).__name__}, expected a dataset")


def _check_dataset(file: h5py.File, dataset: h5py.Dataset, path: str) -> None:
    where = f"{file.filename}: {path}"
    creation = dataset.id.get_create_plist()
    if creation.get_external_count() or dataset.is_virtual:
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
    if int(np.prod(dataset.shape or (0,), dtype=object)) * dtype.itemsize > MAX_BYTES:
        raise EpisodeError(f"{where}: declares shape {dataset.shape}, more than {MAX_BYTES >> 30} GiB")


def _is_plain_object(dtype: np.dtype) -> bool:
    """Variable-length bytes or strings; references and everything else are refused."""
    return h5py.check_vlen_dtype(dtype) == np.uint8 or h5py.check_string_dtype(dtype) is not None
