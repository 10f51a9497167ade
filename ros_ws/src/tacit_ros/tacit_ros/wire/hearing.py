"""The one way in: a message is decoded, judged by the intake, and handed on only where that accepts it.

Subscriptions call it with what the middleware brings, a bench with what a virtual robot sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trajectory_msgs.msg import JointTrajectory

from tacit.rig import Rig
from tacit.streams import Finding, Intake, JointReading, Value
from tacit_ros import messages
from tacit_ros.wire.decoders import decoder_of, has_joint_reading, joint_reading_of

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
            self._intake.refuse(name, error.kind, str(error), heard_ns)
            return Finding(error.kind, str(error))
        header_ns = messages.header_stamp_ns(message) if hasattr(message, "header") else None
        if header_ns == 0 and isinstance(message, JointTrajectory):  # an empty stamp there says "from now on"
            header_ns = None
        stamp_ns = self._intake.take(name, header_ns, recv_ns, value, heard_ns)
        if stamp_ns is None:
            return self._intake.problems[name]
        self._callback(name, stamp_ns, recv_ns, value)
        return None
