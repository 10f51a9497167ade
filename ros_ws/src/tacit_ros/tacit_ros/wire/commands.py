"""Commands out: canonical targets to the rig's command topics, in driver units, by joint name."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState

from tacit.control.safety import MotionLimiter
from tacit.geometry.transforms import FloatArray
from tacit.rig import CommandSpec, Rig
from tacit.rig.units import vector_from_canonical
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.upsampled import Pace, UpsampledOutput


class CommandPublisher:
    """Publishes one command vector to every command topic of a rig, or to `~/shadow_command`.

    Topics with an `output_hz` get a smooth path through the commands, from threads of their own, where a
    `pace` is given and the commands' limiter is told.

    Args:
        node: The owner.
        rig: Says topics, types, names and units.
        period_s: Control period [s], the time to reach a trajectory point.
        lockstep: Time waits for each command, so that a late one must arrive all the same.
        pace: What threads of upsampled outputs run on; None: every topic has the rate of the commands.
    """

    def __init__(
        self, node: Node, rig: Rig, period_s: float, lockstep: bool = False, pace: Pace | None = None
    ) -> None:
        self._rig, self._period_s, self._lockstep = rig, period_s, lockstep
        self._shadow: Publisher = node.create_publisher(JointState, "~/shadow_command", 10)
        self._publishers = {name: self._open(node, spec, pace) for name, spec in rig.commands.items()}
        fast = {name for name, spec in rig.commands.items() if spec.output_hz and pace is not None}
        self._outputs = [(rig.commands[n], self._publishers[n]) for n in rig.commands if n not in fast]
        self.upsampled: dict[str, UpsampledOutput] = {}
        if pace is not None:
            for name in (name for name in rig.commands if name in fast):
                self.upsampled[name] = UpsampledOutput(
                    node, rig, rig.commands[name], self._publishers[name], period_s, pace
                )

    def _open(self, node: Node, spec: CommandSpec, pace: Pace | None) -> Publisher:
        slow_hz = 1.0 / self._period_s  # a lifespan counts the longest gap, which upsampling does not widen
        profile = qos.command(spec.qos, None if self._lockstep else slow_hz)
        return node.create_publisher(messages.message_class(spec.type), spec.topic, profile)

    @property
    def topics(self) -> dict[str, str]:
        """The topic of each command stream, with remaps applied."""
        return {name: publisher.topic_name for name, publisher in self._publishers.items()}

    def publish(
        self,
        command: FloatArray,
        stamp_ns: int,
        dry_run: bool,
        limiter: MotionLimiter | None = None,
        *,
        braking: bool = False,
    ) -> None:
        """Send `command` (S,) in rig order [rad, gripper m]; a dry run goes to the shadow topic alone.

        Args:
            command: Within the limits.
            stamp_ns: Its time.
            dry_run: Whether the robot must not move.
            limiter: What limited it, for upsampled outputs, which need its speed; None: they jump to it.
            braking: The robot is to come to rest: upsampled outputs do so at once, by themselves.
        """
        if dry_run:
            raw = vector_from_canonical(self._rig, self._rig.state_names, command)
            self._shadow.publish(messages.joint_state(self._rig.state_names, raw, stamp_ns))
            return
        for spec, publisher in self._outputs:
            raw = vector_from_canonical(self._rig, spec.names, command[self._rig.index_of(spec.names)])
            publisher.publish(messages.build_named(spec.type, spec.names, raw, stamp_ns, self._period_s))
        for output in self.upsampled.values():
            if braking:
                output.brake()
            elif limiter is not None:
                output.follow(command, limiter)

    def settle(self) -> None:
        """No command comes any more: upsampled outputs go to the last one. To be called at each such tick."""
        for output in self.upsampled.values():
            output.settle()

    def brake(self) -> None:
        """Let upsampled outputs come to rest at once."""
        for output in self.upsampled.values():
            output.brake()

    def come_to_rest(self, deadline: float) -> None:
        """Return when upsampled outputs are at rest, or at `deadline` (monotonic) [s]."""
        for output in self.upsampled.values():
            output.come_to_rest(deadline)

    def close(self) -> None:
        """Stop and join the threads of upsampled outputs."""
        for output in self.upsampled.values():
            output.close()
