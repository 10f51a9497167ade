"""Node `description`: the rig for RViz and tf: `/robot_description`, `/tf_static` and `/tf`.

Frames are those of `tacit.rig.frames`, from the measured state, so that drivers of other signs, offsets and
units show right. Where tf2_msgs is missing (a plain venv), only the description is published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from tacit.control.heard import HeardStreams
from tacit.errors import MissingDependencyError
from tacit.rig import load_rig
from tacit.rig.frames import RigFrame, frames_of, robot_description
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node

TF_DEPTH = 100  # as the listeners of tf2 ask for


@dataclass(frozen=True)
class DescriptionParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    tf_hz: float = parameter(30.0, "How often /tf is published at most.", above=0, high=200)


class DescriptionNode(Node):
    """Tells other programs where everything in the rig is."""

    def __init__(self) -> None:
        """Publish the description, and hear the states.

        Raises:
            TacitError: The rig or a parameter is wrong.
        """
        super().__init__("description")
        settings = declare(self, DescriptionParameters)
        rig = load_rig(settings.rig)
        self._names, frames = rig.state_names, frames_of(rig)
        self._moving = [frame for frame in frames if frame.state]
        self._description = self.create_publisher(String, "/robot_description", qos.latched())
        self._description.publish(messages.string(robot_description(rig)))
        self._inputs = HeardStreams(rig, (), lambda: self.get_clock().now().nanoseconds)
        self._told_ns = 0
        try:
            self._message: Any = messages.tf_message_class()
        except MissingDependencyError as problem:
            self.get_logger().warning(f"no /tf: {problem}; /robot_description is there")
            return
        self._tf = self.create_publisher(self._message, "/tf", QoSProfile(depth=TF_DEPTH))
        self._static = self.create_publisher(self._message, "/tf_static", qos.latched())
        now_ns = self.get_clock().now().nanoseconds
        self._static.publish(
            self._message(transforms=transforms([f for f in frames if not f.state], {}, now_ns))
        )
        self._streams = RigSubscriptions(self, rig, self._inputs.intake, self._inputs.store)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / settings.tf_hz, self._tell, clock=steady)

    def _tell(self) -> None:
        state, stamp_ns = self._inputs.measured(), self._inputs.newest_stamp_ns()
        if state is None or stamp_ns == self._told_ns:  # what is silent grows old in tf, as it should
            return
        self._told_ns = stamp_ns
        values = dict(zip(self._names, state.tolist(), strict=True))
        self._tf.publish(self._message(transforms=transforms(self._moving, values, stamp_ns)))


def transforms(frames: list[RigFrame], values: dict[str, float], stamp_ns: int) -> list[Any]:
    """Return the transforms of frames for the values of the states that move them [rad, m]."""
    return [
        messages.transform(frame.at(values.get(frame.state, 0.0)), stamp_ns, frame.parent, frame.name)
        for frame in frames
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal comes; returns the exit code."""
    return run_node(DescriptionNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
