"""Commands out: canonical targets to the rig's command topics, in driver units, by joint name."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState

from tacit.geometry.transforms import FloatArray
from tacit.rig import CommandSpec, Rig
from tacit.rig.units import vector_from_canonical
from tacit_ros import messages
from tacit_ros.wire import qos


class CommandPublisher:
    """Publishes one command vector to every command topic of a rig, or to `~/shadow_command`.

    Args:
        node: The owner.
        rig: Says topics, types, names and units.
        period_s: Control period [s], the time to reach a trajectory point.
        lockstep: Time waits for each command, so that a late one must arrive all the same.
    """

    def __init__(self, node: Node, rig: Rig, period_s: float, lockstep: bool = False) -> None:
        self._rig, self._period_s = rig, period_s
        rate_hz = None if lockstep else 1.0 / period_s
        self._shadow: Publisher = node.create_publisher(JointState, "~/shadow_command", 10)
        self._outputs: list[tuple[CommandSpec, list[int], Publisher]] = [
            (
                spec,
                rig.index_of(spec.names),
                node.create_publisher(
                    messages.message_class(spec.type), spec.topic, qos.command(spec.qos, rate_hz)
                ),
            )
            for spec in rig.commands.values()
        ]

    @property
    def topics(self) -> dict[str, str]:
        """The topic of each command stream, with remaps applied."""
        return {
            name: publisher.topic_name
            for name, (_, _, publisher) in zip(self._rig.commands, self._outputs, strict=True)
        }

    def publish(self, command: FloatArray, stamp_ns: int, dry_run: bool) -> None:
        """Send `command` (S,) in rig order [rad, gripper m]; a dry run goes to the shadow topic alone."""
        names = self._rig.state_names
        if dry_run:
            raw = vector_from_canonical(self._rig, names, command)
            self._shadow.publish(messages.joint_state(names, raw, stamp_ns))
            return
        for spec, index, publisher in self._outputs:
            raw = vector_from_canonical(self._rig, spec.names, command[index])
            publisher.publish(messages.build_named(spec.type, spec.names, raw, stamp_ns, self._period_s))
