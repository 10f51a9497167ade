"""A typing person before a terminal of `tacit teleop keys --record`, with a stack of nodes behind it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
from std_msgs.msg import String
from typing_person import SETTLE_S, Seen, TypingPerson

from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.teleop.jog import tool_point
from tacit_ros.wire.environment import child_environment
from tacit_ros.wire.node_state import NodeState
from tacit_ros.wire.session import Session

TYPE_S = 0.035
PATIENCE_S = 100.0
UP, DOWN = b"\x1b[5~", b"\x1b[6~"


@contextlib.contextmanager
def keyboard(log: IO[str]) -> Iterator[int]:
    """Run `tacit teleop keys --record` in a terminal; yields where its keys are typed."""
    terminal, slave = pty.openpty()
    words = [sys.executable, "-m", "tacit.cli", "teleop", "keys", "--record"]
    keys = subprocess.Popen(
        words, env=child_environment(), stdin=slave, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield terminal
        os.write(terminal, b"q")
        assert keys.wait(timeout=PATIENCE_S) == 0
    finally:
        keys.kill()
        os.close(terminal)
        os.close(slave)


def watch(session: Session) -> None:
    """Let the person see the cell; call once per session."""
    session.watch("/simulator/truth", String)
    session.trigger("/recorder/status", PATIENCE_S)
    session.spin_until(lambda: bool(session.latest("/simulator/truth")), PATIENCE_S, "the cell")


def truth(session: Session) -> dict[str, Any]:
    """Return what the person sees."""
    return dict(json.loads(session.latest("/simulator/truth").data))


def begin_an_episode(session: Session, terminal: int) -> None:
    """Take the arm, and start a recording."""
    state = NodeState(session.node, "/teleop/state")
    type_until(session, terminal, b"\r", lambda: state.text == "PERSON")
    type_until(session, terminal, UP, lambda: _status(session)["ready"])
    type_until(session, terminal, b"s", lambda: _status(session)["state"] == "recording")


def end_an_episode(session: Session, terminal: int) -> None:
    """Call it a success."""
    os.write(terminal, b"y")
    session.spin_until(lambda: _status(session)["state"] == "idle", PATIENCE_S, "the end of the episode")


def type_an_episode(
    session: Session, terminal: int, rig: Rig, settle_s: float = SETTLE_S, patience_s: float = 200.0
) -> None:
    """Take the arm, start, place the cube by sight, and end the episode as a success.

    Args:
        session: Its eyes.
        terminal: Where it types.
        rig: The arm.
        settle_s: How long it waits for the arm to stand, by the clock of the cell [s].
        patience_s: How long it tries [s].
    """
    begin_an_episode(session, terminal)
    hands, deadline = TypingPerson(settle_s), time.monotonic() + patience_s
    while not hands.is_done:
        assert time.monotonic() < deadline, hands._steps
        cell = truth(session)
        seen = Seen(_tool(rig, np.array(cell["state"])), np.array(cell["object_pose"]))
        os.write(terminal, hands.text(seen, cell["stamp_ns"] * 1e-9).encode())
        session.spin_for(TYPE_S)
    assert truth(session)["success"]
    end_an_episode(session, terminal)


def type_until(session: Session, terminal: int, text: bytes, fact: Callable[[], bool]) -> None:
    """Press a key again and again: a terminal that has only just begun to listen drops the first ones."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline, text
        os.write(terminal, text)
        session.spin_for(0.5)


def _status(session: Session) -> dict[str, Any]:
    return dict(session.trigger("/recorder/status", PATIENCE_S))


def _tool(rig: Rig, state: FloatArray) -> FloatArray:
    T = rig.geometry.flange_poses(state)["arm"]
    T[:3, 3] += T[:3, :3] @ tool_point(rig, "arm")
    return T
