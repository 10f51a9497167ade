"""What the robot says of itself: whether it may be moved at all, and how fast it moves.

A robot that is disabled, in fault or in a protective stop takes no commands, or jumps to the newest when it
is released. Read from the rig's streams of role `robot_state`; a rig without them says nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tacit.control.safety import Fault
from tacit.rig import Rig
from tacit.streams import Value

ROUNDING = 1e-3
"""A robot at full speed may say 1.0000001."""

MISSED_MESSAGES = 3
"""A stream of robot state is silent after so many of its periods, and not before the joints' limit of age."""


class RobotState:
    """The newest values of every `robot_state` stream of a rig.

    Args:
        rig: Says which streams, names and rates.

    Attributes:
        names: The streams to hear.
        values: The newest value by name (`enabled`, `fault`, `protective_stop`, `speed_scaling`). Where
            several streams say the same name, as those of two arms do, the value that speaks most against
            moving.
    """

    def __init__(self, rig: Rig) -> None:
        self._specs = rig.robot_states
        self._joint_age_ms = rig.safety.joint_age_ms
        self.names = tuple(self._specs)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the robot is heard anew."""
        self.values: dict[str, float] = {}
        self._said: dict[str, dict[str, float]] = {}
        self._received_ns: dict[str, int] = {}

    def store(self, stream: str, received_ns: int, value: Value) -> None:
        """Take one message: values (n,) in the order of the stream's names."""
        numbers = np.asarray(value, dtype=np.float64).reshape(-1)
        # New ones: another thread may be going through the old ones.
        self._said = self._said | {stream: self._specs[stream].robot_state(numbers.tolist())}
        self.values = _strictest(self._said.values())
        self._received_ns = self._received_ns | {stream: received_ns}

    def silence(self, now_ns: int) -> Fault | None:
        """Return which stream has not been heard for long, by the clock of `store`."""
        for name, received_ns in self._received_ns.items():
            spec = self._specs[name]
            if spec.qos.durability == "transient_local":
                continue  # it speaks on change only
            limit_ms = max(self._joint_age_ms, MISSED_MESSAGES * 1e3 / spec.rate_hz)
            age_ms = (now_ns - received_ns) / 1e6
            if age_ms > limit_ms:
                return Fault("robot_state", f"{name} is {age_ms:.0f} ms old, allowed {limit_ms:.0f} ms")
        return None

    def fault(self) -> Fault | None:
        """Return why the robot must not be moved: as it says itself, or because it has said nothing yet."""
        unheard = [name for name in self.names if name not in self._received_ns]
        if unheard:
            return Fault(
                "robot_state", f"no message yet on {', '.join(unheard)}: is the robot ready to move?"
            )
        problem = next((text for name, value in self.values.items() if (text := _problem(name, value))), "")
        return Fault("robot_state", problem) if problem else None

    @property
    def speed_scale(self) -> float:
        """Part of the velocity limits that the robot uses now, 0 to 1; 1 where it does not say."""
        scale = self.values.get("speed_scaling", 1.0)
        return float(np.clip(scale, 0.0, 1.0)) if np.isfinite(scale) else 0.0


def _strictest(said: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Merge what several streams say: a value that is a problem goes before one that is none, a slower speed
    before a faster one."""
    result: dict[str, float] = {}
    for values in said:
        for name, value in values.items():
            before = result.get(name)
            if before is None or (not _problem(name, before) and (_problem(name, value) or value < before)):
                result[name] = value
    return result


def _problem(name: str, value: float) -> str:
    if not np.isfinite(value):
        return f"{name} is {value}: the robot does not say whether it is ready"
    if name == "enabled":
        return "" if value else "the robot is not enabled; enable it, then call ~/start"
    if name == "speed_scaling":
        if 0 < value <= 1 + ROUNDING:
            return ""
        meaning = "the robot is paused" if value == 0 else "expected 0 to 1, as a part and not in percent"
        return f"speed_scaling is {value:g}: {meaning}"
    return f"the robot reports {name} {value:g}; clear it, then call ~/start" if value else ""
