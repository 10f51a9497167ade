"""The whole way: a stack of nodes, `tacit teleop keys --record` in a terminal, and somebody who types."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typing_person import Seen, TypingPerson

pytest.importorskip("rclpy")

from std_msgs.msg import String

from benches.testing import isolated_domain
from tacit.episode import EpisodeReader
from tacit.geometry.transforms import FloatArray
from tacit.rig import load_rig
from tacit.teleop.jog import tool_point
from tacit_ros.wire.environment import child_environment
from tacit_ros.wire.node_state import NodeState
from tacit_ros.wire.session import Session

TYPE_S = 0.035


@pytest.mark.slow
def test_typing_person_records_a_success_that_passes_the_check(tmp_path: Path) -> None:
    with isolated_domain():
        run = [sys.executable, "-m", "tacit.cli"]
        options = [f"root={tmp_path}", "task=place_cube", "instruction=put it there", "seed=3"]
        log = (tmp_path / "up.log").open("w")
        stack = subprocess.Popen(
            [*run, "up", "teleop", *options, "--without", "overlay"], env=child_environment(),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        terminal, slave = pty.openpty()
        try:
            with Session(name="eyes") as session:
                session.watch("/simulator/truth", String)
                session.trigger("/recorder/status", 60.0)
                session.spin_until(lambda: bool(session.latest("/simulator/truth")), 60.0, "the cell")
                keys = subprocess.Popen(
                    [*run, "teleop", "keys", "--record"], env=child_environment(),
                    stdin=slave, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
                _type_an_episode(session, terminal)
                os.write(terminal, b"q")
                assert keys.wait(timeout=20) == 0
        finally:
            stack.send_signal(signal.SIGINT)
            stack.wait(timeout=30)
            os.close(terminal)
            os.close(slave)
        [path] = tmp_path.glob("place_cube/episode_*.hdf5")
        with EpisodeReader(path) as episode:
            assert episode.success
        assert subprocess.run([*run, "check", str(path)], check=False).returncode == 0


def _type_an_episode(session: Session, terminal: int) -> None:
    """Take the arm, start, place the cube by sight, and end the episode as a success."""
    truth = lambda: json.loads(session.latest("/simulator/truth").data)  # noqa: E731
    status = lambda: session.trigger("/recorder/status", 20.0)  # noqa: E731
    state = NodeState(session.node, "/teleop/state")
    _type_until(session, terminal, b"\r", lambda: state.text == "PERSON")
    _type_until(session, terminal, b"\x1b[5~", lambda: status()["ready"])
    _type_until(session, terminal, b"s", lambda: status()["state"] == "recording")
    hands, deadline = TypingPerson(), time.monotonic() + 120
    while not hands.is_done:
        assert time.monotonic() < deadline, hands._steps
        seen = Seen(_tool(np.array(truth()["state"])), np.array(truth()["object_pose"]))
        os.write(terminal, hands.text(seen, time.monotonic()).encode())
        session.spin_for(TYPE_S)
    assert truth()["success"]
    os.write(terminal, b"y")
    session.spin_until(lambda: status()["state"] == "idle", 20.0, "the end of the episode")


def _type_until(session: Session, terminal: int, text: bytes, fact: Callable[[], bool]) -> None:
    """Press a key again and again: a terminal that has only just begun to listen drops the first ones."""
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline, text
        os.write(terminal, text)
        session.spin_for(0.5)


def _tool(state: FloatArray) -> FloatArray:
    rig = load_rig("nova2_sim")
    T = rig.geometry.flange_poses(state)["arm"]
    T[:3, 3] += T[:3, :3] @ tool_point(rig, "arm")
    return T
