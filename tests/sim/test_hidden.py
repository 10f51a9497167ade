"""What an episode hides is felt and never seen, and decides where the part belongs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
pytest.importorskip("onnx")

from tiny_bundles import manifest_for

from tacit.bundle import PlaySpec
from tacit.rig import Rig
from tacit_sim.cell import Cell
from tacit_sim.closed_loop import Runner
from tacit_sim.experts import Expert
from tacit_sim.failures import FAILURES
from tacit_sim.felt import FeltTouch
from tacit_sim.tasks import TASKS, Hidden, mark_under

pytestmark = pytest.mark.sim
SEED, TICK_NS = 12, 40_000_000
LEFT, RIGHT = Hidden(0), Hidden(1)


@pytest.fixture(scope="module")
def sort_cell(rig: Rig) -> Iterator[Cell]:
    cell = Cell(rig, "sort_by_feel")
    yield cell
    cell.close()


@pytest.fixture(scope="module")
def sleeve_cell(rig: Rig) -> Iterator[Cell]:
    cell = Cell(rig, "insert_peg_in_hand")
    yield cell
    cell.close()


def grasp(cell: Cell, hidden: Hidden, ticks: int = 78) -> None:
    """Play the expert until the part is lifted; its commands until then know nothing of what is hidden."""
    cell.reset(SEED, hidden=hidden)
    expert = Expert(cell.rig, cell.task)
    expert.start(cell.state(), cell.object_pose(), hidden=hidden)
    for tick in range(ticks):
        cell.command(expert.target(tick))
        cell.step(TICK_NS)


def seen(cell: Cell) -> list[bytes]:
    return [cell.render(camera).tobytes() for camera in cell.rig.cameras] + [
        cell.segmentation(camera).tobytes() for camera in cell.rig.cameras
    ]


def test_both_kinds_of_ridge_look_the_same_to_the_bit_and_feel_different(sort_cell: Cell) -> None:
    pictures, gels, depths = [], [], []
    for hidden in (LEFT, RIGHT):
        grasp(sort_cell, hidden, ticks=72)
        assert all(sort_cell.is_touched(name) for name in sort_cell.rig.tactile)
        pictures.append(seen(sort_cell))
        gels.append({name: sort_cell.touch(name).astype(int) for name in sort_cell.rig.tactile})
        depths.append(sort_cell.indentation("left"))
    assert pictures[0] == pictures[1]
    for name in sort_cell.rig.tactile:
        assert np.abs(gels[0][name] - gels[1][name]).max() > 30
    # A ridge along the table is wide in the gel and low; an upright one is narrow and tall.
    deeper = depths[0] - depths[1]
    ridges = [np.nonzero(deeper > 2e-4), np.nonzero(deeper < -2e-4)]
    widths, heights = ([int(np.ptp(ridge[axis])) for ridge in ridges] for axis in (1, 0))
    assert widths[0] > 2 * widths[1] and heights[1] > 2 * heights[0]


def test_a_sleeve_hides_where_the_peg_is_and_touch_finds_it(sleeve_cell: Cell) -> None:
    starts, middles = [], []
    for shift_m in (-0.007, 0.007):
        sleeve_cell.reset(SEED, hidden=Hidden(0, shift_m))
        # Settling tilts the peg by 1e-5 rad, each time another way; standing straight, it looks the same.
        sleeve_cell.data.joint("part").qpos[:] = (-0.35, -0.04 + shift_m, 0.035, 1.0, 0.0, 0.0, 0.0)
        sleeve_cell.place(sleeve_cell.state())
        starts.append(seen(sleeve_cell))
        grasp(sleeve_cell, Hidden(0, shift_m))
        depth = sleeve_cell.indentation("left").sum(axis=0)
        pitch_m = 0.020 / len(depth)
        middles.append(pitch_m * float((np.arange(len(depth)) * depth).sum() / depth.sum()))
    assert starts[0] == starts[1]
    # Perspective shows what bulges from the gel a little nearer to its middle than it is.
    assert abs(middles[1] - middles[0]) == pytest.approx(0.014, rel=0.2)


def test_kinds_are_balanced_repeat_with_the_seed_and_say_nothing_of_the_start(sort_cell: Cell) -> None:
    drawn = [sort_cell.task.draw(seed) for seed in range(400)]
    assert drawn == [sort_cell.task.draw(seed) for seed in range(400)]
    assert 160 < sum(hidden.kind for hidden in drawn) < 240
    starts = []
    for hidden in (None, LEFT, RIGHT):
        sort_cell.reset(SEED, hidden=hidden)
        starts.append(sort_cell.object_pose())
    np.testing.assert_array_equal(starts[0], starts[1])
    np.testing.assert_array_equal(starts[0], starts[2])
    shifts = [TASKS["insert_peg_in_hand"].draw(seed).shift_m for seed in range(200)]
    assert min(shifts) < -0.0065 and max(shifts) > 0.0065 and abs(np.mean(shifts)) < 0.001


@pytest.mark.parametrize("hidden", [LEFT, RIGHT])
def test_the_other_mark_is_a_mark_but_no_success(sort_cell: Cell, hidden: Hidden) -> None:
    assert "wrong_place" in FAILURES
    expert = Expert(sort_cell.rig, sort_cell.task)
    for failure, mark in (("", hidden.kind), ("wrong_place", 1 - hidden.kind)):
        sort_cell.reset(SEED, hidden=hidden)
        assert mark_under(sort_cell.task, sort_cell.object_pose()[:3, 3]) is None
        expert.start(sort_cell.state(), sort_cell.object_pose(), failure, hidden)
        for tick in range(expert.num_ticks):
            sort_cell.command(expert.target(tick))
            sort_cell.step(TICK_NS)
        assert sort_cell.placed_on() == mark == mark_under(sort_cell.task, sort_cell.object_pose()[:3, 3])
        assert sort_cell.success() == (failure == "")


def test_controls_put_something_else_in_place_of_what_is_felt(sort_cell: Cell) -> None:
    controls = {name: FeltTouch(sort_cell, name) for name in ("real", "other", "blank", "shuffled")}
    controls["other"].reset(SEED)
    sort_cell.reset(SEED)
    touch = {name: np.asarray(sort_cell.sensed(name), np.uint8) for name in sort_cell.rig.tactile}
    for control in ("real", "other", "blank"):  # nothing is touched: none of them invents a contact
        for name, image in controls[control].of(touch).items():
            np.testing.assert_array_equal(image, touch[name])
    grasp(sort_cell, LEFT)
    touch = {name: np.asarray(sort_cell.sensed(name), np.uint8) for name in sort_cell.rig.tactile}
    felt = {control: of.of(touch)["left"].astype(int) for control, of in controls.items()}
    own, reference = touch["left"].astype(int), sort_cell.reference("left").astype(int)
    assert (felt["real"] == own).all()
    assert np.abs(felt["blank"] - reference).max() <= 1, "noise alone"
    assert np.abs(felt["other"] - reference).max() > 30 and (felt["other"] != own).any()
    for _ in range(150):  # longer than any expert holds: the other has let go
        let_go = controls["other"].of(touch)["left"].astype(int)
    assert np.abs(let_go - reference).max() <= 1
    assert (felt["shuffled"] != own).any()
    changes = [sorted(map(tuple, (image - reference).reshape(-1, 3))) for image in (felt["shuffled"], own)]
    assert changes[0] == changes[1]


def test_a_policy_that_ends_on_the_wrong_mark_is_stopped_there(sort_cell: Cell) -> None:
    """Its touch says the other kind: it places well, on the mark where the part does not belong."""

    class Mistaken:
        manifest = manifest_for(sort_cell.rig, chunk_size=180)

        def act(self, _: object) -> np.ndarray:
            expert, wrong = Expert(sort_cell.rig, sort_cell.task), Hidden(1 - sort_cell.hidden.kind)
            expert.start(sort_cell.state(), sort_cell.object_pose(), hidden=wrong)
            return np.array([expert.target(tick) for tick in range(expert.num_ticks)])

    rollout = Runner(sort_cell, Mistaken(), PlaySpec(mode="open_loop")).run(SEED)
    assert not rollout.success and rollout.num_ticks < 180
    assert rollout.placed_on == rollout.mark == 1 - rollout.goal
