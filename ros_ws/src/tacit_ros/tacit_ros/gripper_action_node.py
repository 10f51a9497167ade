"""Node `gripper_action`: a rig's gripper command as goals of a GripperCommand action (Robotiq and others).

Everybody publishes the gripper's command on its topic, as any other, and it is recorded there; this node
alone speaks to the action server. `control_msgs` is not on PyPI: it comes with a ROS installation.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.parameter import Parameter

from tacit.errors import RigError, did_you_mean
from tacit.rig import CommandSpec, Rig, load_rig
from tacit_ros import messages
from tacit_ros.messages import MessageError
from tacit_ros.wire import qos
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node

ACTION = "control_msgs/action/GripperCommand"


@dataclass(frozen=True)
class GripperActionParameters:
    """Parameters of the node."""

    rig: str = parameter("ur5e", "Shipped rig or path of a rig.yaml.")
    command: str = parameter("", "Command of the rig with the gripper alone; may be left out where one is.")
    action: str = parameter("/gripper_controller/gripper_cmd", "Name of the action.")
    max_effort: float = parameter(0.0, "Greatest effort, in the unit of the server; 0: its own.", low=0)
    step: float = parameter(0.002, "Least change that is a new goal, in the driver's unit.", above=0)
    rate_hz: float = parameter(10.0, "Most goals per second: each ends the one before.", above=0, high=50)


class Goals:
    """Decides which values of a stream become goals: changes, and no more than so many per second.

    Args:
        step: Least change that is a new goal.
        period_s: Least time between two [s].
    """

    def __init__(self, step: float, period_s: float) -> None:
        self._step, self._period_s = step, period_s
        self._sent: float | None = None
        self._sent_s = -np.inf
        self._wanted: float | None = None

    def want(self, value: float) -> None:
        """Take a value of the stream; one that is no number is none."""
        if np.isfinite(value):
            self._wanted = value

    def due(self, now: float) -> float | None:
        """Return the goal to send at `now` [s]; the last value of a stream is never left out for good."""
        wanted, sent = self._wanted, self._sent
        if wanted is None or now - self._sent_s < self._period_s:
            return None
        if sent is not None and abs(wanted - sent) < self._step:
            return None
        self._sent, self._sent_s = wanted, now
        return wanted

    def refused(self) -> None:
        """The server has not taken the last goal: it is sent again."""
        self._sent = None


class GripperActionNode(Node):
    """Sends goals.

    Raises:
        TacitError: Rig or parameters are wrong, or `control_msgs` is not installed.
    """

    def __init__(
        self,
        parameter_overrides: list[Parameter] | None = None,
        make_client: Callable[[Node, type, str], Any] = ActionClient,
    ) -> None:
        super().__init__("gripper_action", parameter_overrides=parameter_overrides)
        self._settings = declare(self, GripperActionParameters)
        rig = load_rig(self._settings.rig)
        self._spec = gripper_command(rig, self._settings.command)
        self._kind: Any = messages.message_class(ACTION)
        self._goals = Goals(self._settings.step, 1 / self._settings.rate_hz)
        self._client = make_client(self, self._kind, self._settings.action)
        kind = messages.message_class(self._spec.type)
        self.create_subscription(kind, self._spec.topic, self._hear, qos.profile(self._spec.qos, depth=1))
        self.create_timer(0.5 / self._settings.rate_hz, self._send)

    def _hear(self, message: object) -> None:
        try:
            value = messages.read_named(message, self._spec.type, self._spec.names)
        except MessageError as error:
            self.get_logger().error(f"{self._spec.topic}: {error}", throttle_duration_sec=1.0)
            return
        self._goals.want(float(np.asarray(value).reshape(-1)[-1]))
        self._send()

    def _send(self) -> None:
        if not self._client.server_is_ready():
            self.get_logger().warning(f"no server of {self._settings.action} yet", throttle_duration_sec=5.0)
            return
        value = self._goals.due(time.monotonic())
        if value is None:
            return
        goal = self._kind.Goal()
        goal.command.position, goal.command.max_effort = float(value), float(self._settings.max_effort)
        self._client.send_goal_async(goal).add_done_callback(self._answered)

    def _answered(self, future: Any) -> None:
        if not future.result().accepted:
            self._goals.refused()
            self.get_logger().warning("the server refused a goal", throttle_duration_sec=1.0)


def gripper_command(rig: Rig, name: str) -> CommandSpec:
    """Return the command that carries one gripper and nothing else.

    Raises:
        RigError: None or several do, or `name` is not one of them.
    """
    grippers = {arm.gripper.name for arm in rig.arms.values() if arm.gripper is not None}
    found = {
        n: spec for n, spec in rig.commands.items() if len(spec.names) == 1 and spec.names[0] in grippers
    }
    if name in found or (not name and len(found) == 1):
        return found[name] if name else next(iter(found.values()))
    raise RigError(
        f"rig {rig.name}: command {name!r} with a gripper alone; {did_you_mean(name, found)}; give the "
        "gripper a command of its own in the rig"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    return run_node(GripperActionNode, argv)


if __name__ == "__main__":
    sys.exit(main())
