"""A policy that is watched through the nodes of a robot, in the simulated cell; what is seen may stop it.

`watched_policy.py policy.onnx progress.onnx out 10000 10001 simulator.hidden_seed=3`: starts by their seeds,
and options of `tacit up full`; cameras and a gripper that are not quite the rig's make a policy miss.
"""

import sys
from functools import partial
from pathlib import Path

from std_msgs.msg import String

from tacit.view.progress_video import main as film
from tacit_ros.demo.acting import READY_S, Witness
from tacit_ros.demo.processes import check_alive, running_stack
from tacit_ros.run.scripted import ANSWER_S, start_when_ready
from tacit_ros.wire import qos
from tacit_ros.wire.environment import prepare
from tacit_ros.wire.session import Session

LIMIT_S = 10.4
"""Simulated time that a policy has."""
TICK_PATIENCE_S = 0.1
"""The cell waits so long for the command of a tick."""


class Watched:
    """One start after the other; `said`: (time [s], state or `!` and the kind of failure) of progress."""

    def __init__(self, session: Session) -> None:
        self.session, self.witness = session, Witness(session)
        self.said: list[tuple[float, str]] = []
        self.begin_ns: int | None = None
        for topic, mark in (("/progress/state", ""), ("/progress/failure", "!")):
            session.node.create_subscription(String, topic, partial(self._hear, mark), qos.latched())

    def _hear(self, mark: str, message: String) -> None:
        if message.data and self.begin_ns is not None:
            self.said.append((self.seconds, mark + message.data))

    @property
    def seconds(self) -> float:
        """Simulated time since the policy began."""
        return round((self.witness.stamp_ns - (self.begin_ns or 0)) * 1e-9, 2)

    def run(self, seed: int) -> tuple[bool, str]:
        """Play one start; return whether the cell saw success, and what ended it."""
        session, witness = self.session, self.witness
        start = {"seed": seed, "lockstep_timeout_s": TICK_PATIENCE_S}
        session.set_parameters("simulator", start, ANSWER_S)
        session.trigger("/simulator/reset", ANSWER_S)
        start_when_ready(session)
        for service in ("/progress/reset", "/policy/reset"):
            session.trigger(service, ANSWER_S)
        witness.clear()
        session.trigger_until_accepted("/policy/start", READY_S)
        session.spin_until(lambda: witness.truth is not None, ANSWER_S, "/simulator/truth")
        session.spin_until(lambda: "RUNNING" in witness.policy.text, ANSWER_S, "the policy to run")
        self.said, self.begin_ns = [], witness.stamp_ns
        over = lambda: "RUNNING" not in witness.policy.text or self.seconds > LIMIT_S  # noqa: E731
        session.spin_until(over, 60 * LIMIT_S, "the end of the episode")
        state, stopped = witness.policy.text, "RUNNING" not in witness.policy.text
        ended = f"after {self.seconds} s {f'the policy is {state}' if stopped else 'time is up'}"
        session.spin_for(0.5)  # the last words, and the recorder's file
        if not stopped:
            session.trigger("/policy/hold")
            session.set_bool("/recorder/stop", False)
        self.begin_ns = None
        return bool(witness.truth and witness.truth["success"]), ended


def main(policy: str, progress: str, out: str, *words: str) -> None:
    """Let the policy act from each seed, print what was said of it, and film the recordings."""
    seeds, options = [word for word in words if word.isdigit()], [w for w in words if not w.isdigit()]
    episodes, log = Path(out) / "episodes", Path(out) / "nodes.log"
    bundles = [f"policy.bundle={policy}", f"progress.bundle={progress}", "progress.stop_on=both"]
    stack = ["--without", "overlay", "lockstep=true", f"recorder.root={episodes}", *bundles, *options]
    prepare()
    with running_stack("full", stack, log) as nodes, Session(partial(check_alive, nodes, log)) as session:
        watched = Watched(session)
        for seed in map(int, seeds):
            success, ended = watched.run(seed)
            print(f"seed {seed}: {'success' if success else 'no success'}, {ended}; said {watched.said}")
    for path in sorted(episodes.rglob("*.hdf5")):
        film([progress, str(path), "--out", str(Path(out) / f"{path.stem}.mp4")])


if __name__ == "__main__":
    main(*sys.argv[1:])
