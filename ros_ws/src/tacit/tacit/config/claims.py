"""One writer at a time: a run claims what it writes, and a second one is refused by name.

The claim is the lock of a small file, which the system gives back whatever ends the run; editing an episode,
which takes a moment, locks its folder instead (`tacit.episode.files`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tacit.errors import ConfigError

CLAIM = ".writing"
NOTE_BYTES = 500


@contextlib.contextmanager
def sole_writer(place: Path, *, is_file: bool = False) -> Iterator[None]:
    """Hold a folder, or the name of a file, against every other run that would write it.

    Args:
        place: What is written; a folder is made.
        is_file: Whether it is a file; then its folder is made.

    Raises:
        ConfigError: Another run writes it; the message says which.
    """
    claim = place.parent / f".{place.name}{CLAIM}" if is_file else place / CLAIM
    claim.parent.mkdir(parents=True, exist_ok=True)
    handle = _locked(claim, place)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}, {' '.join(sys.argv)}"[:NOTE_BYTES].encode(), 0)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            claim.unlink()
        os.close(handle)


def _locked(claim: Path, place: Path) -> int:
    """Return the handle of the locked claim."""
    while True:
        handle = os.open(claim, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(claim)):
                return handle
        except BlockingIOError:
            writer = os.pread(handle, NOTE_BYTES, 0).decode(errors="replace")
            os.close(handle)
            raise ConfigError(
                f"{place}: another run is writing there ({writer or 'it has just begun'}); wait for it, stop "
                "it, or give another place"
            ) from None
        except FileNotFoundError:
            pass
        os.close(handle)  # its holder ended and removed it between our two steps: make it anew
