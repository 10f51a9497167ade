"""Where the tool of a scripted expert should be, and when: waypoints with smoothstep between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tacit.geometry.transforms import FloatArray
from tacit_sim.disturbance import smoothstep

HOVER_M = 0.14
OPEN_M, CLOSED_M = 0.06, 0.0
"""Closed is a target: the part stops the fingers and the servo's force limit holds it."""


@dataclass(frozen=True)
class Waypoint:
    """Be there at this tick: x, y, z [m] and yaw [rad] of the tool, opening [m]."""

    tick: int
    x: float
    y: float
    z: float
    yaw: float
    opening: float

    def values(self) -> FloatArray:
        """Return x, y, z, yaw, opening (5,)."""
        return np.array([self.x, self.y, self.z, self.yaw, self.opening])

    @classmethod
    def of(cls, tick: int, values: FloatArray) -> Waypoint:
        """Return the waypoint of `values` (5,)."""
        return cls(tick, *(float(value) for value in values))


def at_tick(waypoints: Sequence[Waypoint], tick: int) -> FloatArray:
    """Return x, y, z, yaw, opening (5,) at `tick`; the last waypoint holds."""
    for before, after in zip(waypoints, waypoints[1:], strict=False):
        if tick < after.tick:
            blend = smoothstep(tick, before.tick, after.tick)
            return before.values() + blend * (after.values() - before.values())
    return waypoints[-1].values()
