"""A person moves the robot: what each device does, what ends it, and that no limit is ever passed."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.control.controller import Controller
from tacit.control.safety import Fault
from tacit.errors import ConfigError
from tacit.geometry.robot import Robot
from tacit.geometry.transforms import pose_error
from tacit.rig import Rig, parse_rig
from tacit.teleop import Event, Person, TeleopSettings
from tacit.teleop.devices import DOWN, HIGHER, LEFT, MOVES, PADS, RIGHT, UP, Pad
from tacit.teleop.jog import Jogger, tool_point
from tacit.teleop.leader import LeaderMap

DT = 0.02
MS = 1_000_000
FIRST_NS = 10**9


class Desk:
    """A person at a controller and a robot that follows at once; time goes on tick by tick."""

    def __init__(self, rig: Rig, dt: float = DT, state: np.ndarray | None = None, **settings: object) -> None:
        self.rig, self.dt, self.now_ns = rig, dt, FIRST_NS
        self.person = Person(rig, TeleopSettings(**settings))  # type: ignore[arg-type]
        self.controller = Controller(rig, None, dt, person=self)
        self.state = np.append(rig.home[:6], 0.04) if state is None else np.array(state)  # type: ignore[index]
        self.commands: list[np.ndarray] = []

    def begin(self) -> None:
        self.person.begin()

    def target(self, position: np.ndarray, dt: float) -> np.ndarray | None:
        return self.person.target(position, dt, self.now_ns)

    def take(self) -> None:
        answer = self.controller.take_over(self.state, None)
        assert answer.success, answer.message

    def run(self, seconds: float, keys: str = "", **heard: object) -> None:
        """Let time pass while keys are held, or a pad or leader sends the same on."""
        for _ in range(round(seconds / self.dt)):
            if keys:
                self.person.press(keys, self.now_ns)
            if "joy" in heard:
                self.person.joy(*heard["joy"], self.now_ns)  # type: ignore[misc]
            if "lead" in heard:
                self.person.lead(heard["lead"], self.now_ns)  # type: ignore[arg-type]
            command = self.controller.step(self.now_ns, self.state)
            if command is not None:
                self.commands.append(command)
                self.state = command
            self.now_ns += round(self.dt * 1e9)

    def tool(self) -> np.ndarray:
        T = Robot.from_rig(self.rig).forward(self.state[:6])
        T[:3, 3] += T[:3, :3] @ tool_point(self.rig, "arm")
        return T

    def largest(self) -> tuple[float, float]:
        """Largest step and change of step of all commands, as parts of what the rig allows."""
        steps = np.diff(np.array(self.commands), axis=0)
        v, a = self.rig.limits("velocity"), self.rig.limits("acceleration")
        changes = np.diff(steps, axis=0)
        return float((np.abs(steps) / (v * self.dt)).max()), float((np.abs(changes) / (a * self.dt**2)).max())


@pytest.mark.parametrize("key", sorted(MOVES), ids=lambda key: f"U+{ord(key):04X}")
def test_each_key_moves_the_tool_along_or_about_its_own_axis(rig: Rig, key: str) -> None:
    desk = Desk(rig)
    desk.take()
    before = desk.tool()
    desk.run(0.5, key)
    desk.run(0.5)
    axis, sign = MOVES[key]
    after = desk.tool()
    moved = after[:3, 3] - before[:3, 3]
    turned = after[:3, :3] @ before[:3, :3].T
    if axis < 3:
        wanted = sign * 0.6 * 0.1 * 0.68  # held for half a second, and known as held for 0.18 s more
        np.testing.assert_allclose(moved, wanted * np.eye(3)[axis], atol=2e-3)
        assert pose_error(before, after).rotation < 2e-3
    else:
        i, j = [(1, 2), (2, 0), (0, 1)][axis - 3]
        angle = np.arctan2(turned[j, i] - turned[i, j], turned[i, i] + turned[j, j])
        assert sign * angle == pytest.approx(0.6 * 0.6 * 0.68, rel=0.05)
        assert np.linalg.norm(moved) < 1e-3


def test_axes_of_the_tool_are_those_of_the_flange(rig: Rig) -> None:
    desk = Desk(rig, jog := DT, None, frame="tool")
    assert jog == DT
    desk.take()
    before = desk.tool()
    desk.run(0.5, UP)
    moved = desk.tool()[:3, 3] - before[:3, 3]
    assert (
        moved @ before[:3, 0] == pytest.approx(np.linalg.norm(moved), rel=1e-3)
        and np.linalg.norm(moved) > 0.02
    )


def test_nothing_moves_before_the_robot_is_taken_and_nothing_is_sent_before_a_motion(rig: Rig) -> None:
    desk = Desk(rig)
    desk.run(0.2, UP)
    assert not desk.commands
    desk.take()
    desk.run(0.5)
    assert not desk.commands  # guided by hand


def test_mashed_keys_stay_within_velocity_and_acceleration(rig: Rig) -> None:
    random = np.random.default_rng(0)
    keys = [*MOVES, "g", "h", "+", "-", "b"]
    desk = Desk(rig, linear=0.25, angular=1.5)
    desk.take()
    for _ in range(60):
        desk.run(float(random.uniform(0.02, 0.2)), "".join(random.choice(keys, 3)))
    step, change = desk.largest()
    assert 0.2 < step <= 1 + 1e-9 and change <= 1 + 1e-6
    lower, upper = rig.limits("lower"), rig.limits("upper")
    assert all((lower - 1e-9 <= q).all() and (q <= upper + 1e-9).all() for q in desk.commands)


def test_letting_go_of_the_key_brings_the_arm_to_rest_in_a_quarter_of_a_second(rig: Rig) -> None:
    desk = Desk(rig)
    desk.take()
    desk.run(0.5, UP)
    desk.run(0.25)
    assert desk.controller.limiter.is_at_rest
    at, said = desk.state.copy(), len(desk.commands)
    desk.run(1.0)
    assert np.array_equal(desk.state, at)
    assert len(desk.commands) - said == round(1.0 / DT)  # and it goes on to say so


def test_empty_text_lets_go_of_all_keys_at_once(rig: Rig) -> None:
    desk = Desk(rig)
    desk.take()
    desk.run(0.3, UP)
    desk.person.press("", desk.now_ns)
    desk.run(0.06)
    assert desk.controller.limiter.is_at_rest


def test_reaching_for_the_end_of_the_arm_slows_down_and_the_way_back_is_free(rig: Rig) -> None:
    desk = Desk(rig, linear=0.25)
    desk.take()
    start = desk.tool()[:3, 3]
    desk.run(3.0, DOWN + "+")  # away from the base, much further than the arm is long
    far = desk.tool()[:3, 3]
    jogger = Jogger(rig, "arm")
    J = Robot.from_rig(rig).jacobian(desk.state[:6])
    assert np.linalg.svd(J, compute_uv=False)[-1] > 1e-3 and np.isfinite(desk.state).all()
    rates = np.abs(np.diff(np.array(desk.commands)[:, :6], axis=0)) / DT
    assert rates.max() <= 0.5 * rig.limits("velocity")[0] + 1e-9  # the part that jogging may use
    assert abs(far[1] - start[1]) < 5e-3 and abs(far[2] - start[2]) < 5e-3, "it left its line"
    assert np.linalg.norm(jogger.pose(desk.state[:6])[:3, 3] - far) < 1e-9
    desk.run(1.5, UP)
    assert desk.tool()[0, 3] > far[0] + 0.05


def test_tool_that_was_held_back_returns_to_its_line_and_keeps_its_attitude(rig: Rig) -> None:
    jogger, q = Jogger(rig, "arm"), rig.home[:6]  # type: ignore[index]
    forward = np.array([0.1, 0, 0, 0, 0, 0])
    q = jogger.step(q, forward, "world", DT)
    start = jogger.pose(q)
    q = q + [0.01, 0, 0, 0, 0.02, 0]  # as limits of acceleration do when a motion begins
    pushed = jogger.pose(q)
    for _ in range(50):
        q = jogger.step(q, forward, "world", DT)
    aside = np.abs(jogger.pose(q)[1:3, 3] - start[1:3, 3]).max()
    assert aside < 0.1 * np.abs(pushed[1:3, 3] - start[1:3, 3]).max()
    assert pose_error(start, jogger.pose(q)).rotation < 0.1 * pose_error(start, pushed).rotation


def test_joint_limit_stops_the_whole_motion_and_leaves_the_way_back(rig: Rig) -> None:
    desk = Desk(rig)
    desk.take()
    narrow = Jogger(rig, "arm")
    q = desk.state[:6].copy()
    q[5] = rig.limits("upper")[5] - 2e-3
    turning = np.array([0, 0, 0, 0, 0, -0.5])  # the tool points down: joint 6 turns the other way
    for _ in range(100):
        q = narrow.step(q, turning, "world", DT)
    assert rig.limits("upper")[5] - 2e-3 < q[5] <= rig.limits("upper")[5]
    back = narrow.step(q, -turning, "world", DT)
    assert back[5] < q[5] - 1e-3


def test_wall_of_the_workspace_stops_without_a_fault_and_other_ways_stay_free(rig: Rig) -> None:
    data = rig.model_dump(mode="json")
    data["safety"]["workspace"] = {"arm": {"lower": [-0.6, -0.4, 0.0], "upper": [0.0, 0.4, 0.33]}}
    desk = Desk(parse_rig(data, "test"))
    desk.take()
    desk.run(3.0, HIGHER)
    heights = Robot.from_rig(desk.rig).forward_batch(np.array(desk.commands)[:, :6])[:, 2, 3]
    assert 0.325 < heights.max() <= 0.33
    assert desk.controller.state == "PERSON" and desk.controller.blocked is not None
    before = desk.tool()[1, 3]
    desk.person.press("", desk.now_ns)
    desk.run(0.5, LEFT)
    assert desk.tool()[1, 3] > before + 0.025


def test_gripper_keys_open_and_close_within_its_limits(rig: Rig) -> None:
    desk = Desk(rig)
    desk.take()
    desk.run(2.0, "g")
    assert desk.state[6] == pytest.approx(0.0, abs=1e-6)
    desk.run(2.0, "h")
    assert desk.state[6] == pytest.approx(0.08, abs=1e-6)


def pad(deadman: bool = True, **axes: float) -> tuple[list[float], list[int]]:
    values, buttons = [0.0] * 8, [0] * 11
    values[1] = axes.get("x", 0.0)
    buttons[4] = int(deadman)
    return values, buttons


def test_stick_moves_only_while_the_dead_man_button_is_held_and_the_pad_is_heard(rig: Rig) -> None:
    desk = Desk(rig)
    desk.take()
    at = desk.tool()[0, 3]
    desk.run(0.5, joy=pad(False, x=1.0))
    assert desk.tool()[0, 3] == at
    desk.run(0.5, joy=pad(True, x=1.0))
    assert desk.tool()[0, 3] > at + 0.04
    desk.run(0.1, joy=pad(False, x=1.0))
    assert desk.controller.limiter.is_at_rest
    desk.run(0.5, joy=pad(True, x=1.0))
    desk.run(0.3)  # unplugged with the button down
    assert desk.controller.limiter.is_at_rest


def test_stick_at_rest_and_damaged_axes_mean_nothing() -> None:
    heard = Pad(PADS["spacemouse"])
    heard.hear([0.05, float("nan"), float("inf"), 0, 0, 0], [0, 0], FIRST_NS)
    assert heard.wish(FIRST_NS) is None
    heard.hear([0.5, 0, 0, 0, 0], [], FIRST_NS)
    assert heard.wish(FIRST_NS).twist[0] == pytest.approx((0.5 - 0.08) / 0.92)  # type: ignore[union-attr]


def test_button_asks_once_when_it_goes_down_and_not_when_it_was_down_at_the_start() -> None:
    heard, down, up = Pad(PADS["gamepad"]), [0] * 7 + [1], [0] * 8
    assert heard.hear([], down, FIRST_NS) == []
    heard.hear([], up, FIRST_NS)
    assert heard.hear([], down, FIRST_NS) == [Event.take] and heard.hear([], down, FIRST_NS) == []


def test_key_asks_once_while_it_is_held(rig: Rig) -> None:
    person = Person(rig)
    assert person.press("\r", FIRST_NS) == [Event.take]
    assert person.press("\r", FIRST_NS + 40 * MS) == []
    assert person.press("v", FIRST_NS + 80 * MS) == [Event.back]


def test_twist_too_fast_is_slowed_down_as_a_whole_and_one_of_nan_is_none(rig: Rig) -> None:
    desk = Desk(rig)
    desk.take()
    before = desk.tool()[:3, 3]
    for _ in range(30):
        assert desk.person.twist([0.4, 0.3, 0, 0, 0, 0], "world", desk.now_ns)
        desk.run(DT)
    moved = desk.tool()[:3, 3] - before
    assert np.linalg.norm(moved) == pytest.approx(30 * DT * 0.125, rel=0.1)
    assert moved[1] / moved[0] == pytest.approx(0.75, rel=0.01)
    assert not desk.person.twist([np.nan] * 6, "world", desk.now_ns)
    desk.run(0.1)
    assert desk.controller.limiter.is_at_rest


def test_leader_is_followed_only_after_its_pose_matched_and_never_with_a_jump(rig: Rig) -> None:
    text = ",".join(f"joint{i}=lead{i}*{-1 if i == 1 else 1}+{0.5 if i == 2 else 0}" for i in range(1, 7))
    desk = Desk(rig, leader=text)
    leads = LeaderMap.parse(rig, text)
    theirs = (desk.state[leads.index] - leads.offset) / leads.scale
    assert leads.names == ("lead1", "lead2", "lead3", "lead4", "lead5", "lead6")
    desk.take()
    desk.run(0.3, lead=theirs + np.array([0, 0, 0.3, 0, 0, 0]))
    assert not desk.commands and "lead3 is -0.30 away from joint3" in desk.person.refused
    desk.run(2.0, lead=theirs + np.array([0.08, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(desk.state[0], -(theirs[0] + 0.08), atol=1e-6)
    desk.run(0.5)  # it falls silent, is carried away, and comes back
    at = desk.state.copy()
    desk.run(0.5, lead=theirs + 0.5)
    assert np.array_equal(desk.state, at) and desk.person.refused
    step, change = desk.largest()
    assert step <= 1 and change <= 1 + 1e-6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"leader": "joint9=a"}, "joint6"),
        ({"leader": "joint1=a*b"}, "scale"),
        ({"leader": "joint1=a,joint1=b"}, "two leaders"),
        ({"pad": "gamepda"}, "gamepad"),
        ({"linear": 0.5}, "at most 0.25"),
        ({"arm": "left"}, "arm"),
    ],
)
def test_wrong_setting_is_named(rig: Rig, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Person(rig, TeleopSettings(**settings))  # type: ignore[arg-type]


def test_fault_holds_a_person_too_and_estop_is_not_taken_over(rig: Rig) -> None:
    desk = Desk(rig)
    desk.take()
    desk.run(0.3, UP)
    desk.controller.fail(Fault("stale", "joints"))
    desk.run(0.5, RIGHT)
    assert desk.controller.state == "HOLD" and desk.controller.limiter.is_at_rest
    desk.controller.estop()
    assert not desk.controller.take_over(desk.state, None).success
