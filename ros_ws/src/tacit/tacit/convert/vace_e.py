"""`tacit convert vace_e`: from our episodes to the data format of VACE-E.

One camera becomes the target video, the projected gripper its mask; the flange is the wrist, and an
opening in metres becomes open or closed by the limits of the rig.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tacit.config.arguments import Count, CountOrNone, NewFolder, parse_words
from tacit.convert.gripper_mask import GripperShape, draw_masks, gripper_bodies
from tacit.convert.vace_e_files import (
    METADATA_NAME,
    EpisodeContent,
    HandTrack,
    ObjectTrack,
    TaskAttributes,
    write_episode,
    write_metadata,
)
from tacit.episode import EpisodeReader, find_episodes
from tacit.episode.files import episode_number
from tacit.errors import EpisodeError, did_you_mean
from tacit.geometry.rotations import rotation_to_6d
from tacit.images import Image
from tacit.rig import Rig
from tacit.rig.scene import RigGeometry, RigLike

SIDES = ("left", "right")
Side = Literal["left", "right"]
CROP_MARGIN = 0.15
"""Margin around the image of the end effector, as a share of the gripper's size in the picture."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How pictures, masks and hands are made: options of both commands that write the format."""

    stride: Count = 1
    """Take every n-th tick."""
    side: Side = "right"
    """Which hand the arm is, where there is only one."""
    open_from_m: float | None = None
    """Opening from which a gripper counts as open; the middle of its range, if left out."""
    mask_margin_px: CountOrNone = 1
    """Grow the mask by so many pixels."""
    shape: GripperShape = field(default_factory=GripperShape)
    """Sizes of palm and fingers [m]."""

    def __post_init__(self) -> None:
        """Refuse a stride that takes nothing."""
        if self.stride < 1:
            raise EpisodeError(f"--stride {self.stride}: expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class Options(Look):
    """Write episodes as videos, masks and trajectories for `tacit train vace_e`.

    Example: tacit convert vace_e data/place_cube --out data/vace_e --task-type placing --objects "cube."
    """

    episodes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Episode files, or folders to search for them."""
    out: NewFolder
    """Folder of the new data set: <out>/<task>/episode_<n>/, and metadata.json."""
    camera: str | None = None
    """Camera of the videos; the first one that stands in the world, if left out."""
    task_type: str | None = None
    """Kind of the task for the prompt, such as placing; the name of the task, if left out."""
    objects: str = ""
    """What the task is done with, for the prompt, such as "cube."."""
    embodiment: str | None = None
    """Name of the body in the metadata (human... or a robot); the name of the rig, if left out."""
    only_success: bool = True
    """Leave out episodes that failed."""
    overwrite: bool = False
    """Write episodes anew that are already there."""


class Converted(NamedTuple):
    """One episode that was written: where, how long, and how much of its pictures is masked."""

    folder: Path
    num_frames: int
    white: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tacit convert vace_e`; returns 0, or 1 when no episode could be used."""
    options = parse_words(Options, argv, "tacit convert vace_e")
    console = Console(highlight=False)
    paths = list(dict.fromkeys(path for root in options.episodes for path in find_episodes(root)))
    if not paths:
        raise EpisodeError(f"no episode below {', '.join(map(str, options.episodes)) or '(nothing given)'}")
    done, skipped = _convert_all(paths, options, console)
    for reason, count in sorted(skipped.items()):
        console.print(f"skipped {count}: {reason}")
    if done:
        frames, white = sum(item.num_frames for item in done), np.mean([item.white for item in done])
        console.print(
            f"{len(done)} episodes, {frames} frames in {options.out}; {100 * white:.1f} % of pixels masked",
            soft_wrap=True,
        )
    return 0 if done or skipped.get("already there") else 1


def _convert_all(
    paths: Sequence[Path], options: Options, console: Console
) -> tuple[list[Converted], dict[str, int]]:
    """Convert every path, with a progress bar on a terminal."""
    done: list[Converted] = []
    skipped: dict[str, int] = {}
    claimed: dict[Path, Path] = {}
    columns = (TextColumn("converting"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for path in progress.track(paths):
            with EpisodeReader(path) as reader:
                folder = options.out / reader.task / f"episode_{max(episode_number(path), 0)}"
                if folder in claimed:
                    raise EpisodeError(
                        f"{path} and {claimed[folder]} would both become {folder}; use two --out"
                    )
                claimed[folder] = path
                reason = _why_not(reader, folder, options)
                if reason:
                    skipped[reason] = skipped.get(reason, 0) + 1
                    continue
                done.append(convert_episode(reader, folder, options))
    return done, skipped


def _why_not(reader: EpisodeReader, folder: Path, options: Options) -> str | None:
    if options.only_success and reader.success is False:
        return "failed (only_success)"
    if folder.exists() and not options.overwrite:
        return "already there"
    return None


def convert_episode(reader: EpisodeReader, folder: Path, options: Options) -> Converted:
    """Write one episode as `folder`, whole or not at all, and name its task in the metadata.

    Raises:
        EpisodeError: No such camera, a foreign file without rig, or more arms than hands.
    """
    camera = choose_camera(reader, options.camera)
    ticks = np.arange(0, reader.num_ticks, options.stride)
    frames = [reader.image(camera, int(tick)) for tick in ticks]
    seen = Seen(RigGeometry(reader.rig), camera, np.asarray(reader.qpos, np.float64)[ticks], frames)
    content = episode_content(seen, reader.fps / options.stride, options)
    write_whole(folder, content)
    attributes = TaskAttributes(
        task_type=options.task_type or reader.task,
        embodiment_type=options.embodiment or reader.rig.name,
        left_hand="left" in content.hands,
        right_hand="right" in content.hands,
        objects=options.objects,
    )
    name_task(options.out, reader.task, attributes, reader.rig, camera)
    return Converted(folder, len(frames), float(content.mask.mean()))


class Seen(NamedTuple):
    """What one camera of a rig saw, and the states (T, S) at these moments."""

    geometry: RigGeometry
    camera: str
    Q: np.ndarray
    frames: Sequence[Image]


def episode_content(
    seen: Seen, fps: float, look: Look, objects: Sequence[ObjectTrack] = ()
) -> EpisodeContent:
    """Make masks, hands and the image of the end effector from what a camera saw."""
    geometry = seen.geometry
    bodies = gripper_bodies(geometry, seen.Q, look.shape)
    poses = geometry.camera_poses(seen.Q)[seen.camera]
    masks = draw_masks(bodies, poses, geometry.camera(seen.camera), look.mask_margin_px)
    hands = hand_tracks(geometry, seen.Q, look.side, look.open_from_m)
    reference = end_effector_image(seen.frames, masks)
    references = {} if reference is None else {seen.camera: reference}
    return EpisodeContent(seen.frames, masks, fps, hands, objects, references)


def choose_camera(reader: EpisodeReader, wanted: str | None) -> str:
    """Return the camera to use: the one wanted, else the first in the world, else the first.

    Raises:
        EpisodeError: The episode has no such camera, or none.
    """
    recorded = reader.cameras
    if wanted is not None:
        if wanted in reader.depth_cameras:
            raise EpisodeError(
                f"{reader.path}: {wanted!r} is a depth camera, and a VACE-E video holds colours: its depth "
                f"is left out, choose one of {', '.join(recorded)}"
            )
        if wanted not in recorded:
            raise EpisodeError(f"{reader.path}: no camera {wanted!r}; {did_you_mean(wanted, recorded)}")
        return wanted
    if not recorded:
        raise EpisodeError(f"{reader.path}: no camera in it, so no video to make")
    fixed = [name for name in reader.rig.cameras if reader.rig.cameras[name].parent == "world"]
    return next((name for name in fixed if name in recorded), recorded[0])


def hand_tracks(
    geometry: RigGeometry, Q: np.ndarray, side: Side, open_from_m: float | None = None
) -> dict[str, HandTrack]:
    """Return the tracks of all arms by side: pose of the flange in the world, gripper open or closed.

    Args:
        geometry: Scene of the rig.
        Q: States (T, S).
        side: The side that a lone arm counts as.
        open_from_m: Opening that counts as open; None: the middle of the gripper's range.

    Raises:
        EpisodeError: More than two arms.
    """
    rig, poses = geometry.rig, geometry.flange_poses(Q)
    tracks = {}
    for name, arm_side in sides_of(rig, side).items():
        gripper = rig.arms[name].gripper
        opened = None
        if gripper is not None:
            opening = Q[:, rig.state_names.index(gripper.name)]
            least = (gripper.lower + gripper.upper) / 2 if open_from_m is None else open_from_m
            opened = (opening >= least).astype(np.int64)
        pose = poses[name]
        tracks[arm_side] = HandTrack(pose[:, :3, 3], rotation_to_6d(pose[:, :3, :3]), opened)
    return tracks


def sides_of(rig: RigLike, lone: Side) -> dict[str, str]:
    """Return {arm: side}: by `left` and `right` in the names, else in their order.

    Raises:
        EpisodeError: More than two arms, a format of two hands.
    """
    arms = list(rig.arms)
    if len(arms) > len(SIDES):
        raise EpisodeError(f"rig {rig.name}: {len(arms)} arms ({', '.join(arms)}); the format has two hands")
    if len(arms) == 1:
        return {arms[0]: lone}
    swapped = "right" in arms[0] or "left" in arms[1]
    return dict(zip(arms, reversed(SIDES) if swapped else SIDES, strict=True))


def end_effector_image(frames: Sequence[Image], masks: np.ndarray) -> Image | None:
    """Cut the gripper out of the frame that shows most of it; None where no frame shows any."""
    areas = masks.reshape(len(masks), -1).sum(axis=1)
    best = int(np.argmax(areas))
    if not areas[best]:
        return None
    rows, columns = np.nonzero(masks[best])
    half = (1 + CROP_MARGIN) * max(np.ptp(rows), np.ptp(columns)) / 2
    top, bottom = _span(rows, half, masks.shape[1])
    left, right = _span(columns, half, masks.shape[2])
    return np.ascontiguousarray(frames[best][top:bottom, left:right])


def _span(positions: np.ndarray, half: float, size: int) -> tuple[int, int]:
    centre = (positions.min() + positions.max()) / 2
    return max(0, int(centre - half)), min(size, int(np.ceil(centre + half)) + 1)


def write_whole(folder: Path, content: EpisodeContent) -> None:
    """Write under another parent and rename, so that a kill leaves no half episode."""
    part = folder.parent / ".part" / folder.name
    shutil.rmtree(part, ignore_errors=True)
    write_episode(part, content)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    part.parent.rmdir()


def name_task(root: Path, task: str, attributes: TaskAttributes, rig: Rig, camera: str) -> None:
    """Add a task folder and its camera to the metadata of a data set."""
    spec = rig.cameras[camera]
    seen: dict[str, object] = {"width": spec.width, "height": spec.height, "K": np.asarray(spec.K).tolist()}
    if spec.parent == "world":  # the frame of the trajectories, so that they can be drawn into the picture
        seen["T_world_camera"] = np.asarray(spec.T_parent_camera).tolist()
    write_metadata(root / METADATA_NAME, {task: attributes}, {camera: seen})
