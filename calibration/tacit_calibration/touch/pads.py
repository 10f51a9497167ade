"""Sizes of gels that are sold: what `--pad` knows by name."""

from __future__ import annotations

import re

from tacit.errors import CalibrationError, did_you_mean

PADS_MM = {"digit": (19.0, 16.0), "gelsight_mini": (18.6, 14.3)}
"""Sensing areas by the makers' data sheets."""
MIN_MM, MAX_MM = 3.0, 200.0


def pad_size(pad: str, rig_size_m: tuple[float, ...]) -> tuple[float, float]:
    """Return width and height [m] of a pad along x and y of its sensor.

    Args:
        pad: A name, or `WxH` in millimetres.
        rig_size_m: As in the rig; a named pad's longer side lies where the rig has the longer one.

    Raises:
        CalibrationError: Neither a known name nor two sizes in millimetres.
    """
    if pad in PADS_MM:
        long, short = (side / 1e3 for side in PADS_MM[pad])
        return (long, short) if rig_size_m[0] >= rig_size_m[1] else (short, long)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)", pad.replace(" ", "").removesuffix("mm"))
    if match is None:
        raise CalibrationError(f"--pad {pad}: give width x height in mm, as 20x24, or {_known(pad)}")
    width, height = (float(side) for side in match.groups())
    if not (MIN_MM <= width <= MAX_MM and MIN_MM <= height <= MAX_MM):
        raise CalibrationError(f"--pad {pad}: expected {MIN_MM:g} to {MAX_MM:g} mm; give millimetres")
    return width / 1e3, height / 1e3


def _known(pad: str) -> str:
    return did_you_mean(pad, PADS_MM)
