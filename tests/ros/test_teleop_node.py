"""A person at the real topics: keys, pad and terminal move a robot made of publishers, nothing else does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_robot import FakeRobot, lenient_rig
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Int32, String
from tiny_bundles import policy_bundle

from tacit.rig import Rig, load_rig, parse_rig
from tacit.teleop.devices import LEFT, LOWER, UP
from tacit.teleop.terminal import keys_of
from tacit_ros import messages
from tacit_ros.policy_node import PolicyNode
from tacit_ros.run.commands import Command
from tacit_ros.run.operator import Operator
from tacit_ros.run.teleop_keys import Terminal
from tacit_ros.teleop_node import TeleopNode
from tacit_ros.wire import person
from tacit_ros.wire.commanding import CommandingNode

START = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284, 0.04])
WIDE = {"state_min": (-7.0,) * 7, "state_max": (7.0,) * 7, "obs_skew_max_s": 1.0, "chunk_size": 25}


SOURCE = {
    "topic": "/source",
    "type": "std_msgs/msg/Int32",
    "rate_hz": 25.0,
    "role": "extra",
    "required": False,
    "names": ["source"],
}


class Cell:
    """A node that a person moves, its robot, and hands."""

    def __init__(self, bench, node: CommandingNode, robot: FakeRobot) -> None:
        self.bench, self.node, self.robot = bench, node, robot
        self.name = node.get_name()
        self._keys = bench.node.create_publisher(String, person.KEYS, 10)
        bench.until(lambda: self._keys.get_subscription_count(), "the node that hears keys")

    def press(self, keys: str) -> None:
        self._keys.publish(messages.string(keys))

    def hold(self, keys: str, seconds: float) -> None:
        """Keep keys down, as a terminal that repeats them."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.press(keys)
            pause = time.monotonic() + 0.03
            self.bench.until(lambda pause=pause: time.monotonic() > pause, "the next repeat")

    def take(self) -> None:
        self.bench.until(lambda: self.node.inputs.person_fault() is None, "joints")
        self.press("\r")
        self.bench.until(lambda: self.node.controller.state == "PERSON", "the take-over")

    def at_rest(self) -> bool:
        return self.node.controller.limiter.is_at_rest


def with_source(plain: Rig) -> Rig:
    """The rig with a stream that says who commands."""
    data = plain.model_dump(mode="json")
    data["streams"]["source"] = SOURCE
    return parse_rig(data, "test")


Make = Callable[..., Cell]


@pytest.fixture
def make(bench, tmp_path: Path) -> Iterator[Make]:
    made: list[Cell] = []

    def build(with_policy: bool = False, rate_hz: float | None = None, **parameters: object) -> Cell:
        path = lenient_rig(tmp_path)
        rig = with_source(load_rig(path))
        path.write_text(rig.to_yaml(), encoding="utf-8")
        if rate_hz is not None:
            parameters["command_hz"] = rate_hz
        if with_policy:
            parameters |= {"bundle": policy_bundle(tmp_path, rig, **WIDE).source, "teleop": True}
        given = [Parameter(n, value=v) for n, v in {"rig": str(path), **parameters}.items()]
        node = bench.add(PolicyNode(given) if with_policy else TeleopNode(given))
        made.append(Cell(bench, node, FakeRobot(bench.node, rig, START)))
        return made[-1]

    yield build
    for cell in made:
        cell.robot.stop()
        cell.node.close()


def test_keys_move_the_robot_only_after_it_was_taken_and_let_go_of_it(make: Make) -> None:
    cell = make()
    cell.hold(UP, 0.2)
    assert not cell.robot.commands
    cell.take()
    cell.hold(UP, 0.4)
    moved = cell.robot.state - START
    assert cell.robot.commands and np.abs(moved[:6]).max() > 0.01
    cell.bench.until(cell.at_rest, "rest", 2.0)
    steps = np.diff([command for _, command in cell.robot.commands], axis=0)
    assert (np.abs(steps) <= cell.node.rig.limits("velocity") * 0.04 * 1.5 + 1e-9).all()
    cell.press("z")
    cell.bench.until(lambda: cell.node.controller.state == "IDLE", "the release")
    cell.bench.until(cell.at_rest, "rest", 2.0)
    count = cell.node._sent
    cell.hold(UP, 0.2)
    assert cell.node._sent == count


def test_from_key_to_command_takes_milliseconds_at_100_hz(make: Make, record_property) -> None:
    cell = make(rate_hz=100.0)
    cell.take()
    fact = lambda: cell.press(UP) or cell.robot.commands  # noqa: E731
    cell.bench.until(fact, "the first command")
    delays = []
    for _ in range(12):
        cell.bench.until(cell.at_rest, "rest", 2.0)
        still = cell.node.controller.limiter.position
        pressed = time.monotonic()
        cell.press(LOWER)
        moves = lambda still=still: (np.abs(cell.robot.commands[-1][1] - still) > 1e-6).any()  # noqa: E731
        while not moves():
            cell.bench.executor.spin_once(timeout_sec=0.002)
            assert time.monotonic() < pressed + 2
        delays.append(time.monotonic() - pressed)
        cell.press("")
    record_property("median_ms", 1e3 * float(np.median(delays)))
    assert np.median(delays) < 0.1  # 50 on a machine that does nothing else; others run beside the tests


def test_speed_limit_may_only_be_lowered_and_counts_at_once(make: Make) -> None:
    cell = make(speed_limit=0.5)
    full, limiter = cell.node.rig.limits("velocity"), cell.node.controller.limiter
    np.testing.assert_array_equal(limiter.velocity, 0.5 * full)
    [lowered] = cell.node.set_parameters([Parameter("speed_limit", value=0.1)])
    assert lowered.successful
    np.testing.assert_array_equal(limiter.velocity, 0.1 * full)
    [raised] = cell.node.set_parameters([Parameter("speed_limit", value=0.2)])
    assert not raised.successful and "may only be lowered" in raised.reason
    np.testing.assert_array_equal(limiter.velocity, 0.1 * full)


def test_stamps_of_commands_rise_although_the_present_is_a_guess_and_follow_a_clock_set_anew(
    make: Make,
) -> None:
    rising = make().node._rising
    assert [rising(at) for at in (5_000_000_000, 4_921_000_000, 4_961_000_000, 5_100_000_000)] == [
        5_000_000_000,
        5_000_000_001,
        5_000_000_002,
        5_100_000_000,
    ]
    assert rising(1_000_000_000) == 1_000_000_000


def test_pad_twist_and_leader_move_it_too(make: Make) -> None:
    cell = make(pad="spacemouse")
    cell.take()
    node = cell.bench.node
    joy, twist = (
        node.create_publisher(Joy, "/joy", 10),
        node.create_publisher(TwistStamped, "/teleop/twist", 10),
    )
    leader = node.create_publisher(JointState, "/leader/joint_states", 10)
    stick = Joy(axes=[0.0, 1.0, 0.0, 0.0, 0.0, 0.0], buttons=[0, 0])
    push = TwistStamped(twist=Twist(linear=Vector3(x=0.0, y=-0.1, z=0.0)))
    names = list(cell.node.rig.state_names)
    for send in (
        lambda at: joy.publish(stick),
        lambda at: twist.publish(push),
        lambda at: leader.publish(messages.joint_state(names, at + 0.05, time.time_ns())),
    ):
        at = cell.node.controller.limiter.position
        fact = lambda at=at, send=send: send(at) or np.abs(cell.robot.state - at)[:6].max() > 0.02  # noqa: E731
        cell.bench.until(fact, "motion", 5.0)
        cell.bench.until(cell.at_rest, "rest", 2.0)


def test_silent_joints_and_a_second_commander_hold_a_person(make: Make) -> None:
    cell = make()
    cell.take()
    cell.hold(LEFT, 0.1)
    other = cell.bench.node.create_publisher(JointState, "/joint_command", 10)
    cell.bench.until(lambda: cell.node.controller.state == "HOLD", "HOLD", 5.0)
    assert cell.node.controller.fault.reason == "second_commander"  # type: ignore[union-attr]
    cell.bench.node.destroy_publisher(other)
    cell.robot.silent.add("joints")
    cell.bench.until(cell.at_rest, "rest", 2.0)
    assert not cell.bench.call("/teleop/hand_back").success


def test_person_takes_a_running_policy_by_a_button_and_gives_it_back(make: Make) -> None:
    cell = make(with_policy=True)
    node = cell.node
    assert isinstance(node, PolicyNode)
    told: list[int] = []
    cell.bench.node.create_subscription(Int32, "/source", lambda m: told.append(m.data), 10)
    cell.bench.until(lambda: node.acting.readiness() is None, "input")
    assert cell.bench.call("/policy/start").success
    cell.bench.until(lambda: len(cell.robot.commands) > 5, "commands")
    joy = cell.bench.node.create_publisher(Joy, "/joy", 10)
    cell.bench.until(joy.get_subscription_count, "the pad's reader")
    idle, start, back = Joy(buttons=[0] * 8), Joy(buttons=[0] * 7 + [1]), Joy(buttons=[0] * 6 + [1, 0])

    def tap(button: Joy) -> bool:
        joy.publish(idle)
        joy.publish(button)
        return True

    cell.bench.until(lambda: tap(start) and node.controller.state == "PERSON", "the take-over")
    cell.bench.until(cell.at_rest, "rest", 2.0)
    cell.hold(LEFT, 0.3)
    cell.bench.until(lambda: tap(back) and node.controller.state == "RUNNING", "the return")
    count = len(cell.robot.commands)
    cell.bench.until(lambda: len(cell.robot.commands) > count + 3, "commands of the policy")
    cell.bench.until(lambda: told[-1:] == [0], "who commands")
    assert [who for who, before in zip(told, [None, *told], strict=False) if who != before] == [0, 1, 0]
    stamps, commands = zip(*cell.robot.commands, strict=True)
    reach = node.rig.limits("velocity") * np.maximum(np.diff(stamps), 4e7)[:, None] * 1e-9
    assert (np.abs(np.diff(commands, axis=0)) <= 1.5 * reach + 1e-9).all()


def test_terminal_turns_what_it_reads_into_keys_and_does_what_the_recorders_keys_say(bench) -> None:
    assert keys_of("\x1b[A\x1b[A\x1bOD\x1b[6~wG\r\x1b") == UP + LEFT + LOWER + "wg\r"
    heard: list[str] = []
    bench.node.create_subscription(String, person.KEYS, lambda m: heard.append(str(m.data)), 10)

    class Recorder:
        def ask(self, command: Command, *, success: bool | None = None) -> str:
            heard.append(command.value)
            return '{"state": "idle"}'

        def set_texts(self, **values: str) -> None:
            raise AssertionError

    terminal = Terminal(bench.node, "/teleop", Operator(Recorder()))
    bench.until(lambda: bench.node.count_subscribers(person.KEYS), "ourselves")
    terminal.take(UP + "s" + "g")
    bench.until(lambda: UP + "g" in heard, "the keys")
    assert "start" in heard
