"""How long the recorder has been listening: a clock that stands still while the recorder itself does not run.

On a busy machine the intake may not be scheduled for a second. Nothing is heard in that time, yet no
driver was silent: what was sent waits in the middleware. So silence is measured on this clock.
"""

from __future__ import annotations

STEP_NS = 100_000_000
"""One look at the middleware accounts for so much time at most: three of the recorder's periods of 30 ms."""
LATE_NS = 500_000_000
"""A longer absence is noted in the episode: messages beyond the depth of the queues may have been lost."""
PATIENCE_NS = 10_000_000_000
"""An intake that does not run for so long records nothing any more, whoever is to blame."""


class Attention:
    """The time during which somebody was listening; fed after every look at what has come.

    Attributes:
        ns: The time listened so far [ns].
    """

    def __init__(self) -> None:
        self.ns = 0
        self._looked_ns: int | None = None
        self._late: list[int] = []

    def looked(self, now_ns: int) -> None:
        """Count a look that has taken everything there was; `now_ns` is a steady clock."""
        away_ns = now_ns - self._looked_ns if self._looked_ns is not None else 0
        self._looked_ns = now_ns
        self.ns += min(away_ns, STEP_NS)
        if away_ns > LATE_NS:
            self._late.append(away_ns)

    def absent(self, now_ns: int) -> str | None:
        """Return why to give up when the last look is `PATIENCE_NS` ago; None while all is well."""
        away_ns = now_ns - self._looked_ns if self._looked_ns is not None else 0
        if away_ns <= PATIENCE_NS:
            return None
        return (
            f"the recorder's own intake has not run for {away_ns / 1e9:.1f} s; the machine is too busy: stop "
            "other programs, or record on another computer"
        )

    def take_late(self) -> list[int]:
        """Return the absences above `LATE_NS` since the last call [ns]."""
        late, self._late = self._late, []
        return late
