"""Stages follow the physical truth, and success cannot be had by pushing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.errors import ConfigError
from tacit_sim.tasks import RELEASE_LOOKS, STAGES, TASKS, StageMachine, Truth, find_task

TASK = TASKS["place_cube"]
GOAL = TASK.goal_xy
START = TASK.start_xy


def truth(xy: tuple[float, float], z: float, held: bool, upright: bool = True) -> Truth:
    return Truth(np.array([*xy, z]), grasped=held, touched=held, upright=upright)


def walk(machine: StageMachine, *truths: Truth) -> list[str]:
    return [STAGES[machine.update(seen)] for seen in truths]


LIFT = [truth(START, 0.025, False), truth(START, 0.025, True), truth(START, 0.12, True)]
CARRY = [truth(GOAL, 0.12, True), truth(GOAL, 0.025, True)]
RELEASE = [truth(GOAL, 0.025, False)] * RELEASE_LOOKS


def test_a_clean_episode_walks_through_all_stages_in_order() -> None:
    machine = StageMachine(TASK)
    names = walk(machine, *LIFT, *CARRY, *RELEASE)
    assert [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name] == list(STAGES)
    assert machine.success(RELEASE[-1])


def test_stage_does_not_go_back_when_the_part_sinks_or_swings() -> None:
    machine = StageMachine(TASK)
    walk(machine, *LIFT)
    assert walk(machine, truth(START, 0.05, True), truth(START, 0.026, True)) == ["carry", "carry"]


def test_a_dropped_part_starts_anew() -> None:
    machine = StageMachine(TASK)
    walk(machine, *LIFT)
    dropped = [truth(START, 0.025, False)] * RELEASE_LOOKS
    assert walk(machine, *dropped)[-1] == "reach"


def test_contact_that_flickers_is_no_drop() -> None:
    machine = StageMachine(TASK)
    walk(machine, *LIFT)
    flicker = [truth(START, 0.12, False)] * (RELEASE_LOOKS - 1)
    assert walk(machine, *flicker, truth(START, 0.12, True))[-1] == "carry"


def test_a_part_pushed_to_the_goal_is_no_success() -> None:
    machine = StageMachine(TASK)
    walk(machine, truth(START, 0.025, True), truth(GOAL, 0.025, True), *RELEASE)
    assert not machine.success(RELEASE[-1])


@pytest.mark.parametrize(
    "end",
    [
        truth((GOAL[0] + 0.021, GOAL[1]), 0.025, False),
        truth(GOAL, 0.035, False),
        truth(GOAL, 0.025, True),
        truth(GOAL, 0.025, False, upright=False),
    ],
    ids=["beside", "too high", "still held", "fallen over"],
)
def test_what_is_not_placed_is_no_success(end: Truth) -> None:
    machine = StageMachine(TASK)
    walk(machine, *LIFT)
    assert not machine.success(end)


def test_unknown_task_is_named_with_a_close_one() -> None:
    with pytest.raises(ConfigError, match="insert_peg"):
        find_task("insert_pge")
