"""A recording is done again: slowly to its beginning, then as it was, within the limits, nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from episode_kit import rig as recorded_rig
from episode_kit import write_episode
from fake_robot import FakeRobot, lenient_rig
from rclpy.parameter import Parameter

from tacit.control.players import RecordedPlayer
from tacit.episode import EpisodeReader
from tacit.errors import ConfigError
from tacit.rig import load_rig, parse_rig
from tacit_ros.replay_node import APPROACH_PART, ReplayNode, commanded, plan

TICKS = 25


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episode(tmp_path_factory.mktemp("data"), TICKS)


def test_recording_is_played_by_time_at_its_pace() -> None:
    action = np.array([[0.0], [1.0], [3.0]])
    player = RecordedPlayer(np.array([5, 105, 205]), action, speed=0.5)
    played = [float(player.command(at)[0]) for at in (1000, 1100, 1200, 1300, 1400, 9999)]
    assert played == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0] and player.is_over
    player.reset()
    assert float(player.command(0)[0]) == 0.0 and not player.is_over and player.rows_left(0) == 2


def made(bench, rig_path: Path, episode: Path, **parameters: object) -> ReplayNode:
    values = {"rig": str(rig_path), "episode": str(episode), **parameters}
    return bench.add(ReplayNode([Parameter(name, value=value) for name, value in values.items()]))


def test_robot_goes_slowly_to_the_beginning_and_then_does_what_was_recorded(
    bench, tmp_path: Path, episode: Path
) -> None:
    path = lenient_rig(tmp_path)
    rig = load_rig(path)
    with EpisodeReader(episode) as reader:
        action = commanded(reader, rig)
    node = made(bench, path, episode, begin=True)
    robot = FakeRobot(bench.node, rig, action[0] + [0.15, 0, 0, 0, 0, 0, 0])
    try:
        bench.until(lambda: node.controller.state == "RUNNING", "the recording", 30)
        approach = [stamp_ns for stamp_ns, _ in robot.commands]
        bench.until(lambda: node.controller.state == "HOLD", "the end", 30)
        assert node.controller.fault is not None and node.controller.fault.reason == "replayed"
        bench.until(lambda: np.abs(robot.commands[-1][1] - action[-1]).max() < 5e-3, "the last command", 2)
    finally:
        robot.stop()
        node.close()
    least_s = 0.15 / (APPROACH_PART * rig.limits("velocity")[0])
    assert (approach[-1] - approach[0]) / 1e9 > 0.8 * least_s
    everything = np.array([command for _, command in robot.commands])
    played = everything[len(approach) :]
    nearest = np.abs(played[:, None] - action[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 0.02


def test_dry_run_moves_nothing(bench, tmp_path: Path, episode: Path) -> None:
    path = lenient_rig(tmp_path)
    node = made(bench, path, episode, begin=True, dry_run=True)
    robot = FakeRobot(bench.node, load_rig(path), np.array([0.0, -0.1, 1.1, 0.3, -1.5, 0.0, 0.04]))
    try:
        bench.until(lambda: node.controller.state == "HOLD", "the end", 30)
        assert node.controller.fault is not None and node.controller.fault.reason == "replayed"
    finally:
        robot.stop()
        node.close()
    assert not robot.commands


def test_other_robot_and_commands_outside_the_limits_are_refused(episode: Path) -> None:
    narrow = recorded_rig().model_dump(mode="json")
    narrow["arms"]["arm"]["joints"][2] |= {"lower": -1.0, "upper": 1.0}
    narrow["arms"]["arm"]["home"] = None
    with EpisodeReader(episode) as reader:
        with pytest.raises(ConfigError, match="joint3 is commanded"):
            commanded(reader, parse_rig(narrow, "test"))
        with pytest.raises(ConfigError, match="rig ur5e has"):
            commanded(reader, load_rig("ur5e"))
        assert "25 ticks" in plan(reader, recorded_rig(), 0.5)
