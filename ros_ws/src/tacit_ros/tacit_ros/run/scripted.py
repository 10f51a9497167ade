"""One scripted demonstration from start to file: reset the simulated cell, record, play, stop."""

from __future__ import annotations

import contextlib
import time

from std_msgs.msg import Bool

from tacit_ros.wire import qos
from tacit_ros.wire.session import Session, SessionError

ANSWER_S = 60.0
"""Longest wait for a node to come up or answer on a busy machine (mujoco import, GL context)."""
EPISODE_S = 60.0
"""Longest wait for one demonstration; it takes 2 s on two free cores, 7 s in real time."""

RUNNING, SUCCESS = "/expert/running", "/simulator/success"


def watch_cell(session: Session) -> None:
    """Follow what `record_scripted` needs to know; call once per session."""
    session.watch(RUNNING, Bool, qos.latched())
    session.watch(SUCCESS, Bool)


def record_scripted(session: Session, seed: int, disturbance: bool = True) -> str:
    """Record one demonstration of the scripted expert.

    Args:
        session: Session with a running `tacit up record` on a simulated rig; call `watch_cell` before.
        seed: Start of the part and the arm.
        disturbance: Push the executed (not the recorded) target about.

    Returns:
        The recorder's answer, with the path of the episode.

    Raises:
        SessionError: A node does not answer or refuses; the message is its own.
    """
    session.set_parameters("simulator", {"seed": seed, "disturbance": disturbance}, ANSWER_S)
    session.trigger("/simulator/reset", ANSWER_S)
    start_when_ready(session)
    session.forget(RUNNING)
    session.trigger("/expert/run", ANSWER_S)
    session.spin_until(lambda: _runs(session) is True, ANSWER_S, "the expert to start")
    session.spin_until(lambda: _runs(session) is False, EPISODE_S, "the expert to finish")
    succeeded = bool(session.latest(SUCCESS).data)
    return str(session.set_bool("/recorder/stop", succeeded)["message"])


def start_when_ready(session: Session) -> None:
    """Start the recorder as soon as it has seen every stream at its rate, and still does when asked."""
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        if session.trigger("/recorder/status", ANSWER_S)["ready"]:
            with contextlib.suppress(SessionError):  # a stream has faltered since: look again
                session.trigger("/recorder/start", ANSWER_S)
                return
        session.spin_for(0.05)
    session.trigger("/recorder/start", ANSWER_S)  # its refusal names what is missing


def _runs(session: Session) -> bool | None:
    """Whether the expert runs; None while it is unknown."""
    message = session.latest(RUNNING)
    return None if message is None else bool(message.data)
