"""A bundle in the cell: lockstep, time limits, success and the report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
pytest.importorskip("onnx")

from tiny_bundles import policy_bundle, progress_bundle

from tacit.errors import ConfigError
from tacit.rig import Rig
from tacit_sim.cell import Cell
from tacit_sim.closed_loop import SETTLED_TICKS, Rollout, Runner
from tacit_sim.evaluate import main, summarise
from tacit_sim.experts import Expert

pytestmark = pytest.mark.sim


class PlayedExpert:
    """A policy whose one chunk is a whole demonstration; knows what no policy may know."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._expert = Expert(cell.rig, cell.task)
        self.manifest = SimpleNamespace(chunk_size=170, rate_hz=25.0)

    def act(self, _: object) -> np.ndarray:
        self._expert.start(self._cell.state(), self._cell.object_pose())
        return np.array([self._expert.target(tick) for tick in range(self._expert.num_ticks)])


def test_a_policy_that_does_what_the_expert_does_succeeds_and_ends_early(cube_cell: Cell) -> None:
    rollout = Runner(cube_cell, PlayedExpert(cube_cell), "open_loop").run(seed=21)
    assert rollout.success
    assert rollout.stage == "retreat"
    assert 150 - SETTLED_TICKS < rollout.num_ticks <= 170
    assert rollout.error_m < 0.005


def test_an_episode_without_success_ends_at_the_limit(cube_cell: Cell, rig: Rig, tmp_path: Path) -> None:
    from tacit.bundle.runtime import OnnxPolicy

    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    rollout = Runner(cube_cell, policy).run(seed=21, max_ticks=6)
    assert not rollout.success
    assert rollout.num_ticks == 6
    assert policy.stats.count == 6


class ExactProgress:
    """Knows the length of the episode, and is off by a tenth."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def reset(self) -> None:
        self.stages: list[int] = []

    def step(self, _: object) -> SimpleNamespace:
        self.stages.append(self._cell.stage())
        return SimpleNamespace(progress=0.1)


def test_progress_error_is_measured_against_the_stages_of_the_episode(cube_cell: Cell) -> None:
    progress = ExactProgress(cube_cell)
    rollout = Runner(cube_cell, PlayedExpert(cube_cell), "open_loop", progress=progress).run(seed=21)
    # Five stages of equal weight; within each, progress grows in a straight line.
    truth = []
    for stage in range(5):
        length = progress.stages.count(stage)
        truth += [(stage + (k + 1) / length) / 5 for k in range(length)]
    assert rollout.num_ticks == len(truth)
    assert rollout.progress_mae == pytest.approx(np.abs(np.array(truth) - 0.1).mean(), abs=1e-6)


def test_report_counts_failures_by_stage_and_errors_of_successes_alone() -> None:
    report = summarise(
        [Rollout(1, True, 160, 0.001, "retreat"), Rollout(2, False, 260, 0.2, "reach", progress_mae=None)]
    )
    assert (report["episodes"], report["successes"], report["success_rate"]) == (2, 1, 0.5)
    assert report["failures_by_stage"] == {"reach": 1}
    assert report["placement_error_mm"]["max"] == pytest.approx(1.0)
    assert report["placement_error_all_mm"]["max"] == pytest.approx(200.0)
    json.dumps(report)


def test_command_line_writes_report_and_film(rig: Rig, tmp_path: Path) -> None:
    policy_bundle(tmp_path, rig)
    progress_bundle(tmp_path, rig)
    output, films = tmp_path / "report.json", tmp_path / "films"
    words = ["--bundle", str(tmp_path / "policy.onnx"), "--progress", str(tmp_path / "progress.onnx")]
    words += ["--episodes", "2", "--max-ticks", "3", "--output", str(output), "--films", str(films)]
    assert main([*words, "--headless"]) == 0
    report = json.loads(output.read_text())
    assert report["successes"] == 0 and report["inference"]["count"] == 6
    assert [rollout["seed"] for rollout in report["rollouts"]] == [10_000, 10_001]
    assert len(list(films.glob("seed_*_failure.png"))) == 2


def test_a_window_is_not_promised() -> None:
    with pytest.raises(ConfigError, match="tacit up policy"):
        main(["--bundle", "x.onnx", "--no-headless"])
