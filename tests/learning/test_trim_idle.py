"""Idle frames at the ends of a demonstration are left out, of images and numbers alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tacit.episode import EpisodeWriter, video_progress
from tacit.images import encode_jpeg
from tacit.rig import load_rig
from tacit.streams import Sample, Tick
from tacit_learning.data.episodes import active_frames, load_table
from tacit_learning.data.view import DataConfig

IDLE, MOVING, REST = 6, 10, 4
SECOND = 12
"""Tick at which the second step begins."""
PERIOD_NS = 40_000_000


def test_frames_from_the_first_to_the_last_change_are_active() -> None:
    action = np.concatenate([np.zeros(IDLE), np.arange(1, MOVING + 1), np.full(REST, MOVING)])[:, None]
    kept = action[active_frames(action), 0]
    assert kept.tolist() == [0, *range(1, MOVING + 1)]


def test_an_action_that_never_changes_is_kept_whole() -> None:
    assert active_frames(np.ones((5, 2))) == slice(0, 5)


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_images_state_and_steps_start_at_the_first_motion(tmp_path: Path, cache: str) -> None:
    write_episode(tmp_path)
    paths = sorted(tmp_path.rglob("*.hdf5"))
    table = load_table(paths, DataConfig(datasets=(str(tmp_path),), cache=cache, only_success=False))
    assert len(table) == MOVING + 1
    cameras, _ = table.images([0, len(table) - 1])
    brightness = cameras[:, 0].mean((1, 2, 3))
    np.testing.assert_allclose(brightness, [10.0 * (IDLE - 1), 10.0 * (IDLE + MOVING - 1)], atol=2.0)
    progress = video_progress(table.episodes[0].steps, table.episodes[0].num_ticks)
    assert progress[-1] == pytest.approx(1.0) and progress[0] < 0.5
    begin = SECOND - (IDLE - 1)  # the table starts at the last still frame
    spans = [(step.start_frame, step.end_frame) for step in table.episodes[0].steps]
    assert spans == [(0, begin - 1), (begin, MOVING)]


def write_episode(root: Path) -> None:
    """Frames whose brightness counts the ticks; the arm waits, moves, rests."""
    rig = load_rig("nova2_sim")
    references = {name: np.full((s.height, s.width, 3), 90, np.uint8) for name, s in rig.tactile.items()}
    writer = EpisodeWriter(root, rig, task="wait", references=references, started_ns=1, sync=False)
    for index in range(IDLE + MOVING + REST):
        writer.append(make_tick(index, float(np.clip(index - IDLE + 1, 0, MOVING)) / 100))
    writer.close(None)


def make_tick(index: int, command: float) -> Tick:
    rig, stamp_ns = load_rig("nova2_sim"), PERIOD_NS * (index + 1)
    values: dict[str, object] = {
        name: encode_jpeg(np.full((spec.height, spec.width, 3), 10 * index, np.uint8))
        for name, spec in {**rig.cameras, **rig.tactile}.items()
    }
    values |= {
        "joints": np.zeros(6),
        "gripper_state": np.full(1, 0.04),
        "stage": np.array([float(index >= SECOND)]),
    }
    values["command"] = np.full(7, command)
    samples = {name: Sample(value, stamp_ns, stamp_ns, index, True) for name, value in values.items()}
    return Tick(stamp_ns, index, samples)
