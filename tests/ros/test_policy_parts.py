"""The parts of the policy node without ROS: states, controller and deadlines."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_cell import PERIOD, START, controller, running, strict_rig

from benches.control_loop import excess
from tacit.control.acting import Replanner
from tacit.control.safety import Fault
from tacit.control.states import PolicyMachine
from tacit.rig import Rig, load_rig, parse_rig


@pytest.fixture(scope="module")
def rig() -> Rig:
    return strict_rig()


COMMANDS = st.lists(
    st.sampled_from(["start", "home", "arrive", "hold", "fail", "estop", "reset"]), max_size=30
)


@given(COMMANDS)
def test_emergency_stop_ends_only_by_reset(commands: list[str]) -> None:
    machine = PolicyMachine()
    for command in commands:
        before = machine.state
        if command in ("hold", "fail"):
            machine.hold(Fault(command, ""))
        else:
            getattr(machine, command)()
        if before == "ESTOP" and command != "reset":
            assert machine.state == "ESTOP"
        if machine.state == "RUNNING":
            assert before == "RUNNING" or command == "start"
        if machine.state == "HOMING":
            assert before == "HOMING" or command == "home"
        assert (machine.fault is None) == (machine.state in ("IDLE", "RUNNING", "HOMING"))


def test_first_reason_of_a_hold_stays() -> None:
    machine = PolicyMachine()
    machine.start()
    machine.hold(Fault("stale", "first"))
    machine.hold(Fault("skew", "second"))
    assert machine.fault == Fault("stale", "first") and str(machine) == "HOLD (stale: first)"


def test_start_needs_input_and_finite_joints(rig: Rig) -> None:
    made = controller(rig)
    assert "no joint state" in made.start(None, None).message
    assert "stale: old" in made.start(START, Fault("stale", "old")).message
    assert "not_finite" in made.start(np.full(7, np.nan), None).message
    assert made.state == "IDLE"


def test_nothing_is_commanded_before_the_first_chunk(rig: Rig) -> None:
    made = controller(rig)
    made.start(START, None)
    assert made.step(0, START) is None and made.state == "RUNNING"
    assert made.step(2 * 10**9, START) is None and made.state == "RUNNING"
    assert made.step(3 * 10**9, START) is None and made.fault.reason == "chunk_exhausted"


def test_slow_first_inference_makes_no_jump(rig: Rig) -> None:
    made = controller(rig)
    made.start(START, None)
    made.add(START + 0.01 * np.arange(25)[:, None], stamp_ns=0)
    first = made.step(20 * PERIOD, START)
    np.testing.assert_allclose(first, START, atol=1e-12)


def test_first_command_starts_from_where_the_robot_is_then(rig: Rig) -> None:
    made = running(rig)
    moved = START + 0.02
    first = made.step(0, moved)
    assert (first <= moved).all() and (first >= START).all() and (moved - first <= 0.03).all()


def test_exhausted_chunk_brakes_then_gives_nothing(rig: Rig) -> None:
    made = controller(rig)
    made.start(START, None)
    made.add(START + 0.02 * np.arange(10)[:, None], 0)
    path = [made.step(k * PERIOD, None) for k in range(30)]
    assert made.state == "HOLD" and made.fault.reason == "chunk_exhausted"
    moving = np.array([command for command in path if command is not None])
    assert 10 < len(moving) < 20 and path[-1] is None
    acceleration = np.diff(np.diff(moving, axis=0), axis=0) / 0.04**2
    assert (np.abs(acceleration) <= rig.limits("acceleration") + 1e-6).all()


def test_far_first_target_is_approached_without_overshoot(rig: Rig) -> None:
    made = controller(rig)
    made.start(np.zeros(7), None)
    goal = np.array([0.5] * 6 + [0.06])
    made.add(np.tile(goal, (60, 1)), 0)
    path = np.array([made.step(k * PERIOD, None) for k in range(60)])
    assert (path <= goal + 1e-9).all()
    np.testing.assert_allclose(path[-1], goal, atol=1e-3)


def test_approach_ends_on_a_moving_target_without_lag(rig: Rig) -> None:
    made = controller(rig)
    made.start(np.zeros(7), None)
    made.add(0.03 + 0.3 * 0.04 * np.arange(60)[:, None] * np.array([1.0] * 6 + [0.1]), 0)
    commands = np.array([made.step(k * PERIOD, None) for k in range(60)])
    targets = 0.03 + 0.3 * 0.04 * np.arange(60)
    np.testing.assert_allclose(commands[30:, 0], targets[30:], atol=1e-6)


@pytest.mark.parametrize("far_ticks", [4, 5])
def test_joint_far_from_its_command_holds_at_the_fifth_tick_in_a_row(rig: Rig, far_ticks: int) -> None:
    made = running(rig, rows=60)
    far = START - 0.5
    made.step(0, START)
    for k in range(1, 5):  # four, then one that is near: the count starts anew
        made.step(k * PERIOD, far)
    made.step(5 * PERIOD, START)
    assert made.state == "RUNNING"
    for k in range(6, 6 + far_ticks):
        made.step(k * PERIOD, far)
    held = made.fault is not None and made.fault.reason == "tracking"
    assert held == (far_ticks == 5)


def test_second_run_waits_for_its_first_chunk_and_starts_where_the_robot_is_then(rig: Rig) -> None:
    made = running(rig)
    made.step(0, START)
    made.hold()
    assert made.start(START, None).success
    assert made.step(PERIOD, START) is None and made.state == "RUNNING"
    made.add(np.tile(START, (10, 1)), PERIOD)
    moved = START + 0.02
    first = made.step(2 * PERIOD, moved)
    assert (moved - first <= 0.03).all() and (first > START).all()


def test_reset_forgets_chunks_and_commands(rig: Rig) -> None:
    made = running(rig, rows=50)
    made.step(0, START)
    made.hold()
    assert made.reset().success
    assert made.rows_left(PERIOD) == 0
    assert made.start(START - 0.5, None).success  # far from the last command, which is forgotten


def test_resume_far_from_the_last_command_is_refused(rig: Rig) -> None:
    made = running(rig)
    made.step(0, START)
    made.hold()
    made.step(PERIOD, START)
    answer = made.start(START - 0.5, None)
    assert not answer.success and "reset" in answer.message
    assert made.reset().success and made.start(START - 0.5, None).success


def test_chunk_of_a_run_before_is_not_played(rig: Rig) -> None:
    made = running(rig)
    made.step(0, START)
    made.hold()
    made.add(np.ones((10, 7)), 0)
    made.start(START, None)
    assert made.step(2 * PERIOD, START) is None


def test_home_is_reached_within_limits_without_overshoot_and_the_gripper_stays(rig: Rig) -> None:
    made = controller(rig)
    begin, goal = np.array([0.0] * 6 + [0.03]), rig.home
    assert made.home(begin, None).success and made.state == "HOMING"
    path = [begin]
    while made.state == "HOMING" and len(path) < 200:
        path.append(made.step(len(path) * PERIOD, path[-1]))
    travelled = np.array(path)
    assert made.state == "IDLE" and made.step(0, None) is None
    np.testing.assert_allclose(travelled[-1, :6], goal[:6], atol=1e-4)
    assert (travelled[:, 6] == 0.03).all()
    assert (np.abs(travelled[:, :6]) <= np.abs(goal[:6]) + 1e-9).all()
    assert (np.abs(np.diff(travelled, axis=0)) <= rig.limits("velocity") * 0.04 + 1e-9).all()


def test_homing_is_held_like_a_run_and_refused_without_a_home_or_while_running(rig: Rig) -> None:
    made = running(rig)
    assert "hold first" in made.home(START, None).message
    made.hold()
    assert made.home(START, None).success
    assert made.fail(Fault("stale", "joints")).success and made.state == "HOLD"
    data = rig.model_dump(mode="json")
    data["arms"]["arm"]["home"] = None
    assert "home: [...]" in controller(parse_rig(data, "test")).home(START, None).message


def test_arm_comes_to_rest_inside_its_workspace_and_may_go_back_in(rig: Rig) -> None:
    data = rig.model_dump(mode="json")
    home = np.where(np.isnan(rig.home), 0.04, rig.home)
    height = float(rig.geometry.flange_poses(home)["arm"][2, 3])
    box = {"lower": [-2.0, -2.0, -1.0], "upper": [2.0, 2.0, height + 0.05]}
    data["safety"]["workspace"] = {"arm": box}
    boxed = parse_rig(data, "test")
    made = controller(boxed)
    assert made.start(home, None).success
    up = home - np.array([0, 0.04, 0, 0, 0, 0, 0]) * np.arange(40)[:, None]  # the shoulder lifts the arm
    assert boxed.geometry.flange_poses(up[-1])["arm"][2, 3] > height + 0.1
    made.add(up, 0)
    path = [made.step(k * PERIOD, None) for k in range(40)]
    assert made.fault.reason == "workspace" and "arm.flange" in made.fault.detail
    heights = [boxed.geometry.flange_poses(q)["arm"][2, 3] for q in path if q is not None]
    assert height + 0.02 < max(heights) <= height + 0.052
    out = up[15]
    assert boxed.geometry.flange_poses(out)["arm"][2, 3] > box["upper"][2]
    assert made.reset().success and made.home(out, None).success
    assert made.step(0, out) is not None and made.state == "HOMING"


def test_dry_run_does_not_change_in_motion(rig: Rig) -> None:
    made = running(rig)
    assert not made.set_dry_run(True).success
    made.hold()
    assert made.set_dry_run(True).success and made.dry_run


@pytest.mark.parametrize("stall", [1.6, 3.0, 3.1, 25.0])
def test_late_tick_goes_on_over_the_true_time_and_a_stall_starts_from_rest(rig: Rig, stall: float) -> None:
    made = controller(rig)
    made.start(START, None)
    made.add(START + 0.03 * np.arange(60)[:, None], 0)
    *_, before, last = [made.step(k * PERIOD, None) for k in range(8)]
    speed = (last - before) / 0.04
    late = made.step(7 * PERIOD + int(stall * PERIOD), None)
    limit = rig.limits("acceleration") * 0.04
    if stall > 3:
        assert (np.abs(late - last) <= limit * 0.04 + 1e-9).all()  # as the first step of a run
    else:
        new = (late - last) / (0.04 * stall)
        assert (np.abs(new) <= rig.limits("velocity") + 1e-9).all()
        assert (np.abs(new - speed) <= limit * stall + 1e-9).all()
        assert (late - last)[0] > 0.9 * speed[0] * 0.04 * stall  # and does not lag


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31), mode=st.sampled_from(["blend", "temporal_ensemble", "replace", "open_loop"])
)
def test_whatever_the_chunks_commands_stay_within_limits(seed: int, mode: str) -> None:
    rig = load_rig("nova2_sim")
    random = np.random.default_rng(seed)
    made = controller(rig, mode, dry_run=True)
    made.start(START, None)
    path, lower, upper = [START], rig.limits("lower"), rig.limits("upper")
    for k in range(60):
        if random.random() < 0.3:
            chunk = random.uniform(-8, 8, (12, 7))
            made.add(chunk, max(0, k - int(random.integers(0, 6))) * PERIOD)
        if random.random() < 0.03:
            made.fail(Fault("test", ""))
            made.start(path[-1], None)
            path = path[-1:]
        command = made.step(k * PERIOD, None)
        if command is not None:
            path.append(command)
    steps = np.array([b - a for a, b in pairwise(path)]).reshape(-1, 7)
    assert (np.array(path) >= lower - 1e-9).all() and (np.array(path) <= upper + 1e-9).all()
    assert (np.abs(steps) <= rig.limits("velocity") * 0.04 + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31), mode=st.sampled_from(["blend", "temporal_ensemble", "replace", "open_loop"])
)
def test_whatever_the_chunks_and_however_late_the_ticks_nothing_exceeds_a_limit(seed: int, mode: str) -> None:
    rig, random = load_rig("nova2_sim"), np.random.default_rng(seed)
    made = controller(rig, mode, dry_run=True)
    now, runs = 0, [[]]
    made.start(START, None)
    for _ in range(120):
        kind = random.random()
        now += int(PERIOD * (1.0 if kind < 0.5 else random.uniform(0.7, 3) if kind < 0.95 else 20))
        if random.random() < 0.3:
            made.add(random.uniform(-8, 8, (12, 7)), max(0, now - int(random.integers(0, 6)) * PERIOD))
        if random.random() < 0.03:
            made.fail(Fault("test", ""))
        if random.random() < 0.03 and made.start(made.limiter.position, None).success:
            runs.append([])
        command = made.step(now, None)
        if command is not None:
            runs[-1].append((now, command))
    for run in runs:
        if len(run) > 2:
            stamps, commands = zip(*run, strict=True)
            assert excess(rig, np.array(stamps), np.array(commands), PERIOD) <= 1e-6


def test_replanner_infers_first_then_by_its_rule() -> None:
    often, late = Replanner("blend", 5), Replanner("open_loop", 1)
    for one in (often, late):
        assert one.is_due(7, rows_left=99, lead_rows=3)
        one.planned(7)
    assert [often.is_due(k, 99, 3) for k in (8, 11, 12)] == [False, False, True]
    assert [late.is_due(8, rows, 3) for rows in (99, 4, 3)] == [False, False, True]
    often.reset()
    assert often.is_due(8, 99, 3)
