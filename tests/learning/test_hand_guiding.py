"""Kinesthetic teaching: an arm led by hand is recorded without commands, checked, and trained on."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_kit import write_episode
from recorder_feed import BEGIN, TICK, around, feed, healthy, show

from tacit.episode import EpisodeReader, check_episode, recover
from tacit.episode.commit import ROWS, TABLES
from tacit.record.monitor import StreamMonitor
from tacit.record.preroll import reasons_not_to_start
from tacit.record.recorder import RecorderSession, SessionSettings
from tacit.rig import Rig, load_rig
from tacit_learning.data import keys
from tacit_learning.data.episodes import load_table
from tacit_learning.data.view import DataConfig
from tacit_learning.data.windows import ChunkWindows


@pytest.fixture(scope="module")
def rig() -> Rig:
    """The simulated cell, whose command nobody has to give."""
    rig = load_rig("nova2_sim")
    optional = {name: spec.model_copy(update={"required": False}) for name, spec in rig.commands.items()}
    return rig.model_copy(update={"commands": optional})


def test_start_needs_nobody_who_commands(rig: Rig) -> None:
    monitors = healthy(rig) | {"command": StreamMonitor(25.0)}
    assert reasons_not_to_start(rig, monitors, around(num_publishers=lambda name: name != "command")) == []


@pytest.fixture(scope="module")
def path(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An episode of an arm that a person leads; it was commanded shortly before."""
    root = tmp_path_factory.mktemp("hand")
    session = RecorderSession(rig, SessionSettings(root), lambda level, text: None, print)
    show(session, rig, 0, 1.0, 10)
    session.receive("command", BEGIN + 2 * TICK, BEGIN, np.zeros(len(rig.state_names)))  # the move before
    session.start("lift", "")
    for number in range(3, 63):
        feed(session, rig, number, 1, without=("command", "joints"))
        for k in range(4):
            stamp_ns = BEGIN + number * TICK + k * TICK // 4
            session.receive("joints", stamp_ns, stamp_ns, {"position": 0.01 * (number + k / 4) * np.ones(6)})
    path = session.stop(True)
    session.close()
    return path


def test_action_is_the_measured_state_and_says_so(path: Path) -> None:
    with EpisodeReader(path) as episode:
        assert episode.action_source == "measured" and episode.num_ticks == 60
        np.testing.assert_array_equal(episode.action, episode.qpos)
    assert check_episode(path).ok


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_training_commands_the_next_measured_state_with_no_option_set(path: Path, cache: str) -> None:
    with EpisodeReader(path) as episode:
        qpos = episode.qpos
    table = load_table([path], DataConfig(datasets=(str(path.parent),), cache=cache, trim_idle=False))
    batch = ChunkWindows(table, 4).__getitems__([5, 58])
    np.testing.assert_array_equal(batch[keys.STATE][0], qpos[5])
    np.testing.assert_array_equal(batch[keys.ACTION][0], qpos[6:10])
    np.testing.assert_array_equal(batch[keys.ACTION][1], qpos[[59, 59, 59, 59]])


def test_recovered_episode_knows_its_hand_too(path: Path, tmp_path: Path) -> None:
    part = tmp_path / "episode_0.hdf5.part"
    part.write_bytes(path.read_bytes())
    with h5py.File(part, "r+") as file:
        file.attrs["state"] = "recording"
        for mark in (ROWS, TABLES):  # of the last flush, which a short test may not have seen
            del file.attrs[mark]
        del file["action"].attrs["action_source"]
        for group in ("stats", "drops"):
            del file[group]
    with EpisodeReader(recover(part)) as episode:
        assert episode.action_source == "measured"


def test_commanded_episode_is_read_as_it_was(tmp_path: Path) -> None:
    with EpisodeReader(write_episode(tmp_path)) as episode:
        assert episode.action_source == "command"
        np.testing.assert_array_equal(episode.targets, episode.action)
