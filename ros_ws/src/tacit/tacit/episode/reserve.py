"""Disk space taken before it is needed, so that a full disk never fails inside HDF5.

HDF5 cannot give up half a flush: after a failed write its caches stay dirty, and closing the file
has crashed the process [measured, HDF5 2.0]. Space is therefore allocated first, behind the end of
the file; when that fails nothing has been written yet, and the margin still finishes the episode.
"""

from __future__ import annotations

import contextlib
import os

import h5py

from tacit.errors import EpisodeError

MARGIN_BYTES = 4 << 20
"""Finishing (steps, statistics, drops) takes well below 1 MiB; new chunks of all columns about 2."""


AHEAD_BYTES = 8 << 20
"""So one allocation lasts for a second or two: one at each flush takes half a per cent of a core."""


class Reserve:
    """Keeps `MARGIN_BYTES` allocated beyond the end of an open HDF5 file; `release` gives them back."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._until = 0  # allocated up to here

    def take(self, num_bytes: int = 0) -> None:
        """Allocate room for `num_bytes` and the margin.

        Raises:
            EpisodeError: The disk is full (or a quota, or a size limit); nothing was written.
        """
        end = self._file.id.get_filesize()
        needed = end + num_bytes + MARGIN_BYTES
        if needed <= self._until:
            return
        with contextlib.suppress(OSError):  # where the disk is nearly full the margin alone may fit
            self._allocate(end, needed + AHEAD_BYTES)
            return
        try:
            self._allocate(end, needed)
        except OSError as problem:
            raise EpisodeError(
                f"{self._file.filename}: disk full ({problem.strerror}): close the episode now with "
                "reason='error', what was recorded until here fits; then free some space"
            ) from None

    def _allocate(self, start: int, until: int) -> None:
        os.posix_fallocate(self._file.id.get_vfd_handle(), start, until - start)
        self._until = until

    def release(self) -> None:
        """Cut the file to what HDF5 uses; call it after the last flush, before the close."""
        os.ftruncate(self._file.id.get_vfd_handle(), self._file.id.get_filesize())

    def detach(self) -> None:
        """After a failed write: close the file without letting HDF5 touch it again.

        Its descriptor is pointed at memory, where the caches may be flushed without harm.
        """
        with contextlib.suppress(OSError, RuntimeError):
            handle = self._file.id.get_vfd_handle()
            memory = os.memfd_create("abandoned episode")
            os.dup2(memory, handle)
            os.close(memory)
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()
