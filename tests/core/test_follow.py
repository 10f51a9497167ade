"""Following an episode with a progress bundle: the readings of the node, drawn over the picture."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from episode_kit import rig, write_episode
from tiny_bundles import progress_bundle

from tacit.bundle.runtime import OnnxProgress
from tacit.cli import main
from tacit.convert.video import probe_video
from tacit.episode import EpisodeReader
from tacit.progress import TaskState
from tacit.progress.follow import Reading, changes, follow
from tacit.view.progress_video import BAR_GAP, BAR_HEIGHT, Bar, draw_progress


def test_every_due_tick_is_read_once_with_its_stamp(tmp_path: Path) -> None:
    path = write_episode(tmp_path, 30)
    with EpisodeReader(path) as reader:
        estimator = OnnxProgress(progress_bundle(tmp_path, rig()), reader.rig)
        readings = list(follow(estimator, reader))
        again = list(follow(estimator, reader))
        stamps = [int(reader.tick_ns[reading.tick]) for reading in readings]
    assert [reading.stamp_ns for reading in readings] == stamps
    np.testing.assert_allclose(
        [r.progress for r in readings], 0.1 * np.arange(1, len(readings) + 1), atol=1e-5
    )
    assert again == readings  # the memory starts anew


def test_thresholds_are_those_of_the_bundle_but_for_what_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    episode = write_episode(tmp_path, 80)
    progress_bundle(tmp_path, rig(), detector={"done_above": 0.95, "dwell_s": 1.6})

    def done_at(*named: str) -> float:
        arguments = ["view", "progress", str(tmp_path / "progress.onnx"), str(episode)]
        assert main([*arguments, "--out", str(tmp_path / "film.mp4"), *named]) == 0
        seconds, _, state = capsys.readouterr().out.splitlines()[0].split()[:3]
        assert state == "done"
        return float(seconds)

    late = done_at()
    assert late > 1.6
    assert done_at("--detector.dwell-s", "1.2") == pytest.approx(late - 0.4, abs=0.041)
    assert done_at("--detector.dwell-s", "0.5") < late - 0.4  # what is named may be the usual value


def test_changes_are_where_the_state_turns() -> None:
    states = ["running", "running", "stalled", "stalled", "running", "done"]
    readings = [Reading(i, i, 0.0, 0.0, state) for i, state in enumerate(states)]  # type: ignore[arg-type]
    assert [reading.tick for reading in changes(readings)] == [2, 4, 5]


def test_a_bar_is_as_long_as_its_value_and_truth_is_ticked() -> None:
    image = np.zeros((100, 400, 3), np.uint8)
    drawn = draw_progress(image, [Bar("", 0.25, truth=0.75)], "done")
    assert drawn.shape == (100 + 2 * BAR_GAP + BAR_HEIGHT, 400, 3)
    row = drawn[100 + BAR_GAP + 1].astype(int)
    filled = np.flatnonzero((row == drawn[100 + BAR_GAP + 1, 6]).all(axis=1))
    assert abs(filled.max() - (4 + 0.25 * 391)) <= 1
    white = np.flatnonzero((row > 250).all(axis=1))
    assert abs(white.mean() - (4 + 0.75 * 391)) <= 1


@pytest.mark.parametrize("state", get_args(TaskState))
def test_every_state_of_a_task_can_be_drawn(state: TaskState) -> None:
    image = np.zeros((60, 400, 3), np.uint8)
    drawn = draw_progress(image, [Bar("", 0.5)], state)
    assert drawn[:60].any() == (state != "running")


def test_a_value_that_is_not_finite_leaves_the_bar_empty() -> None:
    image = np.zeros((60, 400, 3), np.uint8)
    row = 60 + BAR_GAP + 1
    unknown, zero = (draw_progress(image, [Bar("", value)])[row, 100:] for value in (float("nan"), 0.0))
    np.testing.assert_array_equal(unknown, zero)


def test_the_command_films_an_episode(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_episode(tmp_path, 40)
    progress_bundle(tmp_path, rig())
    out = tmp_path / "film.mp4"
    assert main(["view", "progress", str(tmp_path / "progress.onnx"), str(path), "--out", str(out)]) == 0
    with EpisodeReader(path) as reader:
        estimator = OnnxProgress(tmp_path / "progress.onnx", reader.rig)
        readings = list(follow(estimator, reader))
    assert probe_video(out).frames == len(readings)
    printed = capsys.readouterr().out
    expected = changes(readings)  # by the thresholds of the bundle, as the node would judge
    assert expected and [line.split()[2] for line in printed.splitlines()[:-1]] == [r.state for r in expected]
    assert main(["view", "progress", str(tmp_path / "progress.onnx"), str(path), "--camera", "tpo"]) == 2
    assert "did you mean 'top'" in capsys.readouterr().err
