"""Headless demonstrations become true episodes, and an interrupted data set is continued."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.episode import EpisodeReader, find_episodes
from tacit.errors import ConfigError
from tacit.rig import Rig
from tacit.rig.scene import RigGeometry
from tacit_sim.cell import Cell
from tacit_sim.cli import simulate
from tacit_sim.demonstrations import Stopwatch, record, seeds_done
from tacit_sim.experts import Expert
from tacit_sim.tasks import STAGES, find_task

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def episode(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One disturbed demonstration of seed 3."""
    cell = Cell(rig, "place_cube", disturbed=True)
    demonstration = record(cell, Expert(rig, cell.task), 3, tmp_path_factory.mktemp("data"), Stopwatch())
    cell.close()
    assert demonstration.path is not None
    return demonstration.path


def test_every_tick_of_the_expert_is_a_row(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        assert reader.num_ticks == 180
        assert (np.diff(reader.tick_ns) == 40_000_000).all()
        assert reader.success is True
        assert reader.task == "place_cube"


def test_recorded_actions_are_the_clean_targets(episode: Path, rig: Rig) -> None:
    cell = Cell(rig, "place_cube")
    expert = Expert(rig, cell.task)
    cell.reset(3)
    expert.start(cell.state(), cell.object_pose())
    clean = np.array([expert.target(tick) for tick in range(expert.num_ticks)])
    with EpisodeReader(episode) as reader:
        np.testing.assert_allclose(reader.action[:], clean, atol=1e-6)


def test_recorded_state_is_that_of_a_replay(episode: Path, rig: Rig) -> None:
    cell = Cell(rig, "place_cube", disturbed=True)
    expert = Expert(rig, cell.task)
    cell.reset(3)
    expert.start(cell.state(), cell.object_pose())
    states = []
    for tick in range(expert.num_ticks):
        states.append(cell.state())
        cell.command(expert.target(tick))
        cell.step(40_000_000)
    with EpisodeReader(episode) as reader:
        np.testing.assert_allclose(reader.qpos[:], states, atol=1e-6)


def test_steps_are_the_stages_in_order(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        steps = reader.steps
        assert [step.name for step in steps] == list(STAGES)
        assert steps[0].start_frame == 0
        assert 12 <= reader.num_ticks - 1 - steps[-1].end_frame <= 25, "half a second to one after the end"
        assert reader.task_steps == STAGES and reader.failures == []


def test_a_failure_on_demand_is_labelled_by_kind_step_and_time(rig: Rig, tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--task", "place_cube", "--seed", "40", "--episodes", "1"]
    assert simulate([*arguments, "--failures", "drop"]) == 0
    assert seeds_done(tmp_path, "place_cube", "drop") == {40} and seeds_done(tmp_path, "place_cube") == set()
    (path,) = find_episodes(tmp_path)
    with EpisodeReader(path) as reader:
        (failure,) = reader.failures
        assert failure.name == "drop" and failure.end_frame == reader.num_ticks - 1
        assert [step.name for step in reader.steps] == ["reach", "lift", "carry", "reach"]
        assert reader.attribute("failure_stage") in ("lift", "carry")
        assert reader.steps[-1].start_frame == pytest.approx(failure.start_frame, abs=4)
        assert reader.success is False and reader.task_steps == STAGES
    with pytest.raises(ConfigError, match="drop"):
        simulate([*arguments, "--failures", "drops"])


def test_stored_boxes_lie_on_the_pads_of_the_stored_images(episode: Path, rig: Rig) -> None:
    geometry = RigGeometry(rig)
    with EpisodeReader(episode) as reader:
        for tick in (0, 80, 160):
            for (camera, sensor), footprint in geometry.footprints(reader.qpos[tick]).items():
                stored = reader.boxes(camera, sensor)[tick]
                np.testing.assert_allclose(stored, footprint.box, atol=1e-3)
        x0, y0, x1, y1 = np.round(reader.boxes("wrist", "left")[0]).astype(int)
        pad = reader.image("wrist", 0)[y0 : y1 + 1, x0 : x1 + 1].reshape(-1, 3).mean(axis=0)
    assert pad[2] > pad[0] + 40, "the pads are blue"


def test_touch_begins_with_the_grasp(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        reference = reader.reference("left").astype(int)
        change = [np.abs(reader.touch("left", tick) - reference).mean() for tick in (0, 30, 70, 100)]
    assert max(change[:2]) < 1.5, "JPEG noise alone"
    assert min(change[2:]) > 5.0


def test_second_run_adds_only_what_is_missing(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--task", "sort_by_feel", "--seed", "40"]
    assert simulate([*arguments, "--episodes", "1"]) == 0
    assert simulate([*arguments, "--episodes", "2"]) == 0
    assert seeds_done(tmp_path, "sort_by_feel") == {40, 41}
    for path in find_episodes(tmp_path):
        with EpisodeReader(path) as reader:  # what no camera shows stands beside the recording
            assert reader.success
            hidden = find_task("sort_by_feel").draw(int(str(reader.attribute("sim_seed"))))
            assert (reader.attribute("sim_kind"), reader.attribute("sim_shift_m")) == (hidden.kind, 0.0)
    assert len(find_episodes(tmp_path)) == 2


def test_an_interrupted_demonstration_goes_to_the_trash(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(rig, "place_cube")
    expert = Expert(rig, cell.task)

    def interrupted(tick: int) -> np.ndarray:
        if tick == 5:
            raise KeyboardInterrupt
        return np.append(cell.state()[:-1], 0.06)

    monkeypatch.setattr(expert, "target", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(cell, expert, 0, tmp_path, Stopwatch())
    cell.close()
    assert find_episodes(tmp_path) == []
    assert not list(tmp_path.rglob("*.part"))
    assert len(list(tmp_path.rglob("*.trashed"))) == 1
