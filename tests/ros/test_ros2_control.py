"""A robot on ros2_control by YAML alone: its controllers, and a UR that says how it is."""

from __future__ import annotations

import time

import numpy as np
import pytest
from fake_controllers import ForwardPositionController, JointTrajectoryController
from std_msgs.msg import Bool, Float64

from tacit.control.periodic import SteadyClock
from tacit.control.robot_state import RobotState
from tacit.control.safety import MotionLimiter
from tacit.errors import RigError
from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Intake
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.commands import CommandPublisher
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.upsampled import Pace

pytestmark = pytest.mark.ros
PERIOD = 1 / 30
START = np.array([0.1, -1.5, 1.2, -1.0, -1.5, 0.3, 0.04])


def drive(bench: object, rig: Rig, seconds: float, speed: float = 1.0) -> CommandPublisher:
    """Command a ramp of every joint as a policy of 30 Hz does; afterwards nothing, as one that was killed."""
    publisher = CommandPublisher(bench.node, rig, PERIOD, pace=Pace(SteadyClock(), lambda failure: None, 0))
    topic = rig.commands["arm_command"].topic
    bench.until(lambda: bench.node.count_subscribers(topic) == 1, "a controller")
    limiter = MotionLimiter.from_rig(rig, PERIOD)
    limiter.seed(START)
    begin = due = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        target = START + np.append(np.full(6, speed * passed), 0.0)
        publisher.publish(limiter.step(target), time.time_ns(), False, limiter)
        due += PERIOD
        bench.until(lambda due=due: time.monotonic() >= due, "the next tick")
    return publisher


def test_forward_position_controller_is_told_small_steps_of_its_own_size(bench) -> None:
    rig = load_rig("ur5e")
    spec = rig.commands["arm_command"]
    controller = ForwardPositionController(bench.node, 6, spec.topic)
    publisher = drive(bench, rig, 0.7)
    bench.until(lambda: publisher.upsampled["arm_command"]._upsampler.is_at_rest, "rest")
    publisher.close()
    times, path = (np.array(part) for part in zip(*controller.received, strict=True))
    assert not controller.refused and len(path) > 60
    steps = np.abs(np.diff(path, axis=0)).max(axis=1)
    at_once = 1.0 * PERIOD  # what the policy's own rate would be: one step of .033 rad
    assert np.median(steps[steps > 0]) < at_once / 3
    assert np.abs(np.diff(path[-3:], axis=0)).max() < 2e-3  # it holds the last for ever: that one is at rest
    np.testing.assert_array_equal(controller.position, path[-1])


def test_trajectory_controller_accepts_each_and_stands_still_when_commands_stop(bench) -> None:
    data = load_rig("ur5e").model_dump(mode="json")
    data["commands"]["arm_command"] |= {
        "topic": "/scaled_joint_trajectory_controller/joint_trajectory",
        "type": "trajectory_msgs/msg/JointTrajectory",
        "output_hz": 50.0,
    }
    rig = parse_rig(data, "test")
    spec = rig.commands["arm_command"]
    controller = JointTrajectoryController(bench.node, list(spec.names), spec.topic, START[:6])
    publisher = drive(bench, rig, 0.7)
    bench.until(lambda: len(controller.accepted) > 10, "trajectories")
    publisher.close()  # killed: nobody sends a trajectory of braking
    assert not controller.refused
    last = controller.accepted[-1][0]
    path = np.array([controller.at(last + 0.01 * k) for k in range(150)])
    speed = np.diff(path, axis=0) / 0.01
    assert np.abs(speed).max() > 0.05 and np.abs(speed[-1]).max() == 0.0
    assert np.abs(speed).max() <= rig.limits("velocity").max() + 1e-6
    assert (np.diff(np.abs(speed[10:]), axis=0) <= 1e-6).all()  # it only ever brakes
    wrong = messages.joint_trajectory(spec.names[:5], START[None, :5], 0, period_s=0.1)
    bench.node.create_publisher(type(wrong), spec.topic, 1).publish(wrong)
    bench.until(lambda: controller.refused, "the refusal of a trajectory without all joints")


@pytest.fixture
def heard(bench) -> tuple[RobotState, object]:
    """What a policy hears of a UR's own state."""
    rig = load_rig("ur5e")
    state = RobotState(rig)
    intake = Intake(rig, list(state.names))
    RigSubscriptions(bench.node, rig, intake, lambda n, stamp, recv, value: state.store(n, recv, value))
    return state, bench


def test_a_ur_is_moved_only_while_its_program_runs_and_at_its_speed(heard) -> None:
    state, bench = heard
    latched = qos.latched()
    program = bench.node.create_publisher(Bool, "/io_and_status_controller/robot_program_running", latched)
    speed = bench.node.create_publisher(Float64, "/speed_scaling_state_broadcaster/speed_scaling", 10)
    bench.until(lambda: speed.get_subscription_count() == 1, "a listener")
    assert "no message yet on program_running, speed" in state.fault().detail
    program.publish(messages.boolean(True))  # said once: it is latched
    for percent, scale in ((100.0, 1.0), (30.0, 0.3)):
        speed.publish(messages.float64(percent))
        bench.until(
            lambda s=scale: state.fault() is None and state.speed_scale == pytest.approx(s), "the speed"
        )
    assert state.silence(state._received_ns["speed"] + 40_000_000) is None
    assert "speed is" in state.silence(state._received_ns["speed"] + 10**9).detail
    speed.publish(messages.float64(0.0))
    bench.until(lambda: state.fault() is not None and "paused" in state.fault().detail, "the pause")
    speed.publish(messages.float64(100.0))
    program.publish(messages.boolean(False))
    bench.until(lambda: state.fault() is not None and "not enabled" in state.fault().detail, "the stop")


def test_modes_are_judged_by_the_numbers_that_the_rig_calls_ready() -> None:
    stream = {
        "topic": "/io_and_status_controller/safety_mode",
        "role": "robot_state",
        "type": "ur_dashboard_msgs/msg/SafetyMode",
        "rate_hz": 1.0,
        "ready": [1, 2],
        "names": ["protective_stop"],
    }
    data = load_rig("ur5e").model_dump(mode="json")
    data["streams"] |= {
        "safety": stream,
        "mode": stream | {"topic": "/m", "ready": [7], "names": ["enabled"]},
    }
    rig = parse_rig(data, "test")

    class Mode:
        def __init__(self, mode: int) -> None:
            self.mode = mode

    def said(name: str, mode: int) -> dict[str, float]:
        spec = rig.robot_states[name]
        return spec.robot_state(messages.read_named(Mode(mode), spec.type, spec.names).tolist())

    assert [said("safety", mode)["protective_stop"] for mode in (1, 2, 3, 0)] == [0, 0, 3, 1]
    assert [said("mode", mode)["enabled"] for mode in (7, 5, 0)] == [1, 0, 0]
    data["streams"]["joints"]["ready"] = [1]
    with pytest.raises(RigError, match="role robot_state"):
        parse_rig(data, "test")
