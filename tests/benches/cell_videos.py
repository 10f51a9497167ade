"""`tacit simulate videos`: scripted demonstrations in the data format of VACE-E, objects included.

An episode of a robot does not know where the objects are; the cell does, so only here is the format
whole: videos, masks of the projected gripper, trajectories of the hand, the part and its goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tacit.config.arguments import Count, NewFolder, Seed, parse_words
from tacit.convert.vace_e import Look, Seen, episode_content, name_task, write_whole
from tacit.convert.vace_e_files import ObjectTrack, TaskAttributes
from tacit.errors import ConfigError, did_you_mean
from tacit.geometry.rotations import rotation_to_6d
from tacit.geometry.transforms import FloatArray, from_translation
from tacit.rig import load_rig
from tacit.rig.scene import RigGeometry
from tacit_sim.cell import Cell
from tacit_sim.experts import Expert

WORDS = {"place_cube": ("placing", "cube."), "insert_peg": ("inserting", "peg.")}
"""What the prompt says of a task: its kind, and its part."""

PART, GOAL = 0, 1


@dataclass(frozen=True, kw_only=True)
class VideoArguments(Look):
    """Write scripted demonstrations of the simulated cell as videos, masks and trajectories.

    Example: tacit simulate videos --out data/videos --episodes 4
    """

    out: NewFolder
    """Folder of the new data set: <out>/<task>/episode_<n>/, and metadata.json."""
    rig: str = "nova2_sim"
    """Rig name or rig.yaml."""
    task: tuple[str, ...] = ("place_cube", "insert_peg")
    """Tasks to show."""
    episodes: Count = 4
    """Episodes of each task."""
    seed: Seed = 0
    """First seed; seeds count up, and number the episodes."""
    camera: str = "top"
    """Camera of the videos."""
    disturbance: bool = True
    """Push the executed target about."""
    stride: Count = 2
    """Take every n-th tick."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tacit simulate videos`.

    Returns:
        0 when at least nine of ten demonstrations succeeded and were written, else 1.
    """
    arguments = parse_words(VideoArguments, argv, "tacit simulate videos")
    rig = load_rig(arguments.rig)
    if arguments.camera not in rig.cameras:
        hint = did_you_mean(arguments.camera, rig.cameras)
        raise ConfigError(f"--camera {arguments.camera}: rig {rig.name} has no such camera; {hint}")
    console = Console(highlight=False)
    wanted = [(task, arguments.seed + i) for task in arguments.task for i in range(arguments.episodes)]
    cell = Cell(rig, arguments.task[0], disturbed=arguments.disturbance)
    geometry, written = RigGeometry(rig), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for task, seed in progress.track(wanted, description="filming"):
            written += film(cell, geometry, task, seed, arguments)
    cell.close()
    console.print(f"{written} of {len(wanted)} demonstrations succeeded and lie in {arguments.out}")
    return 0 if written >= 0.9 * len(wanted) else 1


def film(cell: Cell, geometry: RigGeometry, task: str, seed: int, arguments: VideoArguments) -> bool:
    """Play one demonstration and write it where it succeeds; an episode that is there stays."""
    folder = arguments.out / task / f"episode_{seed}"
    if folder.exists():
        return True
    cell.reset(seed, task)
    frames, states, parts = _play(cell, arguments)
    if not cell.success():
        return False
    seen = Seen(geometry, arguments.camera, np.array(states), frames)
    fps = cell.rig.alignment.rate_hz / arguments.stride
    content = episode_content(seen, fps, arguments, _objects(cell, np.array(parts)))
    write_whole(folder, content)
    kind, objects = WORDS.get(task, (task, ""))
    sides = {f"{side}_hand": side in content.hands for side in ("left", "right")}
    attributes = TaskAttributes(kind, cell.rig.name, objects=objects, **sides)
    name_task(arguments.out, task, attributes, cell.rig, arguments.camera)
    return True


def _play(
    cell: Cell, arguments: VideoArguments
) -> tuple[list[np.ndarray], list[FloatArray], list[FloatArray]]:
    """Return images, states and poses of the part at every n-th tick."""
    expert = Expert(cell.rig, cell.task)
    expert.start(cell.state(), cell.object_pose(), hidden=cell.hidden)
    tick_ns = round(1e9 / cell.rig.alignment.rate_hz)
    frames, states, parts = [], [], []
    for tick in range(expert.num_ticks):
        if tick % arguments.stride == 0:
            frames.append(cell.render(arguments.camera))
            states.append(cell.state())
            parts.append(cell.object_pose())
        cell.command(expert.target(tick))
        cell.step(tick_ns)
    return frames, states, parts


def _objects(cell: Cell, parts: FloatArray) -> list[ObjectTrack]:
    """Return the tracks of the part and of its goal on the table, which rests."""
    goal = np.broadcast_to(from_translation((*cell.task.goal_xy, 0.0)), parts.shape)
    return [
        ObjectTrack(number, poses[:, :3, 3], rotation_to_6d(poses[:, :3, :3]))
        for number, poses in ((PART, parts), (GOAL, goal))
    ]
