"""What a lab changes after training is drawn from the seed, seen or felt, and unknown to the rig."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.rig import Rig
from tacit_sim.cell import Cell
from tacit_sim.surroundings import AREA, CHANGES, CLEAR_M, DISTRACTORS, Change
from tacit_sim.tasks import find_task

pytestmark = pytest.mark.sim
TASK = find_task("place_cube")
GEL: tuple[Change, ...] = ("gel",)
DISTRACTED: tuple[Change, ...] = ("distractors",)
MOVED: tuple[Change, ...] = ("camera",)


@pytest.fixture(scope="module")
def plain(rig: Rig) -> Iterator[Cell]:
    cell = Cell(rig, TASK.name)
    yield cell
    cell.close()


@pytest.fixture(scope="module", params=CHANGES)
def changed(rig: Rig, request: pytest.FixtureRequest) -> Iterator[tuple[str, Cell]]:
    cell = Cell(rig, TASK.name, changes=(request.param,))
    yield request.param, cell
    cell.close()


def senses(cell: Cell) -> dict[str, np.ndarray]:
    """What the cell shows and feels, without the noise of sensors."""
    return {name: cell.render(name) for name in cell.rig.cameras} | {
        name: cell.touch(name) for name in cell.rig.tactile
    }


def test_each_change_is_seen_or_felt_alone_and_repeats_with_its_seed(
    plain: Cell, changed: tuple[str, Cell]
) -> None:
    kind, cell = changed
    plain.reset(3)
    cell.reset(3)
    np.testing.assert_array_equal(cell.state(), plain.state())  # the robot and the part are where they were
    np.testing.assert_array_equal(cell.object_pose(), plain.object_pose())
    before, first = senses(plain), senses(cell)
    for name in first:
        differs = np.abs(first[name].astype(int) - before[name]).max() > 2
        assert differs == ((name in cell.rig.tactile) == (kind == "gel")), name
    cell.reset(4)
    other = senses(cell)
    cell.reset(3)
    again = senses(cell)
    seen = [name for name in first if (name in cell.rig.tactile) == (kind == "gel")]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in seen)


def test_a_gel_drifts_and_its_reference_with_it(rig: Rig) -> None:
    cell = Cell(rig, TASK.name, changes=GEL)
    cell.reset(5)
    first = cell.reference("left").astype(int)
    cell.step(8_000_000_000)
    last = cell.reference("left").astype(int)
    assert 1 <= np.abs(last - first).max() <= 5
    np.testing.assert_array_equal(cell.touch("left"), cell.reference("left"))
    assert np.abs(cell.reference("right").astype(int) - last).max() > 3  # each sensor has its own
    cell.close()


def test_distractors_lie_in_view_and_leave_the_task_alone(rig: Rig) -> None:
    cell = Cell(rig, TASK.name, changes=DISTRACTED)
    for seed in range(20):
        cell.reset(seed)
        places = np.array([cell.model.geom(f"distractor{i}").pos[:2] for i in range(DISTRACTORS)])
        for kept in (TASK.start_xy, *TASK.marks):
            assert np.linalg.norm(places - kept, axis=1).min() >= CLEAR_M
        for axis, (low, high) in enumerate(AREA):
            assert (low <= places[:, axis]).all() and (places[:, axis] <= high).all()
    cell.close()


def test_a_camera_is_moved_by_two_centimetres_and_the_rig_does_not_know(rig: Rig, plain: Cell) -> None:
    cell = Cell(rig, TASK.name, changes=MOVED)
    for seed in range(5):
        cell.reset(seed)
        moved = np.linalg.norm(cell.model.cam_pos - plain.model.cam_pos, axis=1)
        np.testing.assert_allclose(moved, 0.02, atol=1e-9)
        cosines = np.abs((cell.model.cam_quat * plain.model.cam_quat).sum(axis=1))
        np.testing.assert_allclose(np.rad2deg(2 * np.arccos(np.minimum(cosines, 1))), 2.0, atol=0.01)
    assert cell.rig.rig_id == rig.rig_id
    cell.close()
