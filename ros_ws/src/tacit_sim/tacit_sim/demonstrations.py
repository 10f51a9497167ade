"""Record scripted demonstrations without ROS, as the recorder of a robot does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tacit.episode import EpisodeReader, EpisodeWriter, find_episodes
from tacit.geometry.transforms import FloatArray
from tacit.record.encoder_pool import encode
from tacit.record.recording import Recording
from tacit.streams import Arrival
from tacit_sim.cell import CAMERA_QUALITY, TACTILE_QUALITY, Cell
from tacit_sim.experts import Expert
from tacit_sim.tasks import distance_to_goal

SEED = "sim_seed"
"""Root attribute of a simulated episode that holds its seed."""


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
        self._steps = [n for n, s in rig.streams.items() if s.role == "steps"]
        self.tick_ns = round(1e9 / rig.alignment.rate_hz)
        self.joint_ns = round(1e9 / max(rig.streams[name].rate_hz for name in self._states))

    def joints(self) -> None:
        """Push joints and gripper."""
        state, velocity, effort = self._cell.state(), self._cell.velocity(), self._cell.effort()
        fields = {"position": state, "velocity": velocity, "effort": effort}
        with self._watch("write"):
            for name, indices in self._states.items():
                self._push(name, {field: values[indices] for field, values in fields.items()})

    def images(self) -> None:
        """Push encoded camera and tactile images, and the stage."""
        for name in self._cell.rig.cameras:
            with self._watch("camera"):
                image = self._cell.sensed(name)
            with self._watch("write"):
                self._push(name, encode(image, CAMERA_QUALITY))
        for name in self._cell.rig.tactile:
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
    """What came of one demonstration."""

    seed: int
    success: bool
    num_ticks: int
    error_m: float
    path: Path | None = None


def record(cell: Cell, expert: Expert, seed: int, root: Path, watch: Stopwatch) -> Demonstration:
    """Play one episode of the expert and store it under `root/<task>/`.

    Args:
        cell: The cell, of the expert's task.
        expert: Moves it.
        seed: Start of the episode; stored in its metadata.
        root: Folder of the data set.
        watch: Counts where the time goes.

    Returns:
        The outcome; a failed demonstration is stored too, with `success` false.
    """
    cell.reset(seed)
    expert.start(cell.state(), cell.object_pose())
    recording = Recording(cell.rig, _writer(cell, seed, root))
    with _whole_or_trash(recording):
        _play(cell, expert, recording, watch)
    success = cell.success()
    with watch("write"):
        path = recording.finish(success, outcome="placed" if success else cell.stage_name())
    error_m = distance_to_goal(cell.task, cell.object_pose()[:3, 3])
    return Demonstration(seed, success, expert.num_ticks, error_m, path)


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


def _writer(cell: Cell, seed: int, root: Path) -> EpisodeWriter:
    return EpisodeWriter(
        root,
        cell.rig,
        task=cell.task.name,
        instruction=cell.task.instruction,
        sim=True,
        operator="scripted expert",
        started_ns=cell.time_ns,
        references={name: cell.reference(name) for name in cell.rig.tactile},
        metadata={SEED: seed, "sim_disturbed": cell.disturbed},
        sync=False,
    )


def seeds_done(root: Path, task: str) -> set[int]:
    """Return the seeds whose demonstrations already lie in `root/<task>/`."""
    folder = root / task
    seeds = set()
    for path in find_episodes(folder) if folder.is_dir() else ():
        with EpisodeReader(path) as episode:
            seeds.add(int(str(episode.attribute(SEED, -1))))
    return seeds - {-1}
