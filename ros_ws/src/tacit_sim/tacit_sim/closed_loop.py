"""Closed loop of a policy bundle and the cell, in lockstep: time waits for the inference."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.player import ChunkPlayer, PlayMode
from tacit.bundle.runtime import Observation, OnnxPolicy, OnnxProgress
from tacit.episode import segments, video_progress
from tacit_sim.cell import Cell
from tacit_sim.tasks import STAGES, distance_to_goal

MAX_TICKS = 260
"""Limit of an episode at 25 Hz; experts need 170 to 185."""

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
        progress_mae: Mean absolute error of the estimated progress, where one was estimated.
        frames: Frames for a film strip, (H, W, 3) each.
    """

    seed: int
    success: bool
    num_ticks: int
    error_m: float
    stage: str
    progress_mae: float | None = None
    frames: list[NDArray[np.uint8]] = field(default_factory=list, repr=False)


def observe(cell: Cell) -> Observation:
    """Return what the robot's sensors show now."""
    images = {name: cell.render(name) for name in cell.rig.cameras}
    touch = {name: cell.touch(name) for name in cell.rig.tactile}
    return Observation(cell.time_ns, cell.state(), images, touch)


class Runner:
    """Runs a policy in a cell.

    Args:
        cell: The cell, undisturbed.
        policy: Bundle bound to the cell's rig.
        mode: How overlapping chunks are played.
        every: Ticks between two inferences; the mode's usual number if 0.
        progress: A progress bundle to judge on the way.
        film_every: Keep a frame for a film strip every so many ticks; 0 for none.
    """

    def __init__(
        self,
        cell: Cell,
        policy: OnnxPolicy,
        mode: PlayMode = "temporal_ensemble",
        every: int = 0,
        progress: OnnxProgress | None = None,
        film_every: int = 0,
    ) -> None:
        self._cell, self._policy, self._progress = cell, policy, progress
        self._tick_ns = round(1e9 / cell.rig.alignment.rate_hz)
        self._player = ChunkPlayer(round(1e9 / policy.manifest.rate_hz), mode)
        chunk = policy.manifest.chunk_size
        usual = {"temporal_ensemble": 1, "blend": max(1, chunk // 2), "replace": max(1, chunk // 2)}
        self._every = every or usual.get(mode, chunk)
        self._film_every = film_every

    def run(self, seed: int, max_ticks: int = MAX_TICKS) -> Rollout:
        """Play one episode from the start of `seed` until success has settled or time is up."""
        cell = self._cell
        cell.reset(seed)
        self._player.reset()
        if self._progress is not None:
            self._progress.reset()
        stages: list[int] = []
        estimates: list[float] = []
        frames: list[NDArray[np.uint8]] = []
        settled = 0
        for tick in range(max_ticks):
            self._act(tick, estimates, frames)
            stages.append(cell.stage())
            cell.step(self._tick_ns)
            settled = settled + 1 if cell.success() else 0
            if settled >= self._patience:
                break
        return self._result(seed, stages, estimates, frames)

    @property
    def _patience(self) -> int:
        return SETTLED_TICKS if self._progress is None else PROGRESS_TAIL_TICKS

    def _act(self, tick: int, estimates: list[float], frames: list[NDArray[np.uint8]]) -> None:
        """Look, infer if it is time, and command."""
        infer = tick % self._every == 0
        film = self._film_every > 0 and tick % self._film_every == 0
        if infer or film or self._progress is not None:
            observation = observe(self._cell)
            if infer:
                self._player.add(self._policy.act(observation), observation.stamp_ns)
            if self._progress is not None:
                estimates.append(self._progress.step(observation).progress)
            if film:
                frames.append(film_frame(observation))
        target = self._player.command(self._cell.time_ns)
        if target is not None:
            self._cell.command(target)

    def _result(
        self, seed: int, stages: list[int], estimates: list[float], frames: list[NDArray[np.uint8]]
    ) -> Rollout:
        cell = self._cell
        success = cell.success()
        mae = None
        if estimates and success:
            truth = video_progress(segments(stages, STAGES), len(stages))
            mae = float(np.abs(np.asarray(estimates) - truth).mean())
        error = distance_to_goal(cell.task, cell.object_pose()[:3, 3])
        return Rollout(seed, success, len(stages), error, cell.stage_name(), mae, frames)


def film_frame(observation: Observation) -> NDArray[np.uint8]:
    """Return all images of an observation side by side, padded below to the tallest."""
    images = [*observation.images.values(), *observation.touch.values()]
    height = max(image.shape[0] for image in images)
    padded = [np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0))) for image in images]
    return np.concatenate(padded, axis=1)
