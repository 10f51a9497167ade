"""The node of a Dobot arm on the topics of a rig, before a fake controller."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray, String

from tacit.errors import ConfigError, RigError
from tacit.rig import Rig, load_rig, parse_rig
from tacit_ros import messages
from tacit_ros.dobot_node import DobotNode, limiter_of, topics_of
from tacit_ros.run.stacks import build_stack
from tacit_ros.wire import qos
from tacit_sim.fake_dobot.plant import FollowingArm
from tacit_sim.fake_dobot.server import FakeDobot

pytestmark = pytest.mark.ros
START = np.array([0.1, -0.2, 1.2, 0.3, 1.5, -0.4])


@dataclass
class Robot:
    """A node, the fake controller behind it, and what it has said."""

    bench: object
    node: DobotNode
    fake: FakeDobot
    joints: list[JointState] = field(default_factory=list)
    openings: list[JointState] = field(default_factory=list)
    status: list[list[float]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        hear = self.bench.node.create_subscription
        hear(JointState, "/joint_states", self.joints.append, 10)
        hear(JointState, "/gripper/state", self.openings.append, 10)
        hear(Float64MultiArray, "/robot_state", lambda m: self.status.append(list(m.data)), 10)
        hear(String, "/dobot/state", lambda m: self.states.append(m.data), qos.state())
        self.commands = self.bench.node.create_publisher(JointState, "/joint_command", 1)
        self.estop = self.bench.node.create_publisher(Bool, "/estop", 1)

    def until(self, fact: object, what: str) -> None:
        self.bench.until(fact, what)

    def call(self, service: str) -> object:
        return self.bench.call(f"/dobot/{service}")

    def enable(self) -> None:
        self.until(lambda: self.status, "a robot state")
        answer = self.call("enable")
        assert answer.success, answer.message
        self.until(lambda: self.status[-1] == [1.0, 0.0, 0.0, 1.0], "an enabled robot")

    def command(self, seconds: float, speed: float = 0.5, opening: float = 400.0) -> None:
        """Send a ramp of every joint, and one opening."""
        begin, start = time.monotonic(), self.fake.joints()
        names = self.node.rig.state_names

        def send() -> bool:
            passed = time.monotonic() - begin
            values = [*(start + speed * passed), opening]
            self.commands.publish(messages.joint_state(names, values, time.time_ns()))
            return passed > seconds

        self.until(send, "commands to be sent")


@pytest.fixture
def robot(bench) -> Iterator[Robot]:
    failures: list[object] = []
    fake = FakeDobot(FollowingArm(START), failures.append)
    parameters = {
        "rig": "nova2",
        "host": "127.0.0.1",
        "dashboard_port": fake.ports[0],
        "feedback_port": fake.ports[1],
        "gripper": "modbus",
        "realtime_priority": 0,
    }
    node = DobotNode([Parameter(name, value=value) for name, value in parameters.items()])
    made = Robot(bench, bench.add(node), fake)
    made.until(lambda: made.joints and bench.node.count_subscribers("/joint_command") == 1, "joints")
    yield made
    node.close()
    fake.close()
    assert not failures


def test_arm_is_measured_enabled_moved_and_stopped_on_the_rigs_topics(robot: Robot) -> None:
    first = robot.joints[0]
    assert list(first.name) == list(robot.node.topics.joints) and len(first.velocity) == 6
    np.testing.assert_allclose(first.position, START, atol=1e-9)
    robot.until(lambda: robot.status and robot.status[-1][0] == 0.0, "a robot that is not enabled")
    robot.command(0.1)
    robot.until(lambda: robot.states and "disabled" in robot.states[-1], "the reason")
    assert not robot.fake.servo
    robot.enable()
    robot.command(0.4)
    assert robot.fake.servo and "MOVING" in robot.states
    robot.until(lambda: robot.states[-1] == "READY", "rest")
    robot.until(lambda: robot.openings and robot.openings[-1].position[0] == 400.0, "the opening")
    moved = robot.fake.joints() - START
    assert (moved > 0.1).all() and (moved < 0.3).all()
    robot.until(lambda: abs(robot.joints[-1].position[0] - robot.fake.joints()[0]) < 1e-6, "what is measured")


def test_emergency_stop_topic_latches_until_the_button_is_released_and_reset_is_called(robot: Robot) -> None:
    robot.enable()
    robot.command(0.1)
    robot.estop.publish(messages.boolean(True))
    robot.until(lambda: "estop" in robot.states[-1], "the stop")
    count = len(robot.fake.servo)
    robot.command(0.1)
    assert len(robot.fake.servo) == count
    assert not robot.call("clear").success and not robot.call("enable").success
    assert "still says true" in robot.call("reset").message
    robot.estop.publish(messages.boolean(False))
    robot.until(lambda: robot.call("reset").success, "the release")
    robot.enable()
    robot.command(0.1)
    assert len(robot.fake.servo) > count


def test_nothing_is_measured_while_the_controller_is_away_and_a_policy_is_told(robot: Robot) -> None:
    robot.enable()
    robot.fake.faults.is_offline = True
    robot.fake.drop()
    robot.until(lambda: robot.status[-1][:2] == [0.0, 1.0], "a robot that is not there")
    assert "disconnected" in robot.states[-1]
    count, said = len(robot.joints), len(robot.status)
    robot.until(lambda: len(robot.status) > said + 3, "more of the robot's state")
    assert len(robot.joints) == count
    robot.fake.faults.is_offline = False
    robot.until(lambda: len(robot.joints) > count, "joints again")
    robot.until(lambda: robot.status[-1][0] == 1.0, "the robot again")
    assert min(abs(m.position[2]) for m in robot.joints) > 0.5  # never zeros


def test_node_that_ends_in_motion_sends_nothing_more_and_says_so(robot: Robot) -> None:
    robot.enable()
    robot.command(0.4, speed=0.8)
    robot.node.halt("SIGINT came")
    count = len(robot.fake.servo)
    assert "closing" in robot.node.state() and not robot.node.arm.servo.is_moving
    robot.command(0.1)
    assert len(robot.fake.servo) == count


def test_two_arms_of_a_rig_have_topics_of_their_own() -> None:
    rig = load_rig("xtrainer")
    for side in ("left", "right"):
        found = topics_of(rig, side, with_gripper=False)
        topics = [spec.topic for spec in (*found.states, *found.commands, found.robot_state)]
        assert topics == [f"/{side}/{name}" for name in ("joint_states", "joint_command", "robot_state")]
        assert [s.topic for s in topics_of(rig, side, with_gripper=True).states][
            1
        ] == f"/{side}/gripper/state"
    nodes = {node.name: node.parameters for node in build_stack("record", "xtrainer", {}).nodes}
    assert nodes["dobot_left"]["arm"] == "left" and nodes["dobot_right"]["host"] == "192.168.5.2"


def changed(**command: object) -> Rig:
    data = load_rig("nova2").model_dump(mode="json")
    data["commands"]["arm_command"] |= command
    return parse_rig(data, "test")


def test_a_rig_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="use sensor_msgs"):
        topics_of(changed(type="trajectory_msgs/msg/JointTrajectory"), "arm", with_gripper=True)
    data = load_rig("nova2").model_dump(mode="json")
    data["drivers"]["arm"]["parameters"] = {"hots": "10.0.0.1"}
    path = tmp_path / "rig.yaml"
    path.write_text(parse_rig(data, "test").to_yaml(), encoding="utf-8")
    with pytest.raises(ConfigError, match="'host'"):
        build_stack("policy", str(path), {"bundle": "x.onnx"})
    data["drivers"] = {"arn": data["drivers"]["arm"]}
    with pytest.raises(RigError, match="did you mean 'arm'"):
        parse_rig(data, "test")


def test_limits_are_those_of_the_controllers_own_angles() -> None:
    data = load_rig("nova2").model_dump(mode="json")
    data["arms"]["arm"]["joints"][1] |= {"sign": -1, "offset": 0.5, "lower": -1.0, "upper": 2.0}
    found = limiter_of(parse_rig(data, "test"), "arm", 0.03)
    assert (found.lower[1], found.upper[1]) == (-1.5, 1.5)  # raw = -(q - 0.5)
    assert (found.lower[0], found.upper[0]) == (-6.28, 6.28)
