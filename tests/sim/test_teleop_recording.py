"""The whole way: a stack of nodes, `tacit teleop keys --record` in a terminal, and somebody who types."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from typing_session import keyboard, type_an_episode, watch

from benches.testing import isolated_domain
from tacit.episode import EpisodeReader
from tacit.rig import load_rig
from tacit_ros.wire.environment import child_environment
from tacit_ros.wire.session import Session


@pytest.mark.slow
def test_typing_person_records_a_success_that_passes_the_check(tmp_path: Path) -> None:
    with isolated_domain(), (tmp_path / "up.log").open("w") as log:
        run = [sys.executable, "-m", "tacit.cli"]
        options = [f"root={tmp_path}", "task=place_cube", "instruction=put it there", "seed=3"]
        stack = subprocess.Popen(
            [*run, "up", "teleop", *options, "--without", "overlay"], env=child_environment(),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            with Session(name="eyes") as session:
                watch(session)
                with keyboard(log) as terminal:
                    type_an_episode(session, terminal, load_rig("nova2_sim"))
        finally:
            stack.send_signal(signal.SIGINT)
            stack.wait(timeout=30)
        [path] = tmp_path.glob("place_cube/episode_*.hdf5")
        with EpisodeReader(path) as episode:
            assert episode.success
        assert subprocess.run([*run, "check", str(path)], check=False).returncode == 0
