"""Between what a driver reports and canonical units: radians, and gripper opening in metres.

Canonical q = sign * raw + offset for joints; grippers by one of three models of the rig. Used by
the recorder on the way in and by the policy node on the way out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tacit.geometry.transforms import FloatArray
from tacit.rig.contract import Rig
from tacit.rig.specs import GripperSpec, JointSpec

CLAW_ANGLE_CLOSED, CLAW_ANGLE_RANGE = 2.3818, 1.5401
"""Crank angle [rad] of the X-Trainer claw at servo coefficient 0, and how far it turns until 1."""
CLAW_STEP = 1e-4
"""Half step of the servo coefficient over which the slope of the claw is taken."""
CLAW_CRANK_M, CLAW_CONSTANT = 0.03, 0.0028
"""g = .03 cos s + .5 sqrt(.0036 cos^2 s + .0028): slider crank of radius 30 mm [m, m^2]."""


def to_canonical(rig: Rig, name: str, raw: float) -> float:
    """Return the canonical value [rad or m] of a driver's value.

    Args:
        rig: The rig.
        name: A state name.
        raw: As the driver reports it.

    Raises:
        RigError: No such joint.
    """
    return _in(rig.joint(name), float(raw))


def from_canonical(rig: Rig, name: str, value: float) -> float:
    """Return what to tell the driver for a canonical value [rad or m]; inverse of `to_canonical`.

    Openings that a `table` or `claw` cannot reach give its nearest end.

    Raises:
        RigError: No such joint.
    """
    return _out(rig.joint(name), float(value))


def vector_to_canonical(rig: Rig, names: Sequence[str], raw: ArrayLike) -> FloatArray:
    """Return canonical values (K,) of raw values (K,), for `names` (K)."""
    values = np.asarray(raw, dtype=np.float64).tolist()
    return np.array([to_canonical(rig, n, v) for n, v in zip(names, values, strict=True)])


def vector_from_canonical(rig: Rig, names: Sequence[str], values: ArrayLike) -> FloatArray:
    """Return raw values (K,) of canonical values (K,), for `names` (K)."""
    canonical = np.asarray(values, dtype=np.float64).tolist()
    return np.array([from_canonical(rig, n, v) for n, v in zip(names, canonical, strict=True)])


def rates_to_canonical(rig: Rig, names: Sequence[str], rates: ArrayLike, raw: ArrayLike) -> FloatArray:
    """Return velocities (K,) [rad/s or m/s] of a driver's rates (K,) at its values `raw` (K,).

    The derivative of `to_canonical`; of a `table` it is the slope of the row that `raw` lies in.
    """
    return _slopes(rig, names, raw) * np.asarray(rates, dtype=np.float64)


def rates_from_canonical(rig: Rig, names: Sequence[str], rates: ArrayLike, raw: ArrayLike) -> FloatArray:
    """Return a driver's rates (K,) at its values `raw` (K,); inverse of `rates_to_canonical`."""
    return np.asarray(rates, dtype=np.float64) / _slopes(rig, names, raw)


def efforts_to_canonical(rig: Rig, names: Sequence[str], efforts: ArrayLike, raw: ArrayLike) -> FloatArray:
    """Return efforts (K,) in the driver's unit, positive where the canonical value would rise."""
    # The unit stays: whether a driver reports newtons, amperes or a share of its limit, nobody has told us.
    return np.sign(_slopes(rig, names, raw)) * np.asarray(efforts, dtype=np.float64)


def _slopes(rig: Rig, names: Sequence[str], raw: ArrayLike) -> FloatArray:
    values = np.asarray(raw, dtype=np.float64).tolist()
    return np.array([_slope(rig.joint(name), value) for name, value in zip(names, values, strict=True)])


def claw_half_opening(coefficient: float) -> float:
    """Return g [m], one finger's distance from the jaw centre, of the servo coefficient in 0..1."""
    cosine = np.cos(CLAW_ANGLE_CLOSED - CLAW_ANGLE_RANGE * coefficient)
    return float(CLAW_CRANK_M * cosine + 0.5 * np.sqrt((2 * CLAW_CRANK_M * cosine) ** 2 + CLAW_CONSTANT))


def claw_coefficient(half_opening_m: float) -> float:
    """Return the servo coefficient of g [m], clipped to 0..1: the closed-form inverse.

    Squaring g - r cos s = sqrt(r^2 cos^2 s + c/4) leaves cos s = (g^2 - c/4) / (2 r g).
    """
    g = max(half_opening_m, 1e-6)
    cosine = (g * g - CLAW_CONSTANT / 4) / (2 * CLAW_CRANK_M * g)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    return float(np.clip((CLAW_ANGLE_CLOSED - angle) / CLAW_ANGLE_RANGE, 0.0, 1.0))


def _in(member: JointSpec | GripperSpec, raw: float) -> float:
    if isinstance(member, JointSpec):
        return member.sign * raw + member.offset
    if member.raw == "linear":
        return member.scale * raw + member.offset
    if member.raw == "claw":
        return 2 * claw_half_opening(raw) + member.offset
    raws, openings = np.array(member.table).T
    return float(np.interp(raw, raws, openings))


def _slope(member: JointSpec | GripperSpec, raw: float) -> float:
    """d canonical / d raw at `raw`."""
    if isinstance(member, JointSpec):
        return float(member.sign)
    if member.raw == "linear":
        return member.scale
    if member.raw == "claw":
        # One-sided at the ends, where the claw stops: beyond them its formula means nothing.
        low, high = np.clip([raw - CLAW_STEP, raw + CLAW_STEP], 0.0, 1.0)
        return float(2 * (claw_half_opening(high) - claw_half_opening(low)) / (high - low))
    raws, openings = np.array(member.table).T
    row = int(np.clip(np.searchsorted(raws, raw, side="right") - 1, 0, len(raws) - 2))
    return float((openings[row + 1] - openings[row]) / (raws[row + 1] - raws[row]))


def _out(member: JointSpec | GripperSpec, value: float) -> float:
    if isinstance(member, JointSpec):
        return member.sign * (value - member.offset)
    if member.raw == "linear":
        return (value - member.offset) / member.scale
    if member.raw == "claw":
        return claw_coefficient((value - member.offset) / 2)
    raws, openings = np.array(member.table).T
    order = np.argsort(openings)  # openings may fall with the driver's value; np.interp wants them rising
    return float(np.interp(value, openings[order], raws[order]))
