"""Commands leave at the driver's rate: from the policy node, and as trajectories that end at rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_robot import FakeRobot, lenient_rig
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from tiny_bundles import policy_bundle
from trajectory_msgs.msg import JointTrajectory

from tacit.control.periodic import SteadyClock
from tacit.control.safety import MotionLimiter
from tacit.rig import Rig, load_rig, parse_rig
from tacit_ros.policy_node import PolicyNode
from tacit_ros.wire.commands import CommandPublisher
from tacit_ros.wire.upsampled import Pace

pytestmark = pytest.mark.ros
PERIOD = 0.04
HZ = 100.0


def rig_with(tmp_path: Path, **command: object) -> tuple[Path, Rig]:
    path = lenient_rig(tmp_path)
    data = load_rig(path).model_dump(mode="json")
    data["commands"]["command"] |= command
    rig = parse_rig(data, "test")
    path.write_text(rig.to_yaml(), encoding="utf-8")
    return path, rig


@pytest.fixture
def cell(bench, tmp_path: Path) -> Iterator[tuple[PolicyNode, FakeRobot]]:
    path, rig = rig_with(tmp_path, output_hz=HZ)
    bundle = policy_bundle(
        tmp_path, rig, state_min=(-1.0,) * 7, state_max=(1.0,) * 7, obs_skew_max_s=1.0, chunk_size=25
    )
    values = {"rig": str(path), "bundle": bundle.source}
    node = PolicyNode([Parameter(name, value=value) for name, value in values.items()])
    robot = FakeRobot(bench.node, rig)
    yield bench.add(node), robot
    robot.stop()
    node.close()


def test_policy_node_commands_at_the_drivers_rate_and_rests_at_a_hold(cell, bench) -> None:
    node, robot = cell
    bench.until(lambda: node.acting.readiness() is None, "input")
    assert bench.call("/policy/start", Trigger.Request()).success
    bench.until(lambda: len(robot.commands) > HZ, "a second of commands")
    assert bench.call("/policy/hold", Trigger.Request()).success
    bench.until(lambda: node.commands.upsampled["command"]._upsampler.is_at_rest, "rest")
    stamps, path = (np.array(part) for part in zip(*robot.commands, strict=True))
    dt = np.diff(stamps)[:, None] / 1e9
    assert np.median(dt) < 2 / HZ  # the policy's own period is four of these; a busy machine leaves some out
    # The true time counts; the stamp is taken within a millisecond of it on a machine that others use too.
    assert (np.abs(np.diff(path, axis=0)) <= node.rig.limits("velocity") * (dt + 2e-3)).all()
    assert np.abs(np.diff(path[-2:], axis=0)).max() < 1e-3
    count = len(robot.commands)
    end = time.monotonic() + 0.2
    bench.until(lambda: time.monotonic() > end, "silence")
    assert len(robot.commands) == count


def test_a_trajectory_controller_is_sent_what_is_known_and_how_to_come_to_rest(bench, tmp_path: Path) -> None:
    _, rig = rig_with(tmp_path, output_hz=HZ, type="trajectory_msgs/msg/JointTrajectory")
    heard: list[JointTrajectory] = []
    topic = rig.commands["command"].topic
    bench.node.create_subscription(JointTrajectory, topic, heard.append, 10)
    pace = Pace(SteadyClock(), lambda failure: None, 0)
    publisher = CommandPublisher(bench.node, rig, PERIOD, pace=pace)
    bench.until(lambda: bench.node.count_subscribers(topic) == 1, "a listener")
    limiter = MotionLimiter.from_rig(rig, PERIOD)
    limiter.seed(np.full(7, 0.04))
    for _ in range(5):
        publisher.publish(limiter.step(np.full(7, 0.5)), 0, False, limiter)
        time.sleep(PERIOD)
    publisher.publish(limiter.step(np.full(7, 0.5)), 0, False, limiter, braking=True)
    bench.until(lambda: len(heard) == 6, "six trajectories")
    acceleration = rig.limits("acceleration")
    for message in heard:
        assert message.header.stamp.sec == 0 and list(message.joint_names) == list(rig.state_names)
        times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points]
        np.testing.assert_allclose(times, (1 + np.arange(len(times))) / HZ, atol=1e-6)
        path = np.array([list(point.positions) for point in message.points])
        speed = np.diff(np.vstack([path, path[-1:]]), axis=0) * HZ  # it stays at the last point
        assert (np.abs(np.diff(speed, axis=0)) <= acceleration / HZ + 1e-6).all()
    publisher.come_to_rest(time.monotonic() + 3.0)
    assert publisher.upsampled["command"]._upsampler.is_at_rest
