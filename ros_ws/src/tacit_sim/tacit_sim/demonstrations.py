"""Record scripted demonstrations without ROS, through the same aligner and writer as on a robot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tacit.episode import EpisodeReader, EpisodeWriter, find_episodes
from tacit.geometry.transforms import FloatArray
from tacit.images import encode_jpeg
from tacit.rig import Rig
from tacit.streams import Aligner
from tacit_sim.cell import Cell
from tacit_sim.experts import Expert
from tacit_sim.tasks import distance_to_goal

CAMERA_QUALITY, TACTILE_QUALITY = 90, 95

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
    """Push what the cell measures into an aligner, with the stamps and rates of real drivers.

    Args:
        cell: The cell.
        aligner: Takes every stream of the rig.
        writer: Takes the native rate of the low-dimensional ones.
        watch: Counts where the time goes.
    """

    def __init__(self, cell: Cell, aligner: Aligner, writer: EpisodeWriter, watch: Stopwatch) -> None:
        self._cell, self._aligner, self._writer, self._watch = cell, aligner, writer, watch
        rig = cell.rig
        self._states = {n: rig.index_of(s.names) for n, s in rig.streams.items() if s.role == "state"}
        self._commands = {n: rig.index_of(c.names) for n, c in rig.commands.items()}
        self._steps = [n for n, s in rig.streams.items() if s.role == "steps"]
        self.tick_ns = round(1e9 / rig.alignment.rate_hz)
        self.joint_ns = round(1e9 / max(rig.streams[name].rate_hz for name in self._states))

    def joints(self) -> None:
        """Push joints and gripper."""
        state, velocity, effort = self._cell.state(), self._cell.velocity(), self._cell.effort()
        with self._watch("write"):
            for name, indices in self._states.items():
                self._push(name, state[indices])
                fields = {"position": state, "velocity": velocity, "effort": effort}
                self._store(name, {field: values[indices] for field, values in fields.items()})

    def images(self) -> None:
        """Push encoded camera and tactile images, and the stage."""
        for name in self._cell.rig.cameras:
            with self._watch("camera"):
                image = self._cell.render(name)
            with self._watch("write"):
                self._push(name, encode_jpeg(image, CAMERA_QUALITY))
        for name in self._cell.rig.tactile:
            with self._watch("tactile"):
                image = self._cell.touch(name)
            with self._watch("write"):
                self._push(name, encode_jpeg(image, TACTILE_QUALITY))
        for name in self._steps:
            self._push(name, self._cell.stage())
            self._store(name, self._cell.stage())

    def command(self, target: FloatArray) -> None:
        """Send a target (S,) to the cell and push it as the command of this tick."""
        for name, indices in self._commands.items():
            self._push(name, target[indices])
            self._store(name, target[indices])
        self._cell.command(target)

    def advance(self) -> None:
        """Step the cell by one tick; joints are measured on the way, at their own rate."""
        for passed in range(self.joint_ns, self.tick_ns + 1, self.joint_ns):
            with self._watch("physics"):
                self._cell.step(self.joint_ns)
            if passed < self.tick_ns:
                self.joints()

    def _push(self, name: str, value: object) -> None:
        self._aligner.push(name, self._cell.time_ns, self._cell.time_ns, value)

    def _store(self, name: str, values: object) -> None:
        self._writer.append_stream(name, self._cell.time_ns, self._cell.time_ns, values)


@dataclass(frozen=True)
class Demonstration:
    """What came of one demonstration."""

    seed: int
    success: bool
    num_ticks: int
    error_m: float
    path: Path | None = None


def demonstrate(cell: Cell, expert: Expert, seed: int) -> Demonstration:
    """Play one episode of the expert without images or file: physics and IK alone."""
    cell.reset(seed)
    expert.start(cell.state(), cell.object_pose())
    tick_ns = round(1e9 / cell.rig.alignment.rate_hz)
    for tick in range(expert.num_ticks):
        cell.command(expert.target(tick))
        cell.step(tick_ns)
    return _outcome(cell, seed, expert.num_ticks, None)


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
    aligner = Aligner.from_rig(cell.rig, exclude=_extras(cell.rig))
    writer = _writer(cell, seed, root)
    with _whole_or_trash(writer):
        _play(cell, expert, aligner, writer, watch)
    success = cell.success()
    with watch("write"):
        outcome = "placed" if success else cell.stage_name()
        path = writer.close(success, outcome=outcome, counts=aligner.counts)
    return _outcome(cell, seed, expert.num_ticks, path)


@contextmanager
def _whole_or_trash(writer: EpisodeWriter) -> Iterator[None]:
    """Move the file to the trash unless the block ends well: half a demonstration is none."""
    complete = False
    try:
        yield
        complete = True
    finally:
        if not complete:
            writer.discard()


def _play(cell: Cell, expert: Expert, aligner: Aligner, writer: EpisodeWriter, watch: Stopwatch) -> None:
    feed = CellFeed(cell, aligner, writer, watch)
    for tick in range(expert.num_ticks):
        feed.joints()
        feed.images()
        with watch("expert"):
            target = expert.target(tick)
        feed.command(target)
        with watch("write"):
            for aligned in aligner.poll():
                writer.append(aligned)
        feed.advance()


def _extras(rig: Rig) -> list[str]:
    """Streams that only other programs fill (a progress estimate): a headless cell has none."""
    return [name for name, stream in rig.streams.items() if stream.role == "extra"]


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


def _outcome(cell: Cell, seed: int, num_ticks: int, path: Path | None) -> Demonstration:
    error = distance_to_goal(cell.task, cell.object_pose()[:3, 3])
    return Demonstration(seed, cell.success(), num_ticks, error, path)
