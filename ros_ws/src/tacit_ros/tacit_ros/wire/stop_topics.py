"""What may stop the robot from outside: an emergency stop topic, and a heartbeat that must not end.

For every node of ours that moves a robot. Software on a network: not safety-rated, no matter how it is wired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Bool

from tacit.control.heartbeat import Heartbeat
from tacit.control.safety import Fault
from tacit.rig import QosSpec, SafetySpec
from tacit_ros import messages
from tacit_ros.wire import qos

EVERY_WRITER = (
    QosSpec(reliability="reliable", durability="transient_local"),  # the button was pressed before we came
    QosSpec(reliability="reliable", durability="volatile"),
    QosSpec(reliability="best_effort", durability="volatile"),
)
"""A reader hears only writers that offer as much as it asks for; a stop must be heard from all of them."""


class StopTopics:
    """Hears the emergency stop and the heartbeat of a rig.

    A `true` on the emergency stop topic calls `estop` at once. `false` only takes that word back: it never
    releases anything, but without it, `pressed` stays true as long as whoever said `true` is there.

    Args:
        node: Hears the topics.
        safety: Names the topics; see `SafetySpec.estop_topic` and `SafetySpec.heartbeat`.
        estop: Stops and latches; called on the thread of the executor.
    """

    def __init__(self, node: Node, safety: SafetySpec, estop: Callable[[Fault], object]) -> None:
        self._node, self._estop = node, estop
        self._saying_stop: set[bytes] = set()
        self._buttons = [self._hear_button(safety.estop_topic, qos.profile(spec)) for spec in EVERY_WRITER]
        self.heartbeat = None if safety.heartbeat is None else Heartbeat(safety.heartbeat)
        if safety.heartbeat is not None:
            kind = messages.message_class(safety.heartbeat.type)
            self._listen(
                kind, safety.heartbeat.topic, self._hear_beat, qos.profile(EVERY_WRITER[-1], depth=1)
            )

    @property
    def topic(self) -> str:
        """The emergency stop topic, with namespace and remaps applied."""
        return str(self._buttons[0].topic_name)

    def pressed(self) -> str:
        """Return which node still says stop, and what to do; "" where none does."""
        writers = self._node.get_publishers_info_by_topic(self.topic)
        holding = [w.node_name for w in writers if bytes(w.endpoint_gid) in self._saying_stop]
        if not holding:
            return ""
        return (
            f"{', '.join(holding)} still says true on {self.topic}: release the button (publish false), then"
        )

    def fault(self) -> Fault | None:
        """Return why the robot must not move now for want of a heartbeat."""
        return None if self.heartbeat is None else self.heartbeat.fault(time.monotonic_ns())

    def _hear_button(self, topic: str, profile: QoSProfile) -> Any:
        return self._listen(Bool, topic, self._press, profile)

    def _listen(self, kind: type, topic: str, callback: Callable[..., None], profile: QoSProfile) -> Any:
        # Without the default events: of three readers two do not match a writer, and that is as it should be.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        return self._node.create_subscription(kind, topic, callback, profile, event_callbacks=quiet)

    def _press(self, message: Bool, info: Mapping[str, Any]) -> None:
        writer = bytes(info["publisher_gid"]["data"])
        if not message.data:
            self._saying_stop.discard(writer)
            return
        self._saying_stop.add(writer)
        self._estop(Fault("estop", f"true came on {self.topic}"))

    def _hear_beat(self, message: object, info: Mapping[str, Any]) -> None:
        assert self.heartbeat is not None
        self.heartbeat.beat(time.monotonic_ns(), bool(getattr(message, "data", True)))
