"""Numpy files from outside: what a header declares is held against the file before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tacit.errors import AnnotationError


def open_array(path: str | Path) -> np.ndarray:
    """Return the array of a `.npy` file, mapped: rows are read when they are touched.

    Raises:
        AnnotationError: No `.npy` file, one that holds objects, or one that ends before its array does.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, MemoryError) as problem:
        raise AnnotationError(f"{path}: cannot be read as an array ({problem}); write it again") from None
    if not isinstance(mapped, np.ndarray):
        raise AnnotationError(f"{path}: an archive of arrays; expected one array, as `np.save` writes it")
    return mapped


def load_array(path: str | Path) -> np.ndarray:
    """Return the array of a `.npy` file in memory; errors as of `open_array`."""
    return np.array(open_array(path))
