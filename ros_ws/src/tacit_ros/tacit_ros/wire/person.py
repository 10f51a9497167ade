"""The devices of a person who moves the robot, as topics: keys, pad, twist, leader arm.

`/teleop/keys` (String: the keys that are down), `/joy` (Joy), `/teleop/twist` (TwistStamped), and
`/leader/joint_states` (JointState); remap them to what the drivers publish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import String

from tacit.geometry.transforms import FloatArray
from tacit.rig import QosSpec, Rig
from tacit.teleop import Event, Person, TeleopSettings
from tacit.teleop.devices import PADS
from tacit.teleop.person import MOST_ANGULAR, MOST_LINEAR
from tacit.teleop.wish import FRAMES
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.observations import heard_ns
from tacit_ros.wire.parameters import parameter

KEYS, JOY, TWIST, LEADER = "/teleop/keys", "/joy", "/teleop/twist", "/leader/joint_states"
TELL_S = 2.0


@dataclass(frozen=True)
class PersonParameters:
    """Parameters of every node that a person may move the robot through; fixed once it runs."""

    arm: str = parameter("", "Arm that is jogged; empty for the only one.")
    jog_frame: str = parameter("world", "Axes of keys and pad.", choices=FRAMES)
    jog_linear: float = parameter(0.1, "Full speed of the tool [m/s].", above=0, high=MOST_LINEAR)
    jog_angular: float = parameter(0.6, "Full turning rate of the tool [rad/s].", above=0, high=MOST_ANGULAR)
    jog_gripper: float = parameter(0.1, "Full speed of the opening [m/s].", above=0, high=MOST_LINEAR)
    pad: str = parameter("gamepad", "Layout of /joy.", choices=tuple(PADS))
    leader: str = parameter(
        "", "Leader arm, as `joint1=lead1*-1+0.5,...`; empty: it names its joints as the rig does."
    )
    leader_tolerance: float = parameter(
        0.1, "How near the robot's pose a leader must be to be followed [rad, m].", above=0, high=1
    )

    @property
    def teleop_settings(self) -> TeleopSettings:
        """They, as the person's settings."""
        return TeleopSettings(
            arm=self.arm,
            frame=self.jog_frame,  # type: ignore[arg-type]  # one of the parameter's choices
            linear=self.jog_linear,
            angular=self.jog_angular,
            gripper=self.jog_gripper,
            pad=self.pad,
            leader=self.leader,
            leader_tolerance=self.leader_tolerance,
        )


class PersonTopics:
    """Hears the devices; a `tacit.control.players.Mover`.

    Args:
        node: The owner of the subscriptions.
        rig: The robot.
        settings: Speeds, frames, devices.
        on_event: Told, on the thread of the executor, what is asked for beside motion.

    Raises:
        TacitError: The settings do not fit the rig.
    """

    def __init__(
        self, node: Node, rig: Rig, settings: TeleopSettings, on_event: Callable[[Event], None]
    ) -> None:
        self._node, self._on_event = node, on_event
        self.person = Person(rig, settings)
        stream = qos.profile(QosSpec(reliability="best_effort", depth=5))  # hears reliable ones as well
        node.create_subscription(String, KEYS, self._press, 10)
        node.create_subscription(Joy, JOY, self._joy, stream)
        node.create_subscription(TwistStamped, TWIST, self._twist, stream)
        node.create_subscription(JointState, LEADER, self._lead, stream)

    def begin(self) -> None:
        """Forget what was held before: a leader must match anew."""
        self.person.begin()

    def target(self, position: FloatArray, dt: float) -> FloatArray | None:
        """Return where to be `dt` [s] after the command `position` (S,); None to stand still."""
        return self.person.target(position, dt, time.monotonic_ns())

    def _press(self, message: String, info: Mapping[str, Any]) -> None:
        self._ask(self.person.press(str(message.data), heard_ns(info["received_timestamp"])))

    def _joy(self, message: Joy, info: Mapping[str, Any]) -> None:
        at_ns = heard_ns(info["received_timestamp"])
        self._ask(self.person.joy(list(message.axes), list(message.buttons), at_ns))

    def _twist(self, message: TwistStamped, info: Mapping[str, Any]) -> None:
        values = messages.read_named(message, "geometry_msgs/msg/TwistStamped", ())
        frame = "tool" if str(message.header.frame_id) == "tool" else "world"
        if not self.person.twist(values, frame, heard_ns(info["received_timestamp"])):  # type: ignore[arg-type]
            self._tell(f"{TWIST}: a twist that is not finite; it counts as none")

    def _lead(self, message: JointState, info: Mapping[str, Any]) -> None:
        try:
            joints = messages.read_named(message, "sensor_msgs/msg/JointState", self.person.leads)
        except messages.MessageError as problem:
            self._tell(f"{LEADER}: {problem}")
            return
        if not self.person.lead(joints, heard_ns(info["received_timestamp"])):  # type: ignore[arg-type]
            self._tell(f"{LEADER}: joints that are not finite; the leader counts as silent")

    def _ask(self, events: list[Event]) -> None:
        for event in events:
            self._on_event(event)

    def _tell(self, text: str) -> None:
        self._node.get_logger().warning(text, throttle_duration_sec=TELL_S)
