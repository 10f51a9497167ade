"""Controllers of ros2_control as they behave: what they refuse, hold for ever, and how they interpolate."""

from __future__ import annotations

import time

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class ForwardPositionController:
    """`forward_command_controller`: exactly as many values as joints; each holds until the next, for ever.

    Attributes:
        received: (time [s], values) of every command that was taken.
        refused: Sizes of commands that were not.
        position: The reference now (n,); None before the first command.
    """

    def __init__(self, node: Node, num_joints: int, topic: str) -> None:
        self._num_joints = num_joints
        self.received: list[tuple[float, np.ndarray]] = []
        self.refused: list[int] = []
        self.position: np.ndarray | None = None
        node.create_subscription(Float64MultiArray, topic, self._take, RELIABLE)

    def _take(self, message: Float64MultiArray) -> None:
        if len(message.data) != self._num_joints:
            self.refused.append(len(message.data))
            return
        self.position = np.array(message.data)
        self.received.append((time.monotonic(), self.position))


class JointTrajectoryController:
    """`joint_trajectory_controller`: all joints by name, rising times, an end that is not over yet.

    Attributes:
        accepted: (time [s], message) of every trajectory that was taken.
        refused: Reasons of those that were not.
    """

    def __init__(self, node: Node, joints: list[str], topic: str, position: np.ndarray) -> None:
        self._joints, self._hold = list(joints), np.array(position, dtype=np.float64)
        self.accepted: list[tuple[float, JointTrajectory]] = []
        self.refused: list[str] = []
        self._times, self._points = np.zeros(1), self._hold[None]
        node.create_subscription(JointTrajectory, topic, self._take, RELIABLE)

    def _take(self, message: JointTrajectory) -> None:
        now, reason = time.monotonic(), self._problem(message)
        if reason:
            self.refused.append(reason)
            return
        order = [list(message.joint_names).index(name) for name in self._joints]
        here = self.at(now)
        start = now if message.header.stamp.sec == 0 else now + _ahead(message)
        self._times = np.array([now, *(start + _seconds(p.time_from_start) for p in message.points)])
        self._points = np.array([here, *(np.array(p.positions)[order] for p in message.points)])
        self.accepted.append((now, message))

    def _problem(self, message: JointTrajectory) -> str:
        if sorted(message.joint_names) != sorted(self._joints):
            return f"joints {list(message.joint_names)}"
        times = [_seconds(point.time_from_start) for point in message.points]
        if not times or any(b <= a for a, b in zip(times, times[1:], strict=False)):
            return "times that do not rise"
        if any(len(point.positions) != len(self._joints) for point in message.points):
            return "a point without all positions"
        if message.header.stamp.sec and _ahead(message) + times[-1] < 0:
            return "it ends before now"
        return ""

    def at(self, now: float) -> np.ndarray:
        """Return the reference (n,) at a time: linear between points, the last one for ever."""
        return np.array([np.interp(now, self._times, column) for column in self._points.T])


def _seconds(duration: object) -> float:
    return duration.sec + 1e-9 * duration.nanosec  # type: ignore[attr-defined]


def _ahead(message: JointTrajectory) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec - time.time()
