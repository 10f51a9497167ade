"""From driver's values and openings to the gripper model of a rig: a line where it fits, else a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray
from tacit.rig import GripperSpec
from tacit_calibration.samples import read_table

HEADER = ("raw", "opening_mm")
LINEAR_M = 5e-4
"""A line that misses by more than half a millimetre moves a box by 2 px in a wrist camera: use a table."""
LINEAR_SIGMAS = 3.0


@dataclass(frozen=True, eq=False)
class GripperFit:
    """The model and what it misses.

    Attributes:
        spec: The gripper with its new model.
        residual_m: Measured minus modelled openings (k,).
    """

    spec: GripperSpec
    residual_m: FloatArray

    @property
    def rms_m(self) -> float:
        """Root mean square of the residuals [m]."""
        return float(np.sqrt(np.mean(self.residual_m**2)))


def fit_gripper(
    gripper: GripperSpec, raw: ArrayLike, opening_m: ArrayLike, sigma_m: ArrayLike | None = None
) -> GripperFit:
    """Return the gripper with a line, or where a line does not do, a table.

    Args:
        gripper: As in the rig.
        raw: Driver's values (k,).
        opening_m: What they mean (k,) [m].
        sigma_m: How well that is known (k,).

    Raises:
        CalibrationError: Fewer than two values, or openings that neither rise nor fall with them.
    """
    raws, openings = _averaged(np.asarray(raw, np.float64), np.asarray(opening_m, np.float64))
    if len(raws) < 2:
        raise CalibrationError(f"gripper: {len(raws)} different driver's values, expected two or more")
    slope, offset = np.polyfit(raws, openings, 1)
    residual = openings - (slope * raws + offset)
    known = float(np.median(np.asarray(sigma_m))) if sigma_m is not None else 0.0
    if np.abs(residual).max() <= max(LINEAR_M, LINEAR_SIGMAS * known):
        changes = {"raw": "linear", "scale": float(slope), "offset": float(offset), "table": ()}
        return GripperFit(gripper.model_copy(update=changes), residual)
    # A table must be read both ways, from the driver's value to the opening and back.
    steps = np.diff(openings)
    if not ((steps > 0).all() or (steps < 0).all()):
        listed = ", ".join(f"{r:g}: {1e3 * o:.1f} mm" for r, o in zip(raws, openings, strict=True))
        raise CalibrationError(
            f"gripper: the opening neither rises nor falls with the driver's value: {listed}"
        )
    table = tuple((float(r), float(o)) for r, o in zip(raws, openings, strict=True))
    changes = {"raw": "table", "scale": 1.0, "offset": 0.0, "table": table}
    return GripperFit(gripper.model_copy(update=changes), np.zeros(len(raws)))


def read_openings(path: Path) -> tuple[FloatArray, FloatArray]:
    """Read driver's values (k,) and openings (k,) [m] that were measured with a caliper.

    Raises:
        CalibrationError: The file is missing, has other columns, or words for numbers.
    """
    pairs = []
    for where, row in read_table(path, HEADER, f"write a CSV with the columns {','.join(HEADER)}"):
        try:
            pairs.append([float(row[name]) for name in HEADER])
        except (TypeError, ValueError):
            raise CalibrationError(f"{where}: expected two numbers") from None
    values = np.array(pairs).reshape(-1, 2)
    if len(values) and values[:, 1].max() < 1.0:
        raise CalibrationError(f"{path}: openings up to {values[:, 1].max():g} mm; millimetres, not metres")
    return values[:, 0], 1e-3 * values[:, 1]


def _averaged(raw: FloatArray, opening: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return distinct driver's values, ascending, each with the mean of its openings."""
    raws, index = np.unique(raw, return_inverse=True)
    sums = np.bincount(index, opening, minlength=len(raws))
    return raws, sums / np.bincount(index, minlength=len(raws))
