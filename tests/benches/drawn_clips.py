"""`tacit simulate vace_e`: small drawn data sets in the full format; a hand moves a coloured block.

For tests, benches and a first look without data. The mask follows the hand, and what is drawn agrees
with the trajectories: the pixel of a wrist is its x and y, the hue tells the task, the shape of the
hand the embodiment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from tacit.config.arguments import Count, NewFolder, Seed, parse_words
from tacit.convert.vace_e_files import (
    METADATA_NAME,
    EpisodeContent,
    HandTrack,
    ObjectTrack,
    TaskAttributes,
    write_episode,
    write_metadata,
)
from tacit.errors import ConfigError
from tacit.geometry.rotations import rotation_from_rpy, rotation_to_6d
from tacit.images import Image

FPS = 15.0
MISSING_EVERY = 5
REFERENCE_SIZE = 48  # [px]


@dataclass(frozen=True)
class SyntheticTask:
    """One task folder: its name, what the metadata say of it (None: nothing), and how it is drawn."""

    name: str
    attributes: TaskAttributes | None
    hue: int = 0
    num_episodes: int = 2


@dataclass(frozen=True)
class SyntheticConfig:
    """Size of the videos, and which modalities an episode lacks, by its running number."""

    height: int = 64
    width: int = 96
    num_frames: int = 17
    motion_rate: float = 1.0  # motion rows per frame
    num_objects: int = 2
    without_motion: frozenset[int] = frozenset()
    without_objects: frozenset[int] = frozenset()
    without_reference: frozenset[int] = frozenset()
    seed: int = 0


@dataclass(frozen=True)
class Options:
    """Draw a small data set of VACE-E: six tasks of human and robot hands, videos, masks, trajectories.

    Example: tacit simulate vace_e --out data/drawn
    """

    out: NewFolder
    """Folder of the new data set."""
    episodes: Count = 4
    """Episodes of each task."""
    height: Count = 64
    """Height of the videos [px]."""
    width: Count = 96
    """Width of the videos [px]."""
    num_frames: Count = 25
    """Frames of each video."""
    missing: bool = False
    """Let every fifth episode lack its motion, its objects or its image, in turn."""
    seed: Seed = 0
    """Another seed draws other paths."""


def main(argv: list[str]) -> int:
    """Run `tacit simulate vace_e`."""
    options = parse_words(Options, argv, "tacit simulate vace_e")
    if options.out.exists() and any(options.out.iterdir()):
        raise ConfigError(f"--out {options.out}: is not empty; give a new folder")
    tasks = example_tasks(options.episodes)
    lacking = range(0, len(tasks) * options.episodes if options.missing else 0, MISSING_EVERY)
    config = SyntheticConfig(
        height=options.height,
        width=options.width,
        num_frames=options.num_frames,
        without_motion=frozenset(lacking[0::3]),
        without_objects=frozenset(lacking[1::3]),
        without_reference=frozenset(lacking[2::3]),
        seed=options.seed,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    metadata = write_dataset(options.out, tasks, config)
    count = len(tasks) * options.episodes
    text = f"{count} episodes of {len(tasks)} tasks in {options.out}; metadata: {metadata}"
    Console(highlight=False).print(text, soft_wrap=True)
    return 0


def example_tasks(episodes: int = 2) -> tuple[SyntheticTask, ...]:
    """Six folders with the oddities of real ones: spaces, several date forms, digits before both kinds."""
    right, both = (False, True), (True, True)
    rows = (
        (
            "104-ada-grasping_2024-05-08_15-23-40",
            "grasping",
            "human_glasses",
            right,
            "white bottle with black lid.",
        ),
        ("902-pouring-val-2024_05_18-18_49_25", "pouring", "h9_claw", both, "cup, bottle."),
        ("1061new_sim_soda_grasp_h9_claw-2025_01_11-22_20_48", "grasping", "h9_claw_sim", right, "soda."),
        ("303-picking left orange 20241203", "picking", "human_stereo", (True, False), "orange."),
        ("1407-pouring_bo_2025-01-12_16-42-19", "pouring", "human_glasses", both, "cup, bottle."),
        ("77-passing_box", "passing_over", "h9_claw", both, "box."),
    )
    return tuple(
        SyntheticTask(name, TaskAttributes(kind, body, *hands, objects), hue, episodes)
        for hue, (name, kind, body, hands, objects) in enumerate(rows)
    )


def write_dataset(
    root: Path, tasks: tuple[SyntheticTask, ...] | None = None, config: SyntheticConfig | None = None
) -> Path:
    """Write a data set with its metadata under `root`; returns the path of the metadata."""
    config = config or SyntheticConfig()
    tasks = example_tasks() if tasks is None else tasks
    number = 0
    for task in tasks:
        for episode in range(task.num_episodes):
            content = draw_episode(task, number, config)
            write_episode(root / task.name / f"episode_{episode}", content)
            number += 1
    metadata = root / METADATA_NAME
    known = {task.name: task.attributes for task in tasks if task.attributes is not None}
    write_metadata(metadata, known, {"head": {"width": config.width, "height": config.height}})
    return metadata


def draw_episode(task: SyntheticTask, number: int, config: SyntheticConfig) -> EpisodeContent:
    """Draw episode `number` of the data set: equal numbers and seeds give equal episodes."""
    rng = np.random.default_rng([config.seed, number])
    sides = _sides(task)
    paths = {side: _path(rng, config, side) for side in sides}  # (F, 2) in 0..1
    frames, masks = zip(*(_frame(task, paths, t, config) for t in range(config.num_frames)), strict=True)
    rows = max(2, round(config.num_frames * config.motion_rate))
    hands = {} if number in config.without_motion else {s: _hand(p, rows) for s, p in paths.items()}
    objects = [] if number in config.without_objects else _objects(paths[sides[0]], rows, config.num_objects)
    reference = {} if number in config.without_reference else {"camera": _reference(task)}
    return EpisodeContent(frames, np.stack(masks), FPS, hands, objects, reference)


def _sides(task: SyntheticTask) -> list[str]:
    attributes = task.attributes
    if attributes is None:
        return ["right"]
    used = [s for s, on in (("left", attributes.left_hand), ("right", attributes.right_hand)) if on]
    return used or ["right"]


def _path(rng: np.random.Generator, config: SyntheticConfig, side: str) -> np.ndarray:
    """A straight way across the picture with a dip, at a drawn speed and height (F, 2)."""
    share = np.linspace(0, 1, config.num_frames) ** rng.uniform(0.7, 1.4)
    start, end = rng.uniform(0.15, 0.3), rng.uniform(0.7, 0.85)
    x = start + (end - start) * (share if side == "right" else 1 - share)
    y = rng.uniform(0.35, 0.5) + 0.2 * np.sin(np.pi * share)
    return np.stack([x, y], axis=-1)


def _frame(
    task: SyntheticTask, paths: dict[str, np.ndarray], t: int, config: SyntheticConfig
) -> tuple[Image, np.ndarray]:
    """One picture and where its hands are."""
    rows, columns = np.mgrid[: config.height, : config.width]
    image = np.empty((config.height, config.width, 3), np.uint8)
    image[..., 0] = 60 + 60 * columns / config.width
    image[..., 1] = 90
    image[..., 2] = 60 + 60 * rows / config.height
    mask = np.zeros((config.height, config.width), bool)
    radius = config.height / 8
    for path in paths.values():
        dx, dy = columns - path[t, 0] * config.width, rows - path[t, 1] * config.height
        block = np.maximum(np.abs(dx), np.abs(dy - 1.5 * radius)) < radius / 2
        image[block] = _colour(task.hue)
        hand = _is_hand(task, dx, dy, radius)
        image[hand] = (225, 180, 150) if _is_human(task) else (40, 40, 45)
        mask |= np.maximum(np.abs(dx), np.abs(dy)) < 1.25 * radius
    return image, mask


def _is_human(task: SyntheticTask) -> bool:
    return task.attributes is not None and task.attributes.embodiment_type.startswith("human")


def _is_hand(task: SyntheticTask, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """A disc for a human hand, two fingers for a gripper."""
    if _is_human(task):
        return np.hypot(dx, dy) < radius
    return (np.abs(np.abs(dx) - 0.6 * radius) < 0.3 * radius) & (np.abs(dy) < radius)


def _colour(hue: int) -> tuple[int, int, int]:
    return ((230, 60, 60), (60, 200, 60), (70, 90, 230), (230, 150, 40), (200, 70, 200), (60, 200, 200))[
        hue % 6
    ]


def _reference(task: SyntheticTask) -> Image:
    rows, columns = np.mgrid[:REFERENCE_SIZE, :REFERENCE_SIZE] - REFERENCE_SIZE / 2 + 0.5
    image = np.full((REFERENCE_SIZE, REFERENCE_SIZE, 3), 250, np.uint8)
    image[_is_hand(task, columns, rows, REFERENCE_SIZE / 3)] = (
        (225, 180, 150) if _is_human(task) else (40, 40, 45)
    )
    return image


def _resampled(path: np.ndarray, rows: int) -> np.ndarray:
    at = np.linspace(0, len(path) - 1, rows)
    return np.stack([np.interp(at, np.arange(len(path)), column) for column in path.T], axis=-1)


def _hand(path: np.ndarray, rows: int) -> HandTrack:
    """Wrist over the table, turning as it goes; the gripper closes for the middle of the way."""
    xy = _resampled(path, rows)
    share = np.linspace(0, 1, rows)
    positions = np.column_stack([xy, 0.1 + 0.05 * np.cos(np.pi * share)])
    rotations = np.stack([rotation_to_6d(rotation_from_rpy((np.pi, 0.0, angle))) for angle in share])
    return HandTrack(positions, rotations, ((share < 0.3) | (share > 0.8)).astype(np.int64))


def _objects(path: np.ndarray, rows: int, count: int) -> list[ObjectTrack]:
    """The first object goes with the hand, the others lie still."""
    still = rotation_to_6d(np.eye(3))
    carried = np.column_stack([_resampled(path, rows), np.full(rows, 0.05)])
    return [
        ObjectTrack(
            number,
            carried if number == 0 else np.broadcast_to((0.2 * number, 0.8, 0.0), (rows, 3)),
            np.broadcast_to(still, (rows, 6)),
        )
        for number in range(count)
    ]
