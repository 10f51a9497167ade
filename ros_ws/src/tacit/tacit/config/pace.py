"""How fast long work goes, and how long it will still take, in words for a line of its report."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Counts what is done of so many.

    Args:
        total: How many there are.
        clock: Seconds that only go forward.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._began = clock()

    def after(self, done: int) -> str:
        """Return the rate, and the time left, when `done` are done."""
        spent = self._clock() - self._began
        if done < 1 or spent <= 0:
            return ""
        left = (self._total - done) * spent / done
        return f"{60 * done / spent:.3g} a minute, {in_words(left)} left"


def in_words(seconds: float) -> str:
    """Return a duration [s] as people say it: `40 s`, `3 min`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
