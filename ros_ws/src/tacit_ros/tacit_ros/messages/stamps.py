"""Time in messages: int64 nanoseconds on our side, seconds and nanoseconds on the wire."""

from __future__ import annotations

from builtin_interfaces.msg import Duration, Time
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from tacit.errors import TacitError
from tacit.streams import Kind

SECOND = 1_000_000_000


class MessageError(TacitError):
    """A message does not carry what the rig says it carries.

    Attributes:
        kind: The kind of fault, by which it is counted: `encoding`, `size`, `truncated`, `undecodable`,
            `names`, `not_finite`, or `message` for any other.
    """

    def __init__(self, text: str, kind: Kind = "message") -> None:
        super().__init__(text)
        self.kind = kind


class NotForUs(MessageError):
    """A sound message about other joints, as where two drivers share a topic: not used, and no fault."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "names")


def time_from_ns(stamp_ns: int) -> Time:
    """Return `stamp_ns` (>= 0) as a ROS time."""
    seconds, nanoseconds = divmod(int(stamp_ns), SECOND)
    return Time(sec=seconds, nanosec=nanoseconds)


def ns_from_time(stamp: Time) -> int:
    """Return a ROS time in nanoseconds."""
    return stamp.sec * SECOND + stamp.nanosec


def header(stamp_ns: int, frame_id: str = "") -> Header:
    """Return a header with `stamp_ns`."""
    return Header(stamp=time_from_ns(stamp_ns), frame_id=str(frame_id))


def header_stamp_ns(message: object) -> int:
    """Return the header stamp of a message [ns]; 0 when it has none or left it empty."""
    head = getattr(message, "header", None)
    return 0 if head is None else ns_from_time(head.stamp)


def clock(stamp_ns: int) -> Clock:
    """Return the `/clock` message of a simulated time."""
    return Clock(clock=time_from_ns(stamp_ns))


def duration(seconds: float) -> Duration:
    """Return `seconds` as a ROS duration."""
    whole, nanoseconds = divmod(round(seconds * SECOND), SECOND)
    return Duration(sec=whole, nanosec=nanoseconds)
