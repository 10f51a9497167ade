"""The box that an arm must stay in, checked on where the commands would come to rest."""

from __future__ import annotations

import numpy as np

from tacit.control.safety import Fault
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig

SLACK_M = 1e-9
"""Rounding that does not count as further out."""


class Workspace:
    """The `safety.workspace` of a rig: flange and tactile sensors of each listed arm.

    Not safety-rated: it looks at the commands of this process, and at single points of the arm.

    Args:
        rig: The robot; without boxes every state passes.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._boxes = {
            name: (np.array(box.lower), np.array(box.upper)) for name, box in rig.safety.workspace.items()
        }
        self._sensors = {
            arm: [name for name, sensor in rig.tactile.items() if sensor.mount.partition(".")[0] == arm]
            for arm in self._boxes
        }

    def outside(self, q: FloatArray) -> dict[str, float]:
        """Return how far [m] each watched point is outside its box at the state q (S,)."""
        if not self._boxes:
            return {}
        geometry = self._rig.geometry
        flanges, sensors = geometry.flange_poses(q), geometry.sensor_poses(q)
        depths: dict[str, float] = {}
        for arm, (lower, upper) in self._boxes.items():
            points = {f"{arm}.flange": flanges[arm]} | {name: sensors[name] for name in self._sensors[arm]}
            for name, pose in points.items():
                p_world = pose[:3, 3]
                depths[name] = float(np.maximum(np.maximum(lower - p_world, p_world - upper), 0.0).max())
        return depths

    def check(self, q: FloatArray, before: FloatArray) -> Fault | None:
        """Refuse a state q (S,) that is further outside than `before` (S,): the way back in is free."""
        if not self._boxes:
            return None
        now, then = self.outside(q), self.outside(before)
        worst = max(now, key=lambda name: now[name] - then[name])
        if now[worst] <= then[worst] + SLACK_M:
            return None
        return Fault(
            "workspace",
            f"{worst} would come to rest {1e3 * now[worst]:.0f} mm outside its workspace; "
            "see safety.workspace in the rig",
        )
