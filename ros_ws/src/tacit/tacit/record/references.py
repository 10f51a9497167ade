"""What each touch sensor says without contact: what an episode's touch is compared with."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tacit.control.free_gels import OPEN_FRACTION
from tacit.control.free_taxels import READINGS
from tacit.errors import ImageError
from tacit.images import as_rgb
from tacit.record.monitor import StreamMonitor
from tacit.rig import Rig

SAME_TIME_NS = 500_000_000
"""A gripper's last word counts for a touch image within this time; older, it may have closed since."""


class TouchReferences:
    """Takes references between episodes, while every gripper is open: before contact, never in a grasp.

    Without such a moment there is no reference: a first frame from mid-grasp would make contact look like
    its absence in every episode that follows. On a rig without grippers nothing tells, and the pictures
    before the start are taken.

    Args:
        rig: Its tactile sensors and grippers.
        monitors: The newest value of every stream.

    Attributes:
        images: By sensor, those that are known: of gels RGB (H, W, 3), of taxels their offset (R, C, K).
    """

    def __init__(self, rig: Rig, monitors: Mapping[str, StreamMonitor]) -> None:
        self.images: dict[str, NDArray[np.uint8] | NDArray[np.float32]] = {}
        self._monitors, self._sensors = monitors, tuple(rig.tactile)
        self._readings = {name: deque[NDArray[np.float32]](maxlen=READINGS) for name in rig.taxels}
        openings = {a.gripper.name: OPEN_FRACTION * a.gripper.upper for a in rig.arms.values() if a.gripper}
        self._grippers = [
            (stream, index, openings[name])
            for stream, spec in rig.states.items()
            for index, name in enumerate(spec.names)
            if name in openings
        ]

    @property
    def missing(self) -> list[str]:
        """Sensors without a reference."""
        return [name for name in self._sensors if name not in self.images]

    def saw(self, name: str) -> None:
        """Take the newest picture of a sensor if it has none yet; between episodes only."""
        if name in self._readings:
            self._collect(name)
        if name in self._sensors and name not in self.images:
            self._take(name)

    def refresh(self) -> None:
        """Take all pictures anew where that is allowed, else keep those from earlier in the session."""
        for name in self._sensors:
            self._take(name)

    def _take(self, name: str) -> None:
        if name in self._readings:
            if self._readings[name]:
                self.images[name] = np.asarray(np.mean(self._readings[name], axis=0), np.float32)
            return
        touch = self._monitors[name]
        if not self._is_untouched(touch):
            return
        with suppress(ImageError):  # a picture that cannot be decoded is no reference; the next one may be
            self.images[name] = np.array(as_rgb(touch.value))

    def _collect(self, name: str) -> None:
        """Keep the newest readings of an array without contact; a grasp between them ends what it follows."""
        touch, readings = self._monitors[name], self._readings[name]
        if not self._is_untouched(touch):
            readings.clear()
        else:
            readings.append(np.array(touch.value, np.float32))

    def _is_untouched(self, touch: StreamMonitor) -> bool:
        return touch.value is not None and all(self._is_open(*p, touch.stamp_ns) for p in self._grippers)

    def _is_open(self, stream: str, index: int, opening: float, stamp_ns: int) -> bool:
        gripper = self._monitors[stream]
        if gripper.value is None or abs(gripper.stamp_ns - stamp_ns) > SAME_TIME_NS:
            return False
        return bool(np.asarray(gripper.value)[index] >= opening)
