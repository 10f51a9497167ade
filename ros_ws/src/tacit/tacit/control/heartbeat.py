"""A heartbeat: somebody who must go on saying that all is well, or the robot stops.

Silence cannot be told from a cut cable, a killed process or a sleeping operator: it counts as all of them.
Pure: the present is passed in, on a clock that nobody sets.
"""

from __future__ import annotations

from tacit.control.safety import Fault
from tacit.rig import HeartbeatSpec


class Heartbeat:
    """Follows one heartbeat.

    Args:
        spec: How long it may be silent, and what its loss does.
    """

    def __init__(self, spec: HeartbeatSpec) -> None:
        self._spec = spec
        self._last: tuple[int, bool] | None = None

    def beat(self, now_ns: int, well: bool = True) -> None:
        """Take one beat; `well` is False where it says itself that something is wrong."""
        self._last = (now_ns, well)

    def fault(self, now_ns: int) -> Fault | None:
        """Return why the robot must not move at `now_ns`; one that latches where the rig says `estop`."""
        problem = self._problem(now_ns)
        return Fault("heartbeat", problem, latches=self._spec.on_loss == "estop") if problem else None

    def _problem(self, now_ns: int) -> str:
        topic, limit_ms = self._spec.topic, self._spec.timeout_ms
        if self._last is None:
            return f"nothing heard on {topic} yet: is its sender running?"
        heard_ns, well = self._last
        if not well:
            return f"{topic} says false"
        age_ms = (now_ns - heard_ns) / 1e6
        return "" if age_ms <= limit_ms else f"{topic} is {age_ms:.0f} ms old, allowed {limit_ms:.0f} ms"
