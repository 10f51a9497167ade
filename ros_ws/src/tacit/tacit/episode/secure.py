"""Open an HDF5 file from elsewhere without following it elsewhere.

External storage and virtual datasets read foreign files silently; filters are plugins; a declared
shape can ask for all memory. Everything is checked before any element is read.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tacit.errors import EpisodeError

ALLOWED_FILTERS = frozenset({1, 2, 3})
"""deflate, shuffle, fletcher32: inside libhdf5, no plugin is loaded."""
MAX_OBJECTS = 10_000
MAX_DEPTH = 12
MAX_BYTES = 1 << 36
"""Largest declared size of one dataset: 64 GiB, half an hour of raw VGA at 30 Hz."""
MAX_CHUNK_BYTES = 1 << 26
"""Whoever reads one element inflates its chunk, and a thousandth of that may be in the file; a raw 4K frame
has 25 MB."""
MAX_NUMBERS_BYTES = 1 << 29
"""Largest table of numbers, which readers take whole: an hour at 1 kHz of 14 joints is 400 MB."""
FREE_BYTES, MAX_RATIO = 1 << 26, 100
"""Numbers above 64 MiB in all may be a hundred times as large as the file: filters pack constants, but a
shape that nobody filled costs nothing to declare."""
MAX_ATTRIBUTES, MAX_ATTRIBUTE_BYTES = 1_000, 1 << 24
"""The longest attribute is the rig with its URDF, 4 MB at most."""


class FileState(NamedTuple):
    """What changes when a file does: nobody can set back `changed_ns`, as one can the time of change."""

    device: int
    inode: int
    size: int
    time_ns: int
    changed_ns: int


_checked: set[FileState] = set()
"""Files whose structure this run has walked: a walk costs more than reading the numbers does."""


def file_state(path: str | Path) -> FileState | None:
    """Return the state of a file; None where there is none."""
    try:
        return _state(os.stat(path))
    except FileNotFoundError:
        return None


def trust_checked(states: Iterable[FileState | None]) -> None:
    """Count files as checked that a process of ours has walked when they had these states."""
    _checked.update(state for state in states if state is not None)


def _state(found: os.stat_result) -> FileState:
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def open_episode(path: str | Path) -> h5py.File:
    """Open a file for reading after checking every link and dataset in it, once while it stays as it is.

    Args:
        path: The file.

    Raises:
        EpisodeError: Missing, not HDF5, cut off, or holding what an episode never holds.
    """
    path = Path(path)
    if not path.is_file():
        raise EpisodeError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as problem:
        if problem.errno in (errno.EMFILE, errno.ENFILE) or os.strerror(errno.EMFILE) in str(problem):
            raise EpisodeError(
                f"{path}: this process has too many files open; allow it more with `ulimit -n 4096`"
            ) from None
        raise EpisodeError(
            f"{path}: cannot be opened as HDF5 ({problem}); an interrupted recording is mended by "
            "`tacit recover`, a file cut in transfer must be copied again"
        ) from None
    try:
        state = _state(os.fstat(file.id.get_vfd_handle()))
        if state not in _checked:
            check_links(file)
            _checked.add(state)
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
    name = file.filename
    try:
        _check_link_kinds(file)
        numbers = sum(
            _check_dataset(h5py.h5d.open(file.id, path), f"{name}: /{path.decode()}")
            for path in _datasets(file)
        )
        if numbers > FREE_BYTES + MAX_RATIO * file.id.get_filesize():
            raise EpisodeError(
                f"{name}: declares {numbers >> 20} MB of numbers and holds "
                f"{file.id.get_filesize() >> 20} MB; they were never written"
            )
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as problem:
        raise EpisodeError(f"{name}: damaged structure ({problem}); try `tacit recover`") from None


def _check_link_kinds(file: h5py.File) -> None:
    """Check kind, number and depth of all links; each group is entered once, so a cycle ends."""
    count = 0

    def visit(path: bytes, info: h5py.h5l.LinkInfo) -> str | None:
        where = f"/{path.decode(errors='replace')}"
        if info.type != h5py.h5l.TYPE_HARD:
            kind = "soft link" if info.type == h5py.h5l.TYPE_SOFT else "link to another file"
            return f"{where}: a {kind}; only hard links are read"
        nonlocal count
        count += 1
        if path.count(b"/") >= MAX_DEPTH or count > MAX_OBJECTS:
            return f"{where}: nested deeper than {MAX_DEPTH}, or more than {MAX_OBJECTS} objects"
        return None

    problem = file.id.links.visit(visit, info=True)
    if problem is not None:
        raise EpisodeError(f"{file.filename}: {problem}")


def _datasets(file: h5py.File) -> list[bytes]:
    """Return the paths of all datasets, each once, after a look at the headers of all objects."""
    paths: list[bytes] = []
    name = file.filename

    def visit(path: bytes, about: h5py.h5o.ObjInfo) -> None:
        if about.type not in (h5py.h5o.TYPE_GROUP, h5py.h5o.TYPE_DATASET):
            raise EpisodeError(f"{name}: /{path.decode(errors='replace')}: neither a group nor a dataset")
        _check_attributes(about, f"{name}: /{path.decode(errors='replace').removeprefix('.')}")
        if about.type == h5py.h5o.TYPE_DATASET:
            paths.append(path)

    _check_attributes(h5py.h5o.get_info(file.id), f"{name}: /")  # the visit begins below it
    h5py.h5o.visit(file.id, visit, info=True)
    return paths


def _check_attributes(about: h5py.h5o.ObjInfo, where: str) -> None:
    """Refuse attributes that are many or large, by the header of their object: opening one reads it.

    What a text of variable length holds, nothing tells before it is read.
    """
    if about.num_attrs > MAX_ATTRIBUTES:
        raise EpisodeError(f"{where}: {about.num_attrs} attributes; at most {MAX_ATTRIBUTES} are read")
    if about.hdr.space.total + about.meta_size.attr.heap_size > MAX_ATTRIBUTE_BYTES:
        raise EpisodeError(f"{where}: more than {MAX_ATTRIBUTE_BYTES >> 20} MB of attributes")


def _check_dataset(dataset: h5py.h5d.DatasetID, where: str) -> int:
    """Refuse a dataset that reaches elsewhere, is of a foreign type, or too large.

    Returns:
        The bytes that it declares, if they are numbers that readers take whole; 0 for pictures.
    """
    creation = dataset.get_create_plist()
    if creation.get_external_count() or creation.get_layout() == h5py.h5d.VIRTUAL:
        raise EpisodeError(f"{where}: its data lie in another file; that is never followed")
    filters = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
    if filters - ALLOWED_FILTERS:
        raise EpisodeError(
            f"{where}: HDF5 filters {sorted(filters)}; allowed {sorted(ALLOWED_FILTERS)}; repack it with "
            "`h5repack -f NONE`"
        )
    dtype, shape = dataset.dtype, dataset.shape
    if dtype.kind not in "biufSU" and not _is_plain_object(dtype):
        raise EpisodeError(f"{where}: type {dtype}; expected numbers, strings or variable-length bytes")
    declared = math.prod(shape or ()) * dtype.itemsize  # 16 for each element of variable length
    if declared > MAX_BYTES:
        raise EpisodeError(f"{where}: declares shape {shape}, more than {MAX_BYTES >> 30} GiB")
    if creation.get_layout() == h5py.h5d.CHUNKED:
        chunk_bytes = math.prod(creation.get_chunk()) * dtype.itemsize
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise EpisodeError(
                f"{where}: chunks of {chunk_bytes >> 20} MB, at most {MAX_CHUNK_BYTES >> 20} MB are read; "
                "repack it with one row in a chunk: `h5repack -l <dataset>:CHUNK=1x...`"
            )
    if dtype == np.uint8 and len(shape or ()) in (2, 4):  # read row by row: raw, or padded with zeros
        if declared > MAX_CHUNK_BYTES * max(shape[0], 1):
            raise EpisodeError(f"{where}: declares shape {shape}: pictures above {MAX_CHUNK_BYTES >> 20} MB")
        return 0
    if declared > MAX_NUMBERS_BYTES:
        raise EpisodeError(
            f"{where}: declares shape {shape} of {dtype}, more than {MAX_NUMBERS_BYTES >> 20} MB"
        )
    return declared


def _is_plain_object(dtype: np.dtype) -> bool:
    """Variable-length bytes or strings; references and everything else are refused."""
    return h5py.check_vlen_dtype(dtype) == np.uint8 or h5py.check_string_dtype(dtype) is not None
