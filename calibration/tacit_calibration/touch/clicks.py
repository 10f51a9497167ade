"""Corners of tactile sensors in pictures: `corners.csv`, clicked by a person or found by a detector.

One line per picture and sensor: image, sensor, then u and v of the four corners of the gel face in the
order of `tacit.geometry.footprint` (-x-y, +x-y, +x+y, -x+y in the sensor frame). Pixel centres are integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError, did_you_mean
from tacit.rig import Rig
from tacit_calibration.samples import read_table

FILE_NAME = "corners.csv"
HEADER = ("image", "sensor", "u0", "v0", "u1", "v1", "u2", "v2", "u3", "v3")


@dataclass(frozen=True, eq=False)
class Click:
    """The gel face of one sensor in one picture: corners (4, 2) [px]."""

    image: str
    sensor: str
    pixels: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Return which picture and sensor this is, for messages."""
        return f"{self.image} {self.sensor}"


def read_clicks(path: Path, rig: Rig) -> list[Click]:
    """Read a file of clicks.

    Raises:
        CalibrationError: It is missing, has other columns, unknown sensors or words for numbers.
    """
    hint = "make it with the page of `tacit calibrate sensor --click`, or with any program"
    clicks = [_click(row, where, rig) for where, row in read_table(path, HEADER, hint)]
    if not clicks:
        raise CalibrationError(f"{path}: holds no corners")
    return clicks


def _click(row: dict[str, str], where: str, rig: Rig) -> Click:
    if row["sensor"] not in rig.tactile:
        raise CalibrationError(
            f"{where}: no sensor {row['sensor']!r}; {did_you_mean(row['sensor'], rig.tactile)}"
        )
    try:
        pixels = np.array([float(row[name]) for name in HEADER[2:]]).reshape(4, 2)
    except (TypeError, ValueError):
        raise CalibrationError(f"{where}: expected 8 numbers after the sensor") from None
    if not np.isfinite(pixels).all():
        raise CalibrationError(f"{where}: corners are not finite")
    return Click(row["image"], row["sensor"], pixels)
