"""The one way in: a message is decoded, judged by the intake, and handed on only where that accepts it.

Subscriptions call it with what the middleware brings, a bench with what a virtual robot sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trajectory_msgs.msg import JointTrajectory

from tacit.rig import Rig
from tacit.streams import Finding, Intake, JointReading, Trajectory, Value
from tacit_ros import messages
from tacit_ros.wire.decoders import decoder_of, has_joint_reading, joint_reading_of

LATEST_START_S = 10.0
"""A planned motion may be told to begin so much later."""
Callback = Callable[[str, int, int, Any], None]


class Hearing:
    """Hears the streams of an intake.

    Args:
        rig: Says types, sizes and names.
        intake: Judges every message; its streams are heard.
        callback: Called as (name, stamp_ns, recv_ns, value) with what the intake accepts. Image values are
            RGB (H, W, 3), or encoded (1-D) on compressed topics: `as_rgb` makes both RGB. Number values are
            float64 in the order of `names` of the stream.
        joint_readings: Values of JointState streams are then mappings of position and, where the driver
            reports them, velocity and effort.
    """

    def __init__(self, rig: Rig, intake: Intake, callback: Callback, *, joint_readings: bool = False) -> None:
        self._intake, self._callback = intake, callback
        self._decoders: dict[str, Callable[[object], Value | JointReading]] = {
            name: joint_reading_of(rig, name)
            if joint_readings and has_joint_reading(rig, name)
            else decoder_of(rig, name)
            for name in intake.counts
        }
        self._readers = {name: messages.reader_of(rig.specs[name].type) for name in intake.counts}

    def hear_bytes(self, name: str, data: bytes, recv_ns: int, heard_ns: int) -> Finding | None:
        """Take one message as it came over the wire; else as `hear`."""
        try:
            message = self._readers[name](data)
        except messages.MessageError as error:
            return self._refuse(name, error, heard_ns)
        return self.hear(name, message, recv_ns, heard_ns)

    def hear(self, name: str, message: object, recv_ns: int, heard_ns: int) -> Finding | None:
        """Take one message.

        Args:
            name: Stream.
            message: As it came.
            recv_ns: Reception on the machine's clock.
            heard_ns: Reception on the steady clock.

        Returns:
            Why it was refused; None where it was handed on, or is about other joints than ours.
        """
        try:
            value = self._decoders[name](message)
        except messages.NotForUs:
            return None
        except messages.MessageError as error:
            return self._refuse(name, error, heard_ns)
        header_ns = messages.header_stamp_ns(message) if hasattr(message, "header") else None
        begins_ns = 0
        if isinstance(message, JointTrajectory) and (isinstance(value, Trajectory) or not header_ns):
            # That stamp says when to begin (empty: at once), not when anything was measured.
            begins_ns, header_ns = header_ns or 0, None
        stamp_ns = self._intake.take(name, header_ns, recv_ns, value, heard_ns)
        if stamp_ns is None:
            return self._intake.problems[name]
        if isinstance(value, Trajectory) and begins_ns:
            value = value.starting(begins_ns - stamp_ns)
            found = _beside_time(value)
            if found is not None:
                self._intake.refuse(name, found.kind, found.text, heard_ns)
                return found
        self._callback(name, stamp_ns, recv_ns, value)
        return None

    def _refuse(self, name: str, error: messages.MessageError, heard_ns: int) -> Finding:
        self._intake.refuse(name, error.kind, str(error), heard_ns)
        return Finding(error.kind, str(error))


def _beside_time(motion: Trajectory) -> Finding | None:
    """Return why a planned motion cannot be followed: it is over, or begins at a time nobody waits for."""
    begins_s, ends_s = motion.times_ns[0] / 1e9, motion.times_ns[-1] / 1e9
    if ends_s >= 0 and begins_s <= LATEST_START_S:
        return None
    text = (
        f"a trajectory from {begins_s:+.2f} s to {ends_s:+.2f} s after its reception; expected one that "
        f"begins within {LATEST_START_S:g} s and is not over: set the clocks alike, or leave its stamp empty"
    )
    return Finding("stamp_ahead" if begins_s > 0 else "message", text)
