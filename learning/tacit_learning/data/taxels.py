"""Readings of taxel arrays as rows of a table, each episode against its own offset without contact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError
from tacit_learning.data.contract import Reading


def read_taxels(path: Path, reading: Reading, keep: slice) -> NDArray[np.float32]:
    """Return the arrays of a view (t, M) f4, one flat after the other, without what they say untouched.

    Raises:
        EpisodeError: A sensor has no offset, or had said nothing yet at a tick that is kept.
    """
    if not reading.view.taxels:
        return np.zeros((keep.stop - keep.start, 0), np.float32)
    parts = []
    with EpisodeReader(path) as reader:
        for name in (reading.stored[sensor] for sensor in reading.view.taxels):
            offset, readings = reader.reference(name), reader.readings(name, keep)
            if offset is None:
                raise EpisodeError(f"{path}: tactile/{name}: no reading without contact")
            if not np.isfinite(readings).all():
                raise EpisodeError(
                    f"{path}: tactile/{name}: ticks without a reading; leave the episode out, or the sensor "
                    "with data.sensors"
                )
            parts.append((readings - offset).reshape(len(readings), -1))
    return np.concatenate(parts, axis=1)
