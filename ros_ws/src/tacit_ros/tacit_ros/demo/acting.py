"""Last stage: policy and progress nodes act in the cell in real time, on starts never recorded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rich.console import Console
from std_msgs.msg import Float32, String

from tacit.episode import segments, video_progress
from tacit_ros.demo.processes import check_alive, running_stack
from tacit_ros.demo.settings import DemoSettings
from tacit_ros.run.scripted import ANSWER_S, start_when_ready
from tacit_ros.wire.node_state import NodeState
from tacit_ros.wire.session import Session, SessionError

PATIENCE_S = 0.1
"""How long the cell waits for the command of a tick; with no policy running it goes on so slowly."""
READY_S = 20.0
"""After a reset the policy refuses to start until every stream shows the new scene."""
SETTLED_SECONDS = 0.6
"""Success must last so long: the part stands, the gripper is open and moves away."""


@dataclass
class ClosedLoopEpisode:
    """What happened from one seeded start.

    Attributes:
        seed: Seed of the start.
        success: Whether the task was done within the time limit.
        seconds: Simulated time from the policy's start to the end.
        error_m: Distance of the object from the goal in the plane at the end.
        path: Episode file that the recorder wrote.
        progress: (stamp_ns, estimate) pairs of the progress node.
        truth: (stamp_ns, stage index) pairs of the simulator.
        policy_state: What the policy node said at the end.
    """

    seed: int
    success: bool
    seconds: float
    error_m: float
    path: str
    progress: list[tuple[int, float]] = field(default_factory=list)
    truth: list[tuple[int, int]] = field(default_factory=list)
    policy_state: str = ""


class Witness:
    """Collects truth, progress and diagnostics while an episode runs."""

    def __init__(self, session: Session) -> None:
        """Subscribe through the session's node."""
        self.truth: dict[str, Any] | None = None
        self.stages: list[tuple[int, int]] = []
        self.estimates: list[tuple[int, float]] = []
        self.diagnostics: dict[str, dict[str, str]] = {}
        node = session.node
        self.policy = NodeState(node)
        node.create_subscription(String, "/simulator/truth", self._on_truth, 50)
        node.create_subscription(Float32, "/progress", self._on_progress, 50)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def clear(self) -> None:
        """Begin a new episode."""
        self.truth = None
        self.stages, self.estimates = [], []

    @property
    def stamp_ns(self) -> int:
        """Simulated time of the newest truth."""
        return int(self.truth["stamp_ns"]) if self.truth else 0

    def _on_truth(self, message: String) -> None:
        self.truth = json.loads(message.data)
        self.stages.append((self.stamp_ns, int(self.truth["stage"])))

    def _on_progress(self, message: Float32) -> None:
        self.estimates.append((self.stamp_ns, float(message.data)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {item.key: item.value for item in status.values}


def act(settings: DemoSettings, policy: Path, progress: Path, console: Console) -> dict[str, Any]:
    """Run the closed-loop episodes that are missing.

    Returns:
        `closed_loop`: one record per episode; `policy_diagnostics`: the node's own timings.
    """
    results = settings.output / "closed_loop.jsonl"
    episodes = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    log = settings.output / "logs" / "act.log"
    diagnostics: dict[str, dict[str, str]] = {}
    options = _options(settings, policy, progress)
    with running_stack("full", options, log) as stack, Session(partial(check_alive, stack, log)) as session:
        witness = Witness(session)
        for index in range(len(episodes), settings.closed_loop_episodes):
            episode = _act_once(session, witness, settings, settings.first_test_seed + index)
            episodes.append(asdict(episode))
            with results.open("a") as sink:
                sink.write(json.dumps(episodes[-1]) + "\n")
            _tell(console, episode, index + 1, settings.closed_loop_episodes)
        diagnostics = witness.diagnostics
    return {"closed_loop": episodes, "diagnostics": diagnostics}


def _options(settings: DemoSettings, policy: Path, progress: Path) -> list[str]:
    """Paced at real time; where the policy is late, the cell waits PATIENCE_S for it.

    Simulator, recorder, policy and progress share whatever cores there are: on a busy machine a
    simulation that does not wait would measure the machine, not the policy.
    """
    return [
        "--rig",
        settings.rig,
        "--without",
        "overlay",
        f"recorder.root={settings.closed_loop}",
        f"recorder.task={settings.task}",
        f"recorder.instruction={settings.instruction}",
        "recorder.operator=policy",
        f"simulator.task={settings.task}",
        f"simulator.real_time_factor={settings.closed_loop_speed}",
        "lockstep=true",
        f"policy.bundle={policy}",
        f"progress.bundle={progress}",
    ]


def _act_once(session: Session, witness: Witness, settings: DemoSettings, seed: int) -> ClosedLoopEpisode:
    """Reset, record, let the policy act until success has settled or time is up, stop."""
    start = {"seed": seed, "disturbance": False, "lockstep_timeout_s": PATIENCE_S}
    session.set_parameters("simulator", start, ANSWER_S)
    session.trigger("/simulator/reset", ANSWER_S)
    start_when_ready(session)
    session.trigger("/progress/reset", ANSWER_S)
    session.trigger("/policy/reset", ANSWER_S)
    witness.clear()
    session.trigger_until_accepted("/policy/start", READY_S)
    session.spin_until(lambda: witness.truth is not None, ANSWER_S, "/simulator/truth")
    begin_ns = witness.stamp_ns
    settled = _wait_for_end(session, witness, begin_ns, settings)
    end_ns, truth, state = witness.stamp_ns, witness.truth, str(witness.policy)
    session.trigger("/policy/hold")
    saved = session.set_bool("/recorder/stop", settled)
    assert truth is not None
    return ClosedLoopEpisode(
        seed=seed,
        success=settled,
        seconds=(end_ns - begin_ns) * 1e-9,
        error_m=float(truth["error_m"]),
        path=str(saved["message"]).removeprefix("saved "),
        progress=witness.estimates,
        truth=witness.stages,
        policy_state=state,
    )


def _wait_for_end(session: Session, witness: Witness, begin_ns: int, settings: DemoSettings) -> bool:
    """Spin until success has lasted SETTLED_SECONDS (True) or the time limit of the task (False)."""
    since: list[int] = []

    def over() -> bool:
        truth = witness.truth
        if witness.policy.is_gone:
            raise SessionError(f"/policy: {witness.policy}; look at the node's log")
        if truth is None or not truth["success"]:
            since.clear()
        elif not since:
            since.append(witness.stamp_ns)
        elapsed = (witness.stamp_ns - begin_ns) * 1e-9
        return _lasted(since, witness.stamp_ns) or elapsed > settings.max_episode_seconds

    wall_limit = 10.0 * settings.max_episode_seconds / settings.closed_loop_speed
    session.spin_until(over, wall_limit, "the end of the episode")
    return _lasted(since, witness.stamp_ns)


def _lasted(since: list[int], now_ns: int) -> bool:
    return bool(since) and (now_ns - since[0]) * 1e-9 >= SETTLED_SECONDS


def _tell(console: Console, episode: ClosedLoopEpisode, done: int, total: int) -> None:
    outcome = "success" if episode.success else "failure"
    line = f"  {done}/{total} seed {episode.seed}: {outcome}, {episode.seconds:.1f} s"
    console.print(f"{line}, {1e3 * episode.error_m:.0f} mm from the goal", style="dim", highlight=False)


def progress_curves(
    episode: dict[str, Any], stage_names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return time [s], estimated progress and true progress of one closed-loop episode, each (T,).

    Truth is the video-level progress of the physical stages, as in training; the estimate at a
    tick is the newest the progress node had published by then (NaN before the first).
    """
    stamps = np.array([stamp for stamp, _ in episode["truth"]])
    stages = [stage for _, stage in episode["truth"]]
    truth = video_progress(segments(stages, stage_names), len(stages))
    estimate = np.full(len(stamps), np.nan)
    if episode["progress"]:
        seen = np.array([stamp for stamp, _ in episode["progress"]])
        values = np.array([value for _, value in episode["progress"]])
        newest = np.searchsorted(seen, stamps, side="right") - 1
        estimate = np.where(newest >= 0, values[np.maximum(newest, 0)], np.nan)
    return (stamps - stamps[0]) * 1e-9, estimate, truth
