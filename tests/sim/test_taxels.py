"""Simulated skins: their taxels carry the forces of the contact, and an episode of them is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import policy_bundle

from tacit.bundle.runtime import OnnxPolicy
from tacit.episode import EpisodeReader, EpisodeWriter, check_episode
from tacit.record.recording import Recording
from tacit.rig import ArraySpec, Rig, load_rig
from tacit_sim.cell import Cell
from tacit_sim.closed_loop import Runner
from tacit_sim.demonstrations import CellFeed, Stopwatch
from tacit_sim.experts import Expert
from tacit_sim.taxels import TaxelArray, contact_wrench

pytestmark = pytest.mark.sim

LIFTED, NUM_TICKS = 92, 12
TICK_NS = 40_000_000


@pytest.fixture(scope="module")
def skins() -> Rig:
    return load_rig("nova2_sim_taxels")


@pytest.fixture(scope="module")
def cell(skins: Rig) -> Iterator[Cell]:
    cell = Cell(skins, "place_cube")
    yield cell
    cell.close()


def test_both_fingers_together_carry_the_part(cell: Cell) -> None:
    cell.reset(3)
    rest = {name: cell.reading(name) for name in cell.rig.taxels}
    for name, reading in rest.items():
        span = cell.rig.taxels[name].array.high - cell.rig.taxels[name].array.low
        assert (np.abs(reading - cell.reference(name)) < 0.006 * span).all()
    expert = Expert(cell.rig, cell.task)
    expert.start(cell.state(), cell.object_pose(), hidden=cell.hidden)
    for tick in range(LIFTED):
        cell.command(expert.target(tick))
        cell.step(TICK_NS)
    cell.step(10 * TICK_NS)  # at rest, held above the table
    on_part, pressed = np.zeros(3), []
    for name, pad in cell._pads.items():
        T = cell.sensor_pose(name)
        wrench = contact_wrench(cell.model, cell.data, pad, T)
        on_part += T[:3, :3] @ wrench[:3]
        pressed.append(wrench[2])
        change = (cell.reading(name) - cell.reference(name)).sum((0, 1))
        parts = [2] if len(change) == 1 else [0, 1, 2]
        np.testing.assert_allclose(change, wrench[parts], atol=0.25)  # of the sum of the noise
    array = ArraySpec(rows=1, columns=1, channels=6, range=((-50, 50),))  # a wrench at that fingertip
    tip = TaxelArray(cell.model, "tip", cell.rig.taxels["right"].model_copy(update={"array": array}), pad)
    felt = (tip.reading(cell.data, T) - tip.reference)[0, 0]
    np.testing.assert_allclose(felt, wrench, atol=1e-5)
    weight = cell.model.body_mass[cell._part] * -cell.model.opt.gravity[2]
    np.testing.assert_allclose(on_part, [0, 0, weight], atol=0.05 * weight)
    assert min(pressed) > 5.0 and abs(pressed[0] - pressed[1]) < 1.0  # they squeeze, alike


def test_taxels_feel_where_the_part_is_and_which_way_it_pulls(cell: Cell) -> None:
    change = {name: cell.reading(name) - cell.reference(name) for name in cell.rig.taxels}
    rows = change["left"][..., 0].sum(axis=1)
    depth = cell._taxels["left"]._depth.indentation(cell.data, cell.sensor_pose("left")).sum(axis=1)
    deepest = depth.reshape(12, 3).sum(axis=1)
    assert np.corrcoef(rows, deepest)[0, 1] > 0.99
    world = cell.sensor_pose("right")[:3, :3] @ change["right"].sum((0, 1))
    assert world[2] > 0.1  # it holds up against the weight


def test_a_simulated_episode_of_skins_is_whole(cell: Cell, skins: Rig, tmp_path: Path) -> None:
    references = {name: cell.reference(name) for name in skins.tactile}
    writer = EpisodeWriter(
        tmp_path, skins, task="place_cube", instruction="x", sim=True, references=references
    )
    recording = Recording(skins, writer)
    feed = CellFeed(cell, recording, Stopwatch())
    target = cell.state()
    for tick in range(NUM_TICKS):
        target = target + np.append(np.full(6, 2e-3), 5e-3 * (tick > 6))  # opens on the way
        feed.joints()
        feed.images()
        feed.command(target)
        recording.advance(cell.time_ns, cell.time_ns, heard=True)
        feed.advance()
    path = recording.finish(True)
    report = check_episode(path, full=True)
    assert report.ok and not [f for f in report.findings if f.rule in ("W01", "W02", "W10", "W16")]
    with EpisodeReader(path) as episode:
        assert len(episode.stream("left")["data"]) == 2 * NUM_TICKS
        felt = episode.readings("left") - episode.reference("left")
        assert felt[0].sum() > 5.0 and abs(felt[-1].sum()) < 0.3  # held, then let go
        for camera, name in ((c, s) for c in skins.cameras for s in skins.taxels):
            expected = [skins.sensor_boxes(q, camera)[name].box for q in episode.qpos]
            np.testing.assert_allclose(episode.boxes(camera, name), expected, atol=1e-3)


def read_by_policy(cell: Cell, folder: Path, touch: str, ticks: int = 5) -> np.ndarray:
    """What a policy that touches nothing gets of the left skin (ticks, 12, 10, 1)."""
    policy = OnnxPolicy(policy_bundle(folder, cell.rig), cell.rig)
    inputs, found = policy.graph.inputs, []

    def seen(observation: object) -> dict:
        found.append(inputs(observation))  # type: ignore[arg-type]
        return found[-1]

    policy.graph.inputs = seen  # type: ignore[method-assign,assignment]
    assert Runner(cell, policy, touch=touch).run(seed=3, max_ticks=ticks).fault == ""  # type: ignore[arg-type]
    return np.array([tensors["taxels.left"][0] for tensors in found])


def test_a_policy_reads_arrays_against_the_offset_of_its_run(cell: Cell, tmp_path: Path) -> None:
    span, drift = 2.5, 0.3
    before = read_by_policy(cell, tmp_path, "real")
    cell._taxels["left"]._reference += drift  # another unit, or another day
    try:
        after, blank = (read_by_policy(cell, tmp_path, touch) for touch in ("real", "blank"))
    finally:
        cell._taxels["left"]._reference -= drift
    assert before.shape[1:] == (12, 10, 1) and np.abs(before).max() < 0.01 * span
    assert np.abs(after).max() < 0.01 * span and np.abs(blank).max() < 0.01 * span
