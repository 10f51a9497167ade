"""What a robot says, newest message per stream, and what speaks against moving it: silence, age, doubt.

Callbacks only store. `inputs` aligns the same streams for a bundle; who moves the robot by hand needs no more
than this. No rclpy here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tacit.control.robot_state import MISSED_MESSAGES, RobotState
from tacit.control.safety import Fault, check_age, first_fault
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.streams import Intake, Value

OFFSET_WINDOW = 50
"""Messages whose delay is looked back on to place foreign stamps on the steady clock: a fifth of a second,
so that a simulator which paused (to reset) is followed again at once."""

HOLDING = ("not_finite", "out_of_limits", "jump", "clock_step")
"""Refusals that hold the robot at once; others cost their sample, and silence holds if they go on."""

REFUSED_AGE_MS, REFUSED_PERIODS = 100.0, 2.5
"""A stream whose messages are being refused is waited for so long at most, and for so many of its periods:
one odd message costs itself, two in a row are a fault that has been seen."""

SAME_CLOCK_NS = 10_000_000_000
"""Stamps further than this from the node's clock come from another clock: a simulator without /clock."""


@dataclass(frozen=True)
class Newest:
    """The newest message of a stream: header stamp, reception on the steady clock, value."""

    stamp_ns: int
    received_ns: int
    value: Value


class HeardStreams:
    """Holds the newest messages of streams of a rig.

    Args:
        rig: The robot.
        names: Which streams to hear, beside every state and what the robot says of itself.
        node_time_ns: The node's clock (ROS time).
        steady_ns: The clock that measures ages: the steady one, or simulated time where that rules.
        simulated: Stamps may be of a simulated clock; by default as the rig says.

    Attributes:
        names: Everything that is heard.
        intake: Judges what comes in, before it is stored here.
        newest: The newest message per stream.
        robot: What the robot says of itself.
        watched: Asked, beside the streams, for what speaks against acting: who else publishes the topics.
    """

    def __init__(
        self,
        rig: Rig,
        names: Iterable[str],
        node_time_ns: Callable[[], int],
        steady_ns: Callable[[], int] = time.monotonic_ns,
        *,
        simulated: bool | None = None,
    ) -> None:
        self._rig = rig
        self._node_time_ns, self._steady_ns = node_time_ns, steady_ns
        self._states = tuple(rig.states)
        needed = {*names, *self._states}
        self._listened = tuple(name for name in rig.specs if name in needed)
        self.robot = RobotState(rig)
        self.names = (*self._listened, *self.robot.names)
        self.intake = Intake(rig, self.names, simulated=simulated)
        self._offsets_ns: deque[int] = deque(maxlen=OFFSET_WINDOW)
        self.newest: dict[str, Newest] = {}
        self.watched: list[Callable[[], Fault | None]] = []

    def store(self, name: str, stamp_ns: int, recv_ns: int, value: Value) -> None:
        """Keep one message; `recv_ns` of the middleware is replaced by the steady clock."""
        self._keep(name, stamp_ns, self._steady_ns(), value)

    def _keep(self, name: str, stamp_ns: int, received_ns: int, value: Value) -> None:
        if name in self.robot.names:
            self.robot.store(name, received_ns, value)
            return
        before = self.newest.get(name)
        if before is None or stamp_ns != before.stamp_ns:  # a repeated stamp is no news: it ages
            self._offsets_ns.append(stamp_ns - received_ns)
            self.newest[name] = Newest(stamp_ns, received_ns, value)

    def hear(self, name: str, stamp_ns: int, value: Value) -> None:
        """Judge and keep a message that came when it was stamped, as those of a simulated cell do."""
        if self.intake.take(name, stamp_ns, stamp_ns, value, stamp_ns) is not None:
            self.store(name, stamp_ns, stamp_ns, value)

    def forget(self) -> None:
        """Forget everything that was heard: the cure after a clock that was set anew."""
        self._offsets_ns.clear()
        self.newest = {}
        self.robot.reset()
        self.intake.reset()

    def commanded(self, command: FloatArray) -> None:
        """Note what the joints are told (S,): a measured joint must follow."""
        self.intake.commanded(dict(zip(self._rig.state_names, command.tolist(), strict=True)))

    def now_ns(self) -> int:
        """Return the present on the clock of the stamps.

        That is the node's clock, or, where stamps lie far from it, the steady clock shifted by the
        least delay of late messages.
        """
        return self._present()[0]

    def _present(self) -> tuple[int, bool]:
        """Return the present on the clock of the stamps, and whether that is the node's own clock."""
        node_ns = self._node_time_ns()
        offset_ns = max(self._offsets_ns.copy(), default=None)  # one look: a reset may come in between
        if offset_ns is None:
            return node_ns, True
        shifted_ns = self._steady_ns() + offset_ns
        return (node_ns, True) if abs(node_ns - shifted_ns) <= SAME_CLOCK_NS else (shifted_ns, False)

    def steady_now_ns(self) -> int:
        """Return the present on the clock that measures ages."""
        return self._steady_ns()

    def newest_stamp_ns(self) -> int:
        """Return the latest stamp heard on any stream; 0 before the first."""
        return max((newest.stamp_ns for newest in list(self.newest.values())), default=0)

    def measured(self) -> FloatArray | None:
        """Return the newest state (S,) in rig order, not aligned; None before all streams were heard."""
        newest = self.newest  # a reset on another thread puts an empty one in its place
        if any(name not in newest for name in self._states):
            return None
        return self._state({name: newest[name].value for name in self._states})

    def silence_fault(self) -> Fault | None:
        """Return which stream has gone silent by the steady clock, and why; or whose stamps are off."""
        return self._silence_of(self._listened)

    def person_fault(self, check_silence: bool = True) -> Fault | None:
        """Return what speaks against a person moving the robot: the eyes of a policy are not needed."""
        doubt = self._doubt_of(self._states)
        return doubt or (self._silence_of(self._states) if check_silence else None)

    def doubt(self) -> Fault | None:
        """Return what speaks now against acting on the inputs, whatever a single tick shows."""
        return self._doubt_of(self.names)

    def ages_ms(self) -> dict[str, float]:
        """Return time since the last reception per stream [ms]."""
        now_ns = self._steady_ns()
        return {name: (now_ns - n.received_ns) / 1e6 for name, n in list(self.newest.items())}

    def finding_fault(self) -> Fault | None:
        """Return what the intake doubts, or keeps refusing, on a stream that decides where the robot goes."""
        return self._finding_of(self.names)

    def _finding_of(self, names: Iterable[str]) -> Fault | None:
        findings = self.intake.findings()
        for name in names:
            found = findings.get(name)
            if found is not None and (not found.refused or found.kind in HOLDING):
                return Fault(found.kind, f"{name}: {found.text}")
        return None

    def _doubt_of(self, names: Iterable[str]) -> Fault | None:
        return self._finding_of(names) or self.robot.fault() or first_fault(ask() for ask in self.watched)

    def _silence_of(self, names: Iterable[str]) -> Fault | None:
        now_ns = self._steady_ns()
        silent = first_fault(self._silence(name, now_ns) for name in names)
        return silent or self._stamps_of_states() or self.robot.silence(now_ns)

    def _stamps_of_states(self) -> Fault | None:
        """Judge the stamps of the measured state like those of images: alignment hides how old they are.

        Only on the node's own clock: where another rules, the present is a guess, and reception must do.
        """
        now_ns, is_own = self._present()
        if not is_own:
            return None
        newest = ((name, self.newest.get(name)) for name in self._states)
        return first_fault(
            check_age(name, heard.stamp_ns - self._latency_ns(name), now_ns, self._age_limit_ms(name))
            for name, heard in newest
            if heard is not None
        )

    def _age_limit_ms(self, name: str) -> float:
        """A slow stream of state, such as a gripper's at 20 Hz, may miss messages as a fast one may."""
        safety = self._rig.safety
        if name not in self._states:
            return safety.image_age_ms
        return max(safety.joint_age_ms, MISSED_MESSAGES * 1e3 / self._rig.specs[name].rate_hz)

    def _latency_ns(self, name: str) -> int:
        return round(self._rig.specs[name].latency_ms * 1e6)

    def _silence(self, name: str, now_ns: int) -> Fault | None:
        newest = self.newest.get(name)
        if newest is None:
            return self._refusal(name) or Fault("missing", f"no message yet on {name}")
        limit_ms = self._age_limit_ms(name)
        refused_ms = max(REFUSED_AGE_MS, REFUSED_PERIODS * 1e3 / self._rig.specs[name].rate_hz)
        if check_age(name, newest.received_ns, now_ns, min(limit_ms, refused_ms)) is None:
            return None
        return self._refusal(name) or check_age(name, newest.received_ns, now_ns, limit_ms)

    def _refusal(self, name: str) -> Fault | None:
        """Return why messages of a stream are refused now: the cause where it seems silent."""
        found = self.intake.findings().get(name)
        return None if found is None else Fault(found.kind, f"{name}: {found.text}")

    def _state(self, values: dict[str, object]) -> FloatArray:
        state = np.full(len(self._rig.state_names), np.nan)
        for name, value in values.items():
            state[self._rig.index_of(self._rig.streams[name].names)] = np.asarray(value, dtype=np.float64)
        return state
