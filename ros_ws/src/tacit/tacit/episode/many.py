"""Read many episodes: a few in turn, many by processes, for HDF5 lets one thread in at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
MANY, MAX_PROCESSES = 200, 8
"""From so many episodes on processes are worth their start; more of them wait for the disk."""
AT_ONCE = 16


def read_many(read: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T]:
    """Yield what `read`, a function of a module, returns of each path, in order.

    Raises:
        Exception: What `read` raised first.
    """
    if len(paths) < MANY:
        yield from map(read, paths)
        return
    import multiprocessing  # this and the next cost a tenth of a second, and a listing mostly needs neither
    from concurrent.futures import ProcessPoolExecutor

    import cv2

    context = multiprocessing.get_context("fork")  # what is loaded already need not be loaded again
    count = min(os.cpu_count() or 1, MAX_PROCESSES)
    with ProcessPoolExecutor(
        count, context, cv2.setNumThreads, (0,)
    ) as processes:  # its threads die in forks
        yield from processes.map(read, paths, chunksize=AT_ONCE)
