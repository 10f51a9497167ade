"""Frames at a fixed rate by their stamps, however much faster they come."""

from __future__ import annotations


class Decimator:
    """Picks frames at a fixed rate by their stamps, however much faster they come.

    Args:
        rate_hz: Wanted rate. A frame is due once it is within a quarter period of its turn.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = 1e9 / rate_hz
        self.reset()

    def reset(self) -> None:
        """The next frame is due."""
        self._due_ns: float | None = None

    def is_due(self, stamp_ns: int) -> bool:
        """Tell whether the frame at `stamp_ns` is to be used; turns do not drift."""
        if self._due_ns is None or abs(stamp_ns - self._due_ns) > 4 * self._period_ns:
            self._due_ns = float(stamp_ns)
        if stamp_ns < self._due_ns - 0.25 * self._period_ns:
            return False
        turns = max(0, round((stamp_ns - self._due_ns) / self._period_ns))
        self._due_ns += (turns + 1) * self._period_ns
        return True
