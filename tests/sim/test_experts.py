"""Experts succeed, disturbed or not, and the disturbance leaves precise moments alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from benches.expert import run_expert
from tacit.errors import ConfigError
from tacit.geometry.robot import Robot
from tacit.geometry.transforms import from_translation
from tacit.rig import Rig
from tacit_sim.cell import HOME, Cell
from tacit_sim.disturbance import RHO, SIGMA_XY_M, Disturbance, smoothstep
from tacit_sim.experts import Expert, ToolInverse, draw_grasp
from tacit_sim.failures import FAILURES
from tacit_sim.tasks import OVER, STAGES, TASKS, find_task

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("task", sorted(TASKS))
def test_expert_succeeds_on_every_one_of_eight_seeds(task: str) -> None:
    results = run_expert("nova2_sim", task, 6, 500, True) + run_expert("nova2_sim", task, 2, 506, False)
    assert [result.seed for result in results if not result.success] == []
    assert max(result.num_ticks for result in results) <= 200


def test_disturbed_episode_passes_all_stages_in_order(rig: Rig) -> None:
    cell = Cell(rig, "place_cube", disturbed=True)
    expert = Expert(rig, cell.task)
    cell.reset(4)
    expert.start(cell.state(), cell.object_pose())
    stages = []
    for tick in range(expert.num_ticks):
        stages.append(cell.stage())
        cell.command(expert.target(tick))
        cell.step(40_000_000)
    over = stages.index(OVER)
    assert sorted(set(stages[:over])) == list(range(len(STAGES))) and set(stages[over:]) == {OVER}
    assert (np.diff(stages[:over]) >= 0).all()
    assert 0.5 <= (len(stages) - over) / 25 <= 1.0, "what comes after the end shows that it is one"


def test_disturbance_moves_the_robot_but_not_the_commands(rig: Rig) -> None:
    commands, tools = {}, {}
    for disturbed in (False, True):
        cell = Cell(rig, "place_cube", disturbed=disturbed)
        expert = Expert(rig, cell.task)
        cell.reset(7)
        expert.start(cell.state(), cell.object_pose())
        commands[disturbed], tools[disturbed] = [], []
        for tick in range(50):
            commands[disturbed].append(expert.target(tick))
            cell.command(commands[disturbed][-1])
            cell.step(40_000_000)
            tools[disturbed].append(cell.tool_pose()[:3, 3])
    np.testing.assert_array_equal(commands[False], commands[True])
    apart = np.linalg.norm(np.array(tools[True]) - tools[False], axis=1)
    assert apart.max() > 0.004
    assert apart[44:].max() < 5e-4, "no push is left at the grasp"


def test_noise_has_the_stationary_spread_and_memory_of_its_equation() -> None:
    source = Disturbance(TASKS["place_cube"], seed=5)
    x = np.array([source.next(1.0) for _ in range(20_000)])
    assert x[1000:, 0].std() == pytest.approx(SIGMA_XY_M, rel=0.1)
    assert np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1] == pytest.approx(RHO, abs=0.02)
    assert not x[:, 3:5].any(), "the tool is not tilted"


@pytest.mark.parametrize("task", sorted(TASKS))
def test_noise_is_nought_near_the_table(task: str) -> None:
    source = Disturbance(TASKS[task], seed=5)
    heights = np.linspace(0.0, TASKS[task].noise_heights[0], 20)
    assert not np.array([source.next(float(height)) for height in heights]).any()


def test_smoothstep_joins_its_ends_without_a_kink() -> None:
    values = np.array([smoothstep(v, 1.0, 3.0) for v in np.linspace(0.0, 4.0, 401)])
    assert values[:101].max() == 0.0 and values[300:].min() == 1.0
    assert values[200] == pytest.approx(0.5)
    assert np.abs(np.diff(values, 2)).max() < 2e-4


def test_inverse_reaches_a_pose_that_forward_kinematics_confirms(rig: Rig) -> None:
    inverse = ToolInverse(rig)
    robot = Robot.from_rig(rig)
    tool_in_flange = robot.forward(HOME)
    tool_in_flange = np.linalg.inv(tool_in_flange) @ inverse.pose(np.array(HOME))
    goal = inverse.pose(np.array(HOME)) @ np.array(
        [[0, 1, 0, 0.02], [-1, 0, 0, -0.05], [0, 0, 1, 0.1], [0, 0, 0, 1.0]]
    )
    q = inverse.solve(goal, np.array(HOME))
    np.testing.assert_allclose(robot.forward(q) @ tool_in_flange, goal, atol=1e-5)


def test_grasps_vary_within_the_spread_and_repeat_with_the_start() -> None:
    task = find_task("place_cube")
    rng = np.random.default_rng(0)
    poses = [from_translation((*rng.uniform(-0.4, 0.1, 2), 0.025)) for _ in range(200)]
    offsets = np.array([dataclasses.astuple(draw_grasp(task, T)) for T in poses])
    again = np.array([dataclasses.astuple(draw_grasp(task, T)) for T in poses])
    np.testing.assert_array_equal(offsets, again)
    assert (np.abs(offsets) <= task.grasp_spread).all()
    assert (offsets.max(0) > 0.9 * np.array(task.grasp_spread)).all()
    assert (offsets.min(0) < -0.9 * np.array(task.grasp_spread)).all()


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_failure_fails_as_planned_and_a_retry_succeeds(rig: Rig, task: str) -> None:
    cell = Cell(rig, task, disturbed=True)
    expert = Expert(rig, cell.task)
    for kind in FAILURES if task in ("place_cube", "insert_peg") else ("wrong_place",):
        cell.reset(700)
        expert.start(cell.state(), cell.object_pose(), kind, cell.hidden)
        stages = []
        for tick in range(expert.num_ticks):
            cell.command(expert.target(tick))
            cell.step(40_000_000)
            stages.append(cell.stage())
        assert cell.success() == (kind == "retry"), kind
        assert (stages[-1] == OVER) == cell.success()
        (mishap,) = expert.mishaps
        assert mishap.kind == ("miss" if kind == "retry" else kind)
        if kind in ("drop", "wrong_place"):  # the part is let go at the tick that is noted, within a moment
            assert set(stages[mishap.first + 5 :]) == {0} and stages[mishap.first - 2] > 0
        if kind == "hang":
            moved = [expert.target(tick) for tick in (mishap.first, expert.num_ticks - 1)]
            np.testing.assert_allclose(moved[0], moved[1], atol=1e-4)


def test_failures_of_one_start_are_alike_and_those_of_others_differ(rig: Rig) -> None:
    cell = Cell(rig, "place_cube")
    expert = Expert(rig, cell.task)

    def mishap(seed: int) -> tuple[object, ...]:
        cell.reset(seed)
        expert.start(cell.state(), cell.object_pose(), "hang")
        return expert.mishaps

    assert mishap(1) == mishap(1) and len({mishap(seed) for seed in range(6)}) > 3
    with pytest.raises(ConfigError, match="wrong_place"):
        expert.start(cell.state(), cell.object_pose(), "wrong_places")
