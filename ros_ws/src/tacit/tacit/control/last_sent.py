"""How long ago the last command left, which is what the next one may count on."""

from __future__ import annotations

SHORTEST_S = 1e-4
"""Least time between two commands on a clock that stood in between, as simulated time may [s]."""


class LastSent:
    """When the last command was made, and when it left.

    A busy machine lets the thread that sends wait between the two. The next command then leaves sooner after
    this one than the two were made, and may go no further than that time allows.

    Args:
        per_second: Of the clock: 1 for seconds, 1e9 for nanoseconds.
    """

    def __init__(self, per_second: float = 1.0) -> None:
        self._per_second = per_second
        self.forget()

    def forget(self) -> None:
        """Nothing was sent yet, or nobody knows when."""
        self._made: float | None = None
        self._left: float = 0.0

    def made(self, now: float | None) -> None:
        """Note that a command was made; None where no clock is at hand."""
        self._made, self._left = now, 0.0 if now is None else now

    def left(self, now: float) -> None:
        """Note that it has left by `now`."""
        if self._made is not None:
            self._left = max(self._left, now)

    def since(self, now: float | None) -> float | None:
        """Return the time since then [s], below 0 after a clock was set back; None where it is not known."""
        if self._made is None or now is None:
            return None
        if now == self._left > self._made:
            return SHORTEST_S
        return (now - self._left) / self._per_second
