"""Where a conversion writes: a folder beside the target that becomes it at the end, or vanishes.

A kill -9 leaves the hidden folder `.<target>.converting`; the next conversion to the same target empties it,
and one to another target beside it can name it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tacit.episode.files import sync_folder
from tacit.errors import EpisodeError

SUFFIX = ".converting"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL = "{target}: disk full ({why}); nothing was left of the conversion: free some space and run it again"
_ERRNO = re.compile(r"errno = (\d+)")


@contextlib.contextmanager
def new_target(target: Path) -> Iterator[Path]:
    """Yield a place to make a file or folder at; it is given the name `target` when the block is left.

    Raises:
        EpisodeError: The target exists, somebody else is making it, it cannot be made, or the disk is full.
            Then nothing is left of what was written.
    """
    target = Path(os.path.abspath(target))
    _refuse_existing(target)
    folder = target.parent / f".{target.name}{SUFFIX}"
    with _disk_errors(target), _claimed(folder):
        place = folder / target.name
        yield place
        _sync(place)
        _refuse_existing(target)  # made by something else meanwhile
        os.rename(place, target)
        sync_folder(target.parent)


def abandoned(folder: Path) -> list[Path]:
    """Return what conversions to `folder` left there that were killed: hidden, and nobody writes it."""
    return [path for path in sorted(folder.glob(f".*{SUFFIX}")) if path.is_dir() and not _is_held(path)]


@contextlib.contextmanager
def undone_by_sigterm() -> Iterator[None]:
    """Leave by SystemExit when the process is told to end, so that what was begun is cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_held(folder: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _refuse_existing(target: Path) -> None:
    holder = next((parent for parent in target.parents if parent.exists()), target)
    if not holder.is_dir():
        raise EpisodeError(f"{target}: cannot be made, for {holder} is a file; give a name in a folder")
    if target.exists() or target.is_symlink():
        raise EpisodeError(f"{target}: exists and is never overwritten; give another name or move it away")


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold an empty folder for this process alone; it is removed at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    handle = _lock(folder)
    try:
        for leftover in folder.iterdir():  # of a conversion that was killed
            _remove(leftover)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _lock(folder: Path) -> int:
    """Return the handle of a locked folder; a kill gives the lock back, so it never outlives its owner."""
    while True:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(folder)):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise EpisodeError(
                f"{folder}: another conversion is writing this target; wait for it, or give another target"
            ) from None
        except FileNotFoundError:
            pass
        os.close(handle)  # its owner finished and removed it between our two steps: make it anew


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(place: Path) -> None:
    """Bring what was written to the disk, before it gets a name that says it is complete."""
    for path in [place, *(place.rglob("*") if place.is_dir() else ())]:
        sync_folder(path)


@contextlib.contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if _lacks_room(problem):
            raise EpisodeError(FULL.format(target=target, why=problem.strerror)) from None
        raise EpisodeError(f"{target}: cannot be made ({problem})") from None
    except EpisodeError as problem:  # a writer of episodes says how to recover them; here nothing is kept
        if _lacks_room(problem.__cause__):
            raise EpisodeError(FULL.format(target=target, why="no room for an episode")) from None
        raise


def _lacks_room(problem: BaseException | None) -> bool:
    """Whether a write failed for want of room; HDF5 gives the number in its text alone."""
    number = getattr(problem, "errno", None)
    said = _ERRNO.search(str(problem))
    return number in NO_ROOM or (said is not None and int(said[1]) in NO_ROOM)
