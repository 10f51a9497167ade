"""The data format of VACE-E on disk: names, and the writing of one episode.

`<root>/<task>/episode_<N>/`: target video, hands-masked video, mask video (white = generate), hand and
object trajectories as HDF5, and an image of the end effector. Reading and checking live with the
training code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from tacit.config import load_json
from tacit.convert.video import write_video
from tacit.images import Image, encode_png

EPISODE_PATTERN = re.compile(r"^episode_(\d+)$")
METADATA_NAME = "metadata.json"
GREY = 128
"""Fill of the masked region: 0 of the range -1..1 is 127.5, so the nearest byte above it."""


@dataclass(frozen=True)
class EpisodeFiles:
    """Where the files of one episode are; `robot_folder` holds the HDF5 files where they lie apart."""

    folder: Path
    robot_folder: Path | None = None

    @property
    def number(self) -> int:
        """N of `episode_<N>`."""
        match = EPISODE_PATTERN.match(self.folder.name)
        if match is None:
            raise ValueError(f"{self.folder}: expected a folder named episode_<number>")
        return int(match.group(1))

    @property
    def target(self) -> Path:
        """Video to be generated."""
        return self._named(self.folder, ".mp4")

    @property
    def control(self) -> Path:
        """Video with the hands masked."""
        return self._named(self.folder, "_hands_masked.mp4")

    @property
    def mask(self) -> Path:
        """Mask video, white = generate."""
        return self._named(self.folder, "_hands_mask.mp4")

    @property
    def hands(self) -> Path:
        """Trajectories of wrists and grippers."""
        return self._named(self.robot_folder or self.folder, "_hand_trajectories.hdf5")

    @property
    def objects(self) -> Path:
        """Trajectories of objects."""
        return self._named(self.robot_folder or self.folder, "_object_trajectories.hdf5")

    @property
    def references(self) -> list[Path]:
        """Images of the end effector, sorted by name."""
        suffixes = {".jpg", ".jpeg", ".png"}
        return sorted(p for p in self.folder.glob("end_effector_*") if p.suffix.lower() in suffixes)

    def _named(self, place: Path, ending: str) -> Path:
        return place / f"{self.folder.name}{ending}"


@dataclass(frozen=True)
class HandTrack:
    """One hand: pose of the wrist and whether the gripper is open."""

    positions: np.ndarray  # (T, 3) [m]
    rotations_6d: np.ndarray  # (T, 6), first two columns of R
    open: np.ndarray | None = None  # (T,) 0 closed, 1 open


@dataclass(frozen=True)
class ObjectTrack:
    """One object: its id and pose."""

    object_id: int
    positions: np.ndarray  # (T, 3) [m]
    rotations_6d: np.ndarray  # (T, 6)


@dataclass(frozen=True)
class EpisodeContent:
    """Everything one episode of the format holds; what is None or empty gets no file."""

    video: Sequence[Image]
    mask: np.ndarray  # (T, H, W) bool, True = generate
    fps: float
    hands: Mapping[str, HandTrack] = field(default_factory=dict)  # by "left", "right"
    objects: Sequence[ObjectTrack] = ()
    references: Mapping[str, Image] = field(default_factory=dict)  # by the name after `end_effector_`


def write_episode(folder: Path, content: EpisodeContent) -> EpisodeFiles:
    """Write one episode folder, made if need be; the hands of the control video become grey."""
    files = EpisodeFiles(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_video(files.target, content.video, content.fps)
    pairs = list(zip(content.video, content.mask, strict=True))
    write_video(files.control, (hide(image, mask) for image, mask in pairs), content.fps)
    write_video(files.mask, (as_picture(mask) for _, mask in pairs), content.fps)
    write_hands(files.hands, content.hands)
    write_objects(files.objects, content.objects)
    for name, image in content.references.items():
        (folder / f"end_effector_{name}.png").write_bytes(encode_png(image).tobytes())
    return files


def write_hands(path: Path, hands: Mapping[str, HandTrack]) -> None:
    """Write the hand trajectories; nothing without a hand."""
    if hands:
        with h5py.File(path, "w") as file:
            for side, track in hands.items():
                _write_poses(file.create_group(f"{side}_wrist"), track)
                if track.open is not None:
                    file[f"{side}_hand_states"] = np.asarray(track.open)


def write_objects(path: Path, objects: Sequence[ObjectTrack]) -> None:
    """Write the object trajectories as `object_0`, `object_1`, ...; nothing without an object."""
    if objects:
        with h5py.File(path, "w") as file:
            for number, track in enumerate(objects):
                group = file.create_group(f"object_{number}")
                group.attrs["object_id"] = track.object_id
                _write_poses(group, track)


def _write_poses(group: h5py.Group, track: HandTrack | ObjectTrack) -> None:
    group["positions"] = np.asarray(track.positions, np.float32)
    group["rotations_6d"] = np.asarray(track.rotations_6d, np.float32)


def hide(image: Image, mask: np.ndarray) -> Image:
    """Return the image (H, W, 3) with grey where the mask (H, W) is True."""
    return np.where(mask[..., None], np.uint8(GREY), image)


def as_picture(mask: np.ndarray) -> Image:
    """Return a mask (H, W) as white on black (H, W, 3)."""
    return np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, axis=-1)


@dataclass(frozen=True)
class TaskAttributes:
    """What the metadata say of one task folder."""

    task_type: str
    embodiment_type: str
    left_hand: bool
    right_hand: bool
    objects: str


def write_metadata(path: Path, tasks: Mapping[str, TaskAttributes], cameras: Mapping[str, object]) -> None:
    """Write the metadata of a data set; tasks that the file already names and `tasks` does not, stay.

    Where another camera has the name of one of `cameras`, both stay: the new one is named for who it saw.
    """
    old = load_json(path) if path.is_file() else {}
    known = old.get("metadata", {})
    there, bodies = known.get("cameras", {}), "+".join(sorted({t.embodiment_type for t in tasks.values()}))
    cameras = {
        name if there.get(name, camera) == camera else f"{name} of {bodies}": camera
        for name, camera in cameras.items()
    }
    attributes = {**old.get("per_task_attributes", {}), **{name: vars(task) for name, task in tasks.items()}}
    seen_by = {task.embodiment_type: list(cameras) for task in tasks.values()}
    content = {
        "metadata": {
            "task_types": sorted({str(task["task_type"]) for task in attributes.values()}),
            "embodiment_type_camera": {**known.get("embodiment_type_camera", {}), **seen_by},
            "cameras": {**there, **cameras},
        },
        "per_task_attributes": attributes,
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
