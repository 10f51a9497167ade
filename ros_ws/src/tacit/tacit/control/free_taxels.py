"""What the arrays of taxels of a run say without contact: taken when it starts, with open grippers.

The same is stored beside every episode; a policy reads the difference, and drift moves it no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tacit.control.safety import Fault
from tacit.rig import Rig

READINGS = 10
"""The offset is the mean of so many, while recording too: a single one would add its noise to all others."""
STEADY = 0.02
"""Of its range: an array that changes by more while its offset is taken is being touched."""

Reading = NDArray[np.float32]


class FreeTaxels:
    """Takes and holds the offsets of one run.

    Args:
        rig: Ranges of its arrays.
        names: Arrays that the bundle reads.

    Attributes:
        offsets: (R, C, K) by sensor; empty before a run.
    """

    def __init__(self, rig: Rig, names: Iterable[str]) -> None:
        self.offsets: dict[str, Reading] = {}
        self._spans = {name: rig.taxels[name].array.high - rig.taxels[name].array.low for name in names}
        self._recent = {name: deque[Reading](maxlen=READINGS) for name in self._spans}

    def saw(self, name: str, value: object) -> None:
        """Keep a reading, if it is of an array that the bundle reads."""
        if name in self._recent:
            self._recent[name].append(np.asarray(value, np.float32))

    def forget(self) -> None:
        """Forget what was heard, not the offsets."""
        for recent in self._recent.values():
            recent.clear()

    def take(self, closed: str) -> Fault | None:
        """Take the offsets as a run begins; those of the run before stay where a gripper is not open.

        Args:
            closed: Which gripper is not open, in words; "" where all are.

        Returns:
            Why there are none.
        """
        if not self._spans:
            return None
        if closed:
            return None if self.offsets else Fault("touch_reference", closed)
        taken = {}
        for name, span in self._spans.items():
            readings = np.array(self._recent[name])
            if not len(readings):
                return Fault("touch_reference", f"{name}: no reading yet")
            change = float((np.ptp(readings, axis=0) / span).max())
            if change > STEADY:
                detail = f"{name} changes by {change:.0%} of its range, at rest by {STEADY:.0%} at most"
                return Fault("touch_reference", f"{detail}; is it touched?")
            taken[name] = np.asarray(readings.mean(axis=0), np.float32)
        self.offsets = taken
        return None

    def against(self, name: str, value: object) -> Reading:
        """Return a reading (R, C, K) against the offset of the run."""
        return np.asarray(value, np.float32) - self.offsets[name]
