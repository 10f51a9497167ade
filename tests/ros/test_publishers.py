"""A second driver of a stream and a second commander are named, refused at start, and held for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from policy_cell import PolicyCell
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from tacit.rig import load_rig
from tacit_ros.recorder_node import RecorderNode
from tacit_ros.wire.publishers import Publishers


@pytest.fixture
def other(bench: Any) -> Iterator[Callable[..., Node]]:
    """Make a node that publishes a topic, besides those that should."""

    def make(name: str, topic: str, kind: type = JointState, **options: str) -> Node:
        node = bench.add(Node(name, **options))
        node.create_publisher(kind, topic, 10)
        return node

    return make


def until_found(bench: Any, publishers: Publishers, stream: str) -> str:
    bench.until(lambda: stream in publishers.findings(), f"a finding on {stream}")
    return publishers.findings()[stream]


def test_two_publishers_of_one_stream_are_named_and_one_is_not(
    bench: Any, other: Callable[..., Node]
) -> None:
    other("driver", "/arm/joints", namespace="/left")
    watch = Publishers(bench.node, {"joints": "/arm/joints", "wrist": "/wrist"})
    bench.until(lambda: bench.node.count_publishers("/arm/joints") == 1, "the driver")
    watch.look()
    assert watch.findings() == {} and watch.fault() is None
    other("joint_state_publisher", "/arm/joints")
    text = until_found(bench, watch, "joints")
    assert "2 publishers of /arm/joints: /joint_state_publisher, /left/driver" in text
    assert watch.fault(commanding=False).reason == "two_publishers"


def test_arm_and_gripper_may_share_a_topic_and_a_third_may_not(
    bench: Any, other: Callable[..., Node]
) -> None:
    watch = Publishers(bench.node, {"joints": "/joint_states", "gripper": "/joint_states"})
    node = other("arm", "/joint_states")
    other("gripper", "/joint_states")
    bench.until(lambda: bench.node.count_publishers("/joint_states") == 2, "both drivers")
    watch.look()
    assert watch.findings() == {}
    node.create_publisher(JointState, "/joint_states", 10)
    assert "/arm (2 times), /gripper" in until_found(bench, watch, "joints")


def test_own_commands_are_not_those_of_a_second_commander_but_a_namesake_is(
    bench: Any, other: Callable[..., Node]
) -> None:
    commander = other("policy", "/command")
    watch = Publishers(commander, {}, {"command": "/command"})
    bench.until(lambda: commander.count_publishers("/command") == 1, "the own publisher")
    watch.look()
    assert watch.fault() is None
    other("policy", "/command")
    assert "published by /policy too" in until_found(bench, watch, "command")
    assert watch.fault().reason == "second_commander" and watch.fault(commanding=False) is None


def test_two_commands_on_one_topic_are_both_our_own_and_a_third_is_not(
    bench: Any, other: Callable[..., Node]
) -> None:
    commander = other("policy", "/command")
    commander.create_publisher(JointState, "/command", 10)
    watch = Publishers(commander, {}, {"arm": "/command", "gripper": "/command"})
    bench.until(lambda: commander.count_publishers("/command") == 2, "the own publishers")
    watch.look()
    assert watch.fault() is None
    other("teleop", "/command")
    assert "published by /teleop too" in until_found(bench, watch, "arm")


@pytest.fixture
def cell(bench: Any, tmp_path: Path) -> Iterator[PolicyCell]:
    made = PolicyCell(bench, tmp_path)
    made.ready()
    yield made
    made.close()


def topic_of(cell: PolicyCell, stream: str) -> str:
    return cell.robot.rig.specs[stream].topic


OTHERS = {"second_commander": "command", "two_publishers": "joints"}


@pytest.mark.parametrize("reason", OTHERS)
def test_policy_does_not_start_beside_another_and_says_who_it_is(
    cell: PolicyCell, other: Callable[..., Node], reason: str
) -> None:
    topic = topic_of(cell, OTHERS[reason])
    intruder = other("intruder", topic)
    cell.bench.until(lambda: cell.policy.count_publishers(topic) == 2, "the intruder")
    for service in ("start", "home"):
        answer = cell.call(service)
        assert not answer.success and reason in answer.message and "/intruder" in answer.message
    assert cell.policy.controller.state == "IDLE" and not cell.robot.commands
    cell.bench.executor.remove_node(intruder)
    intruder.destroy_node()
    cell.bench.until(lambda: cell.policy.count_publishers(topic) == 1, "its end")
    cell.run()


@pytest.mark.parametrize("reason", OTHERS)
def test_policy_holds_where_another_comes_while_it_runs(
    cell: PolicyCell, other: Callable[..., Node], reason: str
) -> None:
    cell.run()
    other("intruder", topic_of(cell, OTHERS[reason]))
    cell.bench.until(lambda: cell.policy.controller.state == "HOLD", "HOLD")
    assert cell.policy.controller.fault.reason == reason and "/intruder" in str(cell.policy.controller)
    cell.bench.until(lambda: cell.policy.controller.limiter.is_at_rest, "rest")


def test_dry_run_beside_a_commander_is_its_purpose(cell: PolicyCell, other: Callable[..., Node]) -> None:
    assert cell.call("set_dry_run", SetBool.Request(data=True)).success
    topic = topic_of(cell, "command")
    other("teleop", topic)
    cell.bench.until(lambda: cell.policy.count_publishers(topic) == 2, "the teleoperator")
    assert cell.call("start").success
    cell.bench.until(lambda: len(cell.robot.shadow) > 5, "shadow commands")


def test_recorder_names_both_publishers_refuses_to_start_and_tells_it_live(
    bench: Any, other: Callable[..., Node], tmp_path: Path
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    node = bench.add(RecorderNode({"root": str(tmp_path)}))
    try:
        topic = load_rig("nova2_sim").streams["joints"].topic
        other("driver", topic)
        other("joint_state_publisher", topic)
        other("noise", "/elsewhere", String)
        bench.until(lambda: node.count_publishers(topic) == 2, "both")
        wanted = f"2 publishers of {topic}: /driver, /joint_state_publisher"
        assert any(wanted in reason for reason in node.not_ready())
        assert wanted in json.loads(node._status())["problems"]["joints"]
        heard: list[DiagnosticArray] = []
        bench.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
        bench.until(lambda: heard, "diagnostics")
        told = {status.name: status for status in heard[-1].status}
        assert wanted in told["recorder: joints"].message and told["recorder: joints"].level == b"\x02"
    finally:
        node.close()
