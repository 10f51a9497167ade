"""The whole way: a stack of nodes, `tacit teleop keys --record` in a terminal, and somebody who types.

That somebody who types can place the cube is tested in `test_teleop.py`, where time waits for both.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from typing_session import DOWN, begin_an_episode, end_an_episode, keyboard, truth, type_until, watch

from benches.testing import isolated_domain
from tacit.cli import main
from tacit.episode import EpisodeReader
from tacit_ros.wire.environment import child_environment
from tacit_ros.wire.session import Session

MOVED_RAD, CLOSED_M = 0.1, 0.02
"""Some centimetres at the tool, and half of the gripper's way to the cube."""


@pytest.mark.slow
def test_what_is_typed_moves_the_arm_and_is_recorded_as_a_success_that_passes_the_check(
    tmp_path: Path,
) -> None:
    with isolated_domain(), (tmp_path / "up.log").open("w") as log:
        options = [f"root={tmp_path}", "task=place_cube", "instruction=put it there", "seed=3"]
        stack = subprocess.Popen(
            [sys.executable, "-m", "tacit.cli", "up", "teleop", *options, "--without", "overlay"],
            env=child_environment(), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            with Session(name="eyes") as session:
                watch(session)
                with keyboard(log) as terminal:
                    begin_an_episode(session, terminal)
                    before = truth(session)["state"]
                    moved = lambda: np.abs(np.subtract(truth(session)["state"], before))  # noqa: E731
                    type_until(session, terminal, DOWN, lambda: moved()[:-1].max() > MOVED_RAD)
                    type_until(session, terminal, b"g", lambda: moved()[-1] > CLOSED_M)
                    end_an_episode(session, terminal)
        finally:
            stack.send_signal(signal.SIGINT)
            stack.wait(timeout=60)
        [path] = tmp_path.glob("place_cube/episode_*.hdf5")
        with EpisodeReader(path) as episode:
            assert episode.success
            ways = np.ptp(episode.qpos, axis=0)
            assert ways[:-1].max() > MOVED_RAD / 2 and ways[-1] > CLOSED_M / 2
        assert main(["check", str(path)]) == 0
