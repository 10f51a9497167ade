"""The simulated cell behind a controller: its arm is measured and moved through driver and TCP alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"  # read when the first message package is imported

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from benches.testing import isolated_domain, wait_until
from benches.wire import Numbers, read_wire
from tacit.errors import ConfigError
from tacit.rig import load_rig, parse_rig
from tacit_ros import messages
from tacit_ros.run.stacks import build_stack
from tacit_ros.run.up import command_of
from tacit_sim.wired import WiredArm, serve_driver

pytestmark = [pytest.mark.sim, pytest.mark.ros]


def free_ports() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


class Heard:
    """What a person at this robot sees."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("listener")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.last: dict[str, Any] = {}
        kinds = {"/joint_states": JointState, "/gripper/state": JointState, "/simulator/truth": String}
        for topic, kind in {**kinds, "/robot_state": Float64MultiArray}.items():
            self.node.create_subscription(kind, topic, lambda m, t=topic: self.last.update({t: m}), 10)
        self.stamps_ns: list[int] = []
        hear = lambda m: self.stamps_ns.append(messages.header_stamp_ns(m))  # noqa: E731
        self.node.create_subscription(JointState, "/joint_states", hear, 1000)
        self.commands = self.node.create_publisher(JointState, "/joint_command", 1)

    def until(self, fact: Any, what: str) -> None:
        wait_until(fact, what, 40, lambda: self.executor.spin_once(timeout_sec=0.02))

    @property
    def truth(self) -> dict[str, Any]:
        return json.loads(self.last["/simulator/truth"].data)


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    data = load_rig("nova2_wire").model_dump(mode="json")
    ports = dict(zip(("dashboard_port", "feedback_port"), free_ports(), strict=True))
    data["drivers"]["arm"]["parameters"] |= ports
    path = tmp_path / "rig.yaml"
    path.write_text(parse_rig(data, "test").to_yaml(), encoding="utf-8")
    with isolated_domain():
        rclpy.init()
        found = Heard()
        log = tmp_path / "wire.log"
        nodes = build_stack("simulate", str(path), {"wire_log": str(log)}).without(["expert"]).nodes
        processes = [subprocess.Popen(command_of(node)) for node in nodes]
        try:
            yield found
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
            codes = [process.wait(20) for process in processes]
            found.node.destroy_node()
            rclpy.try_shutdown()
        assert codes == [0] * len(nodes)
        numbers = Numbers()
        read_wire(log, load_rig(str(path)), numbers)
        assert numbers.wire["EnableRobot"] == 1
        assert min(numbers.wire["ServoJ"], numbers.wire["SetHoldRegs"]) > 1
        assert 0 < numbers.fastest <= 1.001 and not [name for name in numbers.wire if "refused" in name]


def test_the_cell_is_measured_and_moved_through_the_wire(heard: Heard) -> None:
    heard.until(
        lambda: len(heard.last) == 4 and heard.last["/robot_state"].data[0] == 1.0, "an enabled robot"
    )
    rig = load_rig("nova2_wire")
    np.testing.assert_allclose(heard.last["/joint_states"].position, heard.truth["state"][:6], atol=0.02)
    stamp_ns = messages.header_stamp_ns(heard.last["/joint_states"])
    assert abs(stamp_ns - heard.truth["stamp_ns"]) < 2e9  # the clock of the cell, not of this computer
    assert all(heard.node.count_publishers(topic) == 1 for topic in ("/joint_states", "/gripper/state"))
    goal = np.array(heard.truth["state"][:6]) + [0.15, 0, 0, 0, 0, 0.15]  # turned about upright axes

    def lead() -> bool:
        """Want the arm a little ahead of where it is, as a leader arm does; half open."""
        here = np.array(heard.truth["state"][:6])
        values = [*np.minimum(goal, here + 0.06), 500.0]
        heard.commands.publish(messages.joint_state(rig.state_names, values, 0))
        return bool(np.abs(goal - here).max() < 0.02) and abs(heard.truth["state"][6] - 0.04) < 0.003

    heard.until(lead, "the cell where it was led, and its gripper")
    heard.until(lambda: abs(heard.last["/gripper/state"].position[0] - 500) < 40, "the register")
    assert len(heard.stamps_ns) > 20 and (np.diff(heard.stamps_ns) > 0).all()


def test_a_gripper_that_swings_past_its_end_says_no_more_than_its_register_counts() -> None:
    arm = WiredArm(load_rig("nova2_wire"), np.zeros(7))
    for opening, register in ((0.0817, 1000.0), (-0.001, 0.0), (0.04, 500.0)):
        arm.show(np.append(np.zeros(6), opening), np.zeros(7))
        assert arm.opening() == pytest.approx(register)


def test_a_port_that_is_taken_is_named() -> None:
    rig = load_rig("nova2_wire")
    arm = WiredArm(rig, np.zeros(7))
    with socket.create_server(("127.0.0.1", 0)) as server:
        data = rig.model_dump(mode="json")
        data["drivers"]["arm"]["parameters"]["dashboard_port"] = server.getsockname()[1]
        with pytest.raises(ConfigError, match="ports .* end what listens there"):
            serve_driver(parse_rig(data, "test"), arm, lambda failure: None)
