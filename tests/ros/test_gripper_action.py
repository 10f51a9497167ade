"""A gripper's command as goals: which are sent, and what a missing package says."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from std_msgs.msg import Float64MultiArray

from tacit.errors import RigError, TacitError
from tacit.rig import load_rig
from tacit_ros import messages
from tacit_ros.gripper_action_node import Goals, GripperActionNode, gripper_command

pytestmark = pytest.mark.ros


def test_a_stream_becomes_few_goals_and_its_last_value_always_one() -> None:
    goals, sent = Goals(step=0.01, period_s=0.1), []
    for k in range(100):  # a ramp of one second at 100 Hz, then rest
        goals.want(min(0.008 * k, 0.5))
        if (due := goals.due(0.01 * k)) is not None:
            sent.append(due)
    assert 5 <= len(sent) <= 10 and sent[-1] == 0.5
    goals.want(0.505)
    assert goals.due(2.0) is None  # less than a step
    goals.want(float("nan"))
    assert goals.due(3.0) is None
    goals.refused()
    assert goals.due(4.0) == 0.505


def test_without_control_msgs_it_refuses_to_start_and_names_the_package(ros) -> None:
    with pytest.raises(TacitError, match="control-msgs"):
        GripperActionNode()


def test_a_gripper_needs_a_command_of_its_own() -> None:
    assert gripper_command(load_rig("ur5e"), "").topic == "/gripper/commands"
    with pytest.raises(RigError, match="a command of its own"):
        gripper_command(load_rig("nova2_sim"), "")


class FakeClient:
    """An action server that is there, and takes every second goal."""

    def __init__(self, node: object, kind: type, name: str) -> None:
        self.name, self.goals = name, []

    def server_is_ready(self) -> bool:
        return True

    def send_goal_async(self, goal: object) -> SimpleNamespace:
        self.goals.append(goal.command.position)
        accepted = SimpleNamespace(accepted=len(self.goals) % 2 == 0)
        future = SimpleNamespace(result=lambda: accepted)
        future.add_done_callback = lambda callback: callback(future)
        return future


def test_goals_go_to_the_server_and_a_refused_one_again(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = type("Goal", (), {"__init__": lambda self: setattr(self, "command", SimpleNamespace())})
    stand_in = ModuleType("control_msgs.action")
    stand_in.GripperCommand = type("GripperCommand", (), {"Goal": goal})
    monkeypatch.setitem(sys.modules, "control_msgs", ModuleType("control_msgs"))
    monkeypatch.setitem(sys.modules, "control_msgs.action", stand_in)
    node = bench.add(GripperActionNode(make_client=FakeClient))
    topic = bench.node.create_publisher(Float64MultiArray, "/gripper/commands", 1)
    bench.until(lambda: topic.get_subscription_count() == 1, "a listener")
    topic.publish(messages.float_array([0.4], "gripper"))
    bench.until(lambda: node._client.goals == [0.4, 0.4], "the goal, and again")
    topic.publish(messages.float_array([0.1], "gripper"))
    bench.until(lambda: node._client.goals[2:] == [0.1, 0.1], "the next")
