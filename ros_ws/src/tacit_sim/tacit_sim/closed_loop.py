"""Closed loop of a policy bundle and the cell, in lockstep: time waits for each tick to be answered.

A thin driver: the cell's measurements go into the same `Acting` as the messages of a robot go into in the
policy node, and its commands come back. So chunk player, gates, limiter, workspace and re-planning are
those of `tacit run`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.player import PlaySpec
from tacit.bundle.runtime import Observation, OnnxPolicy, OnnxProgress
from tacit.control.acting import Acting
from tacit.control.inputs import AlignedInputs, as_recorded
from tacit.episode import segments, video_progress
from tacit.images.depth import to_look_at
from tacit.progress import CompletionDetector, StopOn, detector_of, stopping_states
from tacit_sim.cell import Cell
from tacit_sim.felt import FeltTouch, TouchControl
from tacit_sim.tasks import STAGES, distance_to_goal, mark_under
from tacit_sim.taxels import DueArrays

MAX_TICKS = 260
"""Limit of an episode at 25 Hz; experts need 180 to 195."""

FILM_EVERY = 6
"""Ticks from one frame of a film to the next, where an episode is filmed."""
SETTLED_TICKS = 5
"""Success must last this long, so that a part that is about to topple does not count."""

PROGRESS_TAIL_TICKS = 15
"""How long the scripted demonstrations go on after release: progress is judged on as much."""


@dataclass(frozen=True)
class Rollout:
    """One closed-loop episode.

    Attributes:
        seed: Start of the episode.
        success: Whether the task was done.
        num_ticks: Length at 25 Hz.
        error_m: Distance of the part from the goal at the end, in the plane.
        stage: Name of the last stage.
        fault: Why the policy held, "" where it did not: a node would have stopped there too.
        progress_mae: Mean absolute error of the estimated progress, where one was estimated.
        done_tick: When the progress bundle called the task done; None: never, or there is no bundle.
        alarms: What else its detector said, in order: failed with its kind, stalled, regressed.
        goal: Index of the mark where the part belonged.
        mark: Index of the mark nearest to the part at the end; None: it stayed nearer to its start.
        placed_on: Index of the mark, right or wrong, on which it was placed and let go; None: on none.
        frames: Frames for a film strip, (H, W, 3) each.
    """

    seed: int
    success: bool
    num_ticks: int
    error_m: float
    stage: str
    fault: str = ""
    progress_mae: float | None = None
    done_tick: int | None = None
    alarms: tuple[str, ...] = ()
    goal: int = 0
    mark: int | None = None
    placed_on: int | None = None
    frames: list[NDArray[np.uint8]] = field(default_factory=list, repr=False)


def observe(cell: Cell) -> Observation:
    """Return what the robot's sensors show now."""
    images = {name: cell.sensed(name) for name in cell.rig.cameras}
    touch = {name: cell.sensed(name).astype(np.uint8, copy=False) for name in cell.rig.gels}
    return Observation(cell.time_ns, cell.state(), images, touch)


class Sensors:
    """Hands what the cell measures to the inputs of a policy, as the topics of the rig would.

    Args:
        cell: Measured at each call.
        inputs: Take the streams that the bundle needs.
        felt: Stands between touch and the policy.
    """

    def __init__(self, cell: Cell, inputs: AlignedInputs, felt: FeltTouch) -> None:
        self._cell, self._inputs, self._felt = cell, inputs, felt
        rig = cell.rig
        self._states = {name: rig.index_of(spec.names) for name, spec in rig.states.items()}
        self._arrays = DueArrays(rig)
        self.joint_ns = round(1e9 / max(spec.rate_hz for spec in rig.states.values()))

    def joints(self) -> None:
        """Measure joints, gripper and the arrays that are due; they come also between two ticks."""
        state = self._cell.state()
        for name, index in self._states.items():
            self._store(name, state[index])
        for name in self._arrays.at(self._cell.time_ns):
            if name in self._inputs.names:
                self._store(name, self._felt.array(name))

    def images(self) -> Observation:
        """Take a picture with every camera and touch sensor."""
        seen = observe(self._cell)
        observation = replace(seen, touch=self._felt.of(seen.touch))
        for name, image in {**observation.images, **observation.touch}.items():
            if name in self._inputs.names:
                self._store(name, image)
        return observation

    def _store(self, name: str, value: NDArray) -> None:
        self._inputs.hear(name, self._cell.time_ns, value)


@dataclass
class _Trace:
    """What is noted down while an episode runs."""

    stages: list[int] = field(default_factory=list)
    estimates: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)


class Runner:
    """Runs a policy in a cell.

    Args:
        cell: The cell, undisturbed.
        policy: Bundle bound to the cell's rig.
        play: How chunks are played; the bundle's own way if None.
        latency_ns: How much simulated time each inference takes.
        progress: A progress bundle to judge on the way.
        film_every: Keep a frame for a film every so many ticks; 0 for none.
        stop_on: What of the progress bundle ends an episode, as the progress node would end the policy.
        touch: What the policy feels: a control, where it is not its own touch.
    """

    def __init__(
        self,
        cell: Cell,
        policy: OnnxPolicy,
        play: PlaySpec | None = None,
        latency_ns: int = 0,
        progress: OnnxProgress | None = None,
        film_every: int = 0,
        stop_on: StopOn = "nothing",
        touch: TouchControl = "real",
    ) -> None:
        self._felt = FeltTouch(cell, touch)
        self._cell, self._policy, self._progress = cell, policy, progress
        self._play, self._latency_ns = play, latency_ns
        self._tick_ns = round(1e9 / cell.rig.alignment.rate_hz)
        self._film_every, self._stops = film_every, stopping_states(stop_on)
        self._judge = CompletionDetector(detector_of(progress.manifest)) if progress is not None else None

    def run(self, seed: int, max_ticks: int = MAX_TICKS) -> Rollout:
        """Play one episode from the start of `seed` until the part rests on a mark or time is up."""
        cell = self._cell
        cell.reset(seed)
        acting = self.acting()
        self._felt.reset(seed)
        sensors = Sensors(cell, acting.inputs, self._felt)
        if self._progress is not None:
            self._progress.reset()
        if self._judge is not None:
            self._judge.reset()
        trace = _Trace()
        settled = 0
        refused = ""
        for tick in range(max_ticks):
            sensors.joints()
            self._note(tick, sensors.images(), trace)
            if tick == 0 and (refused := _refusal(acting)):
                break
            if trace.states and trace.states[-1].partition(" ")[0] in self._stops:
                break
            acting.look(lambda stamp_ns: self._obey(acting, stamp_ns))
            self._advance(sensors)
            settled = settled + 1 if cell.placed_on() is not None else 0
            if settled >= (SETTLED_TICKS if self._progress is None else PROGRESS_TAIL_TICKS):
                break
        return self._result(seed, trace, refused or str(acting.controller.fault or ""))

    def acting(self) -> Acting:
        """Return a policy that has seen nothing yet, on the clock of the cell."""
        inputs = AlignedInputs(self._cell.rig, self._policy.manifest, self._now_ns, self._now_ns)
        return Acting(
            self._policy, self._cell.rig, inputs, self._play, lockstep=True, latency_ns=self._latency_ns
        )

    def _now_ns(self) -> int:
        return self._cell.time_ns

    def _obey(self, acting: Acting, stamp_ns: int) -> None:
        command = acting.command(stamp_ns)
        if command is not None:
            self._cell.command(command)

    def _advance(self, sensors: Sensors) -> None:
        """Step the cell to the next tick; joints are measured on the way, at their own rate."""
        for passed in range(sensors.joint_ns, self._tick_ns + 1, sensors.joint_ns):
            self._cell.step(sensors.joint_ns)
            if passed < self._tick_ns:
                sensors.joints()

    def _note(self, tick: int, observation: Observation, trace: _Trace) -> None:
        """Note the stage, and the estimated progress and a frame where they are wanted."""
        trace.stages.append(self._cell.stage())
        if self._progress is not None:
            touch = {name: as_recorded(image) for name, image in observation.touch.items()}
            estimate = self._progress.step(replace(observation, touch=touch))
            trace.estimates.append(estimate.progress)
            assert self._judge is not None
            state = self._judge.take(estimate, observation.stamp_ns)
            trace.states.append(f"{state} {self._judge.failure}".strip() if state == "failed" else state)
        if self._film_every > 0 and tick % self._film_every == 0:
            trace.frames.append(film_frame(observation))

    def _result(self, seed: int, trace: _Trace, fault: str) -> Rollout:
        cell = self._cell
        success = cell.success()
        mae = None
        if trace.estimates and success:
            truth = video_progress(segments(trace.stages, STAGES), len(trace.stages))
            mae = float(np.abs(np.asarray(trace.estimates) - truth).mean())
        error = distance_to_goal(cell.task, cell.object_pose()[:3, 3])
        length = len(trace.stages)
        done = trace.states.index("done") if "done" in trace.states else None
        alarms = tuple(dict.fromkeys(s for s in trace.states if s not in ("running", "done")))
        marks = (cell.hidden.kind, mark_under(cell.task, cell.object_pose()[:3, 3]), cell.placed_on())
        said = (mae, done, alarms, *marks, trace.frames)
        return Rollout(seed, success, length, error, cell.stage_name(), fault, *said)


def _refusal(acting: Acting) -> str:
    """Start the run on what was heard so far; return why that was refused, "" where it runs."""
    acting.look()
    answer = acting.start()
    return "" if answer.success else answer.message


def film_frame(observation: Observation) -> NDArray[np.uint8]:
    """Return all images of an observation side by side, padded below to the tallest."""
    images = [to_look_at(image) for image in (*observation.images.values(), *observation.touch.values())]
    height = max(image.shape[0] for image in images)
    padded = [np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0))) for image in images]
    return np.concatenate(padded, axis=1)
