"""Where touch shows in the cameras of a running robot: the newest joints, and the boxes they put there."""

from __future__ import annotations

import threading

import numpy as np

from tacit.geometry.footprint import Footprint
from tacit.rig import Rig
from tacit.rig.scene import RigGeometry
from tacit.streams import Value


class LiveBoxes:
    """Holds the newest state of a rig; a view, not a measurement: nothing is brought to one instant.

    `take` and `seen_by` may be called from different threads.

    Args:
        rig: Says which streams are states, and where cameras and sensors are.

    Attributes:
        streams: The state streams to hear.
    """

    def __init__(self, rig: Rig) -> None:
        self._geometry = RigGeometry(rig)
        self._indices = {name: rig.index_of(spec.names) for name, spec in rig.states.items()}
        self._state = np.full(len(rig.state_names), np.nan)
        self._lock = threading.Lock()
        self.streams = tuple(self._indices)

    def take(self, stream: str, value: Value) -> None:
        """Take the newest values of a state stream."""
        with self._lock:
            self._state[self._indices[stream]] = np.asarray(value)

    def seen_by(self, camera: str) -> dict[str, Footprint] | None:
        """Return the footprint of each sensor in a camera; None while a joint has not been heard."""
        with self._lock:
            state = self._state.copy()
        if not np.isfinite(state).all():
            return None
        found = self._geometry.footprints(state)
        return {sensor: footprint for (seen_by, sensor), footprint in found.items() if seen_by == camera}
