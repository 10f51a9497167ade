"""Every number from outside is judged once: joints, grippers, and who else sends them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fed_intake import WALL, real, robot_of

from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Finding, Intake


def joints_with(change: Callable[[float, np.ndarray], np.ndarray]) -> Callable[[str, float, object], object]:
    def values(name: str, t: float, value: object) -> object:
        return {"position": change(t, value["position"])} if name == "joints" else value  # type: ignore[index]

    return values


@pytest.mark.parametrize("worth", [np.nan, np.inf])
def test_joint_that_is_not_a_number_is_refused_by_name(rig: Rig, worth: float) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: np.where(np.arange(6) == 0, worth, q) if t > 1 else q)
    robot.run(2)
    assert robot.kinds == {"joints": "not_finite"} and "joint1" in robot.intake.problems["joints"].text
    assert len(robot.stamps("joints")) == 100


def test_velocity_that_is_not_a_number_is_left_out_alone(rig: Rig) -> None:
    reading = {"position": np.full(6, 0.1), "velocity": np.full(6, np.nan), "effort": np.zeros(6)}
    assert Intake(rig).take("joints", WALL, WALL, reading, 5) == WALL
    assert reading.keys() == {"position", "effort"}


def test_zeros_of_a_second_publisher_are_refused_and_named(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: 0 * q if round(t * 100) % 10 == 0 and t > 1 else q)
    robot.run(3)
    assert robot.kinds == {"joints": "jump"} and "second publisher" in robot.intake.problems["joints"].text
    assert robot.intake.counts["joints"] == {"jump": 200 // 10}


def test_wide_limits_hide_no_second_publisher(rig: Rig) -> None:
    robot = robot_of(real(rig))
    first = np.arange(6) == 0  # its limits are 12.56 rad apart; at 100 Hz it turns by .024 rad a sample
    robot.values = joints_with(lambda t, q: q + 0.25 * first * (round(t * 100) % 2))
    robot.run(1)
    assert robot.kinds == {"joints": "jump"} and robot.intake.counts["joints"]["jump"] >= 40


def test_robot_that_was_moved_while_unseen_is_believed_within_half_a_second(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: q + 1.0 if t > 2 else q)
    robot.run(5)
    assert 15 <= robot.intake.counts["joints"]["jump"] <= 55 and robot.kinds == {}


def test_fastest_allowed_motion_with_jittering_stamps_is_no_jump(rig: Rig) -> None:
    robot = robot_of(real(rig))
    speed = rig.limits("velocity")[:6].min()
    robot.values = joints_with(lambda t, q: q + speed * 0.25 * np.sin(4 * t))
    robot.bend = lambda n, t, s: s + int(robot.random.integers(-4e6, 4e6)) * (n == "joints")
    robot.run(30)
    assert not robot.intake.counts["joints"]


def test_gripper_that_snaps_shut_is_no_jump_and_one_that_leaps_through_its_range_is(rig: Rig) -> None:
    upper = float(rig.limits("upper")[6])
    for part, kinds in ((0.3, {}), (0.8, {"gripper_state": "jump"})):
        robot = robot_of(real(rig))
        robot.values = lambda name, t, value, part=part: (
            {"position": np.array([upper * (0.9 - part * (t > 1))])} if name == "gripper_state" else value
        )
        robot.run(1.05)
        assert robot.kinds == kinds


@pytest.mark.parametrize("says", ["Bool", "table of two rows"])
def test_gripper_that_only_says_open_or_closed_never_jumps(rig: Rig, says: str) -> None:
    upper = float(rig.limits("upper")[6])
    said = real(rig, gripper_state={"type": "std_msgs/msg/Bool"} if says == "Bool" else {})
    if says != "Bool":
        data = said.model_dump(mode="json")
        next(iter(data["arms"].values()))["gripper"] |= {"raw": "table", "table": [[0, 0.0], [1, upper]]}
        said = parse_rig(data, "test")
    intake = Intake(said, ["gripper_state"])
    for k in range(200):
        value, now_ns = np.array([upper * (k // 50 % 2)]), WALL + k * 10_000_000
        assert intake.take("gripper_state", None, now_ns, value, k * 10_000_000) == now_ns
    assert not intake.counts["gripper_state"]


def test_all_zeros_are_questioned_and_one_zero_is_not(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: np.zeros(6))
    robot.run(1)
    assert robot.kinds == {"joints": "zeros"} and len(robot.stamps("joints")) == 100
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: q * (np.arange(6) > 0))
    robot.run(1)
    assert robot.kinds == {}


def test_zeros_of_a_driver_are_found_behind_an_offset(rig: Rig) -> None:
    data = real(rig).model_dump(mode="json")
    data["arms"]["arm"]["joints"][1]["offset"] = 0.4
    robot = robot_of(parse_rig(data, "test"))
    robot.values = joints_with(lambda t, q: np.where(np.arange(6) == 1, 0.4, 0.0))
    robot.run(0.1)
    assert robot.kinds == {"joints": "zeros"}


def test_zeros_of_one_arm_are_found_beside_another_that_is_read() -> None:
    data = real(load_rig("xtrainer")).model_dump(mode="json")
    right = data["streams"].pop("right_joints")["names"]
    data["streams"]["left_joints"]["names"] += right
    intake = Intake(parse_rig(data, "test"), ["left_joints"])
    intake.take("left_joints", WALL, WALL, {"position": np.repeat([0.3, 0.0], 6)}, 5)
    found = intake.findings()["left_joints"]
    assert found.kind == "zeros" and "right" in found.text and "left" not in found.text


def test_degrees_are_refused_and_values_just_outside_the_limits_doubted(rig: Rig) -> None:
    for factor, kinds, kept in ((2.0, "out_of_limits", 0), (1.03, "out_of_limits", 100)):
        robot = robot_of(real(rig))
        robot.values = joints_with(lambda t, q, f=factor: rig.limits("upper")[:6] * f)
        robot.run(1)
        assert robot.kinds == {"joints": kinds} and len(robot.stamps("joints")) == kept


def test_joint_that_repeats_itself_to_the_bit_while_commanded_is_stuck(rig: Rig) -> None:
    for moves, kinds in ((True, {"joints": "stuck"}), (False, {})):
        robot = robot_of(real(rig))
        robot.run(1)
        frozen = robot.value("joints", 1.0)["position"]  # type: ignore[index]
        robot.values = joints_with(lambda t, q, frozen=frozen: frozen)
        for k in range(60):
            asked = frozen + 0.01 * k * moves
            robot.intake.commanded(dict(zip(rig.streams["joints"].names, asked, strict=True)))
            robot.run(0.01)
        assert robot.kinds == kinds


@pytest.mark.parametrize(("pressed_rad", "kinds"), [(0.12, set()), (0.3, {"stuck"})])
def test_joint_that_presses_against_something_is_not_stuck_unless_told_to_go_far(
    rig: Rig, pressed_rad: float, kinds: set[str]
) -> None:
    robot = robot_of(real(rig))
    robot.run(1)
    pressed = robot.value("joints", 1.0)["position"][1]  # type: ignore[index]
    robot.values = joints_with(lambda t, q: np.where(np.arange(6) == 1, pressed, q))
    names = rig.streams["joints"].names
    for k in range(100):
        robot.intake.commanded({names[1]: pressed + min(0.01 * k, pressed_rad)})
        robot.run(0.01)
    assert set(robot.kinds.values()) == kinds


def test_robot_at_rest_may_take_its_time_to_answer_a_command(rig: Rig) -> None:
    robot, names = robot_of(real(rig)), rig.streams["joints"].names
    still = robot.value("joints", 1.0)["position"]  # type: ignore[index]
    robot.values = joints_with(lambda t, q: still)
    robot.intake.commanded(dict(zip(names, still, strict=True)))
    robot.run(1)
    robot.intake.commanded(dict(zip(names, still + 0.1, strict=True)))
    robot.run(0.15)
    assert robot.kinds == {}
    robot.values = joints_with(lambda t, q: still + 0.01 * np.sin(100 * t))
    robot.run(0.3)
    assert robot.kinds == {}


def test_doubts_end_with_the_next_good_sample_and_refusals_after_a_second(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: q * np.nan if 1 < t < 1.05 else q)
    robot.run(1.5)
    assert robot.kinds == {"joints": "not_finite"}
    robot.run(1.0)
    assert robot.kinds == {}
    assert [e.kind for e in robot.intake.drain_events()] == ["not_finite"]


def test_message_refused_now_and_then_does_not_hide_a_doubt(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.intake.notice(
        "publishers", {"joints": Finding("two_publishers", "2 publishers of /joint_states", refused=False)}
    )
    robot.bend = lambda n, t, s: s - 50_000_000 * (n == "joints" and round(t * 100) % 10 == 0)
    robot.run(2)
    assert robot.intake.counts["joints"]["out_of_order"] == 20
    assert robot.kinds == {"joints": "two_publishers"}
