"""Record scripted demonstrations without ROS, as the recorder of a robot does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tacit.episode import EpisodeReader, EpisodeWriter, Step, find_episodes
from tacit.episode.schema import TASK_STEPS
from tacit.geometry.transforms import FloatArray
from tacit.record.encoder_pool import encode
from tacit.record.recording import Recording
from tacit.streams import Arrival
from tacit_sim.cell import CAMERA_QUALITY, TACTILE_QUALITY, Cell
from tacit_sim.experts import Expert
from tacit_sim.tasks import STAGES, distance_to_goal
from tacit_sim.taxels import DueArrays

SEED = "sim_seed"
"""Root attribute of a simulated episode that holds its seed."""
FAILURE = "sim_failure"
"""Root attribute of a simulated episode that says what should go wrong in it; "" nothing."""


@dataclass
class Stopwatch:
    """Wall time spent per part of the work [s]."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time inside the block to `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class CellFeed:
    """Send what the cell measures to a recording, with the stamps and rates of real drivers.

    Args:
        cell: The cell.
        recording: Takes every stream of the rig.
        watch: Counts where the time goes.
    """

    def __init__(self, cell: Cell, recording: Recording, watch: Stopwatch) -> None:
        self._cell, self._recording, self._watch = cell, recording, watch
        rig = cell.rig
        self._states = {name: rig.index_of(spec.names) for name, spec in rig.states.items()}
        self._commands = {n: rig.index_of(c.names) for n, c in rig.commands.items()}
        self._arrays = DueArrays(rig)
        self._steps = [n for n, s in rig.streams.items() if s.role == "steps"]
        self.tick_ns = round(1e9 / rig.alignment.rate_hz)
        self.joint_ns = round(1e9 / max(rig.streams[name].rate_hz for name in self._states))

    def joints(self) -> None:
        """Push joints and gripper, and the arrays of taxels that are due."""
        state, velocity, effort = self._cell.state(), self._cell.velocity(), self._cell.effort()
        fields = {"position": state, "velocity": velocity, "effort": effort}
        with self._watch("write"):
            for name, indices in self._states.items():
                self._push(name, {field: values[indices] for field, values in fields.items()})
        for name in self._arrays.at(self._cell.time_ns):
            with self._watch("tactile"):
                reading = self._cell.reading(name)
            with self._watch("write"):
                self._push(name, reading)

    def images(self) -> None:
        """Push encoded camera and tactile images, and the stage."""
        for name in self._cell.rig.cameras:
            with self._watch("camera"):
                image = self._cell.sensed(name)
            with self._watch("write"):
                self._push(name, encode(image, CAMERA_QUALITY))
        for name in self._cell.rig.gels:
            with self._watch("tactile"):
                image = self._cell.sensed(name)
            with self._watch("write"):
                self._push(name, encode(image, TACTILE_QUALITY))
        for name in self._steps:
            self._push(name, self._cell.stage())

    def command(self, target: FloatArray) -> None:
        """Send a target (S,) to the cell and push it as the command of this tick."""
        for name, indices in self._commands.items():
            self._push(name, target[indices])
        self._cell.command(target)

    def advance(self) -> None:
        """Step the cell by one tick; joints are measured on the way, at their own rate."""
        for passed in range(self.joint_ns, self.tick_ns + 1, self.joint_ns):
            with self._watch("physics"):
                self._cell.step(self.joint_ns)
            if passed < self.tick_ns:
                self.joints()

    def _push(self, name: str, value: object) -> None:
        self._recording.push(Arrival(name, self._cell.time_ns, self._cell.time_ns, value))


@dataclass(frozen=True)
class Demonstration:
    """What came of one demonstration; `failure` is what should go wrong."""

    seed: int
    success: bool
    num_ticks: int
    error_m: float
    path: Path | None = None
    failure: str = ""

    @property
    def as_asked(self) -> bool:
        """Whether it succeeded or failed as it should."""
        return self.success == (self.failure in ("", "retry"))


def record(
    cell: Cell, expert: Expert, seed: int, root: Path, watch: Stopwatch, failure: str = ""
) -> Demonstration:
    """Play one episode of the expert and store it under `root/<task>/`.

    Args:
        cell: The cell, of the expert's task.
        expert: Moves it.
        seed: Start of the episode; stored in its metadata.
        root: Folder of the data set.
        watch: Counts where the time goes.
        failure: What shall go wrong, one of `failures.FAILURES`; "" nothing.

    Returns:
        The outcome; a failed demonstration is stored too, with `success` false and what went wrong.
    """
    cell.reset(seed)
    expert.start(cell.state(), cell.object_pose(), failure, cell.hidden)
    recording = Recording(cell.rig, _writer(cell, seed, root, failure))
    with _whole_or_trash(recording):
        _play(cell, expert, recording, watch)
    success = cell.success()
    with watch("write"):
        outcome = "placed" if success else failure or cell.stage_name()
        # What was lost and fell where it belongs is no failure, whatever was planned.
        failures = [] if success and failure != "retry" else _failures(expert)
        path = recording.finish(success, outcome=outcome, failures=failures)
    error_m = distance_to_goal(cell.task, cell.object_pose()[:3, 3])
    return Demonstration(seed, success, expert.num_ticks, error_m, path, failure)


def _failures(expert: Expert) -> list[Step]:
    """Return what was planned to go wrong, in ticks of the episode."""
    last = expert.num_ticks - 1
    return [Step(m.kind, m.first, last if m.last is None else min(m.last, last)) for m in expert.mishaps]


@contextmanager
def _whole_or_trash(recording: Recording) -> Iterator[None]:
    """Move the file to the trash unless the block ends well: half a demonstration is none."""
    complete = False
    try:
        yield
        complete = True
    finally:
        if not complete:
            recording.discard()


def _play(cell: Cell, expert: Expert, recording: Recording, watch: Stopwatch) -> None:
    feed = CellFeed(cell, recording, watch)
    for tick in range(expert.num_ticks):
        feed.joints()
        feed.images()
        with watch("expert"):
            target = expert.target(tick)
        feed.command(target)
        with watch("write"):  # simulated time takes the place of the steady clock
            recording.advance(cell.time_ns, cell.time_ns, heard=True)
        feed.advance()


def _writer(cell: Cell, seed: int, root: Path, failure: str) -> EpisodeWriter:
    return EpisodeWriter(
        root,
        cell.rig,
        task=cell.task.name,
        instruction=cell.task.instruction,
        sim=True,
        operator="scripted expert",
        started_ns=cell.time_ns,
        references={name: cell.reference(name) for name in cell.rig.tactile},
        metadata={
            SEED: seed,
            FAILURE: failure,
            "sim_disturbed": cell.disturbed,
            "sim_kind": cell.hidden.kind,
            "sim_shift_m": cell.hidden.shift_m,
            TASK_STEPS: json.dumps(STAGES),
        },
        sync=False,
    )


def seeds_done(root: Path, task: str, failure: str = "") -> set[int]:
    """Return the seeds whose demonstrations with this failure (or none) already lie in `root/<task>/`."""
    folder = root / task
    seeds = set()
    for path in find_episodes(folder) if folder.is_dir() else ():
        with EpisodeReader(path) as episode:
            if episode.attribute(FAILURE, "") == failure:
                seeds.add(int(str(episode.attribute(SEED, -1))))
    return seeds - {-1}
