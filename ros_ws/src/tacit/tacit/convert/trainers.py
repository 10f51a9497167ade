"""What data sets for policy trainers hold of an episode: robots by number, pictures of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tacit.convert.job import Export
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError
from tacit.geometry.rotations import rotation_to_quaternion, rotation_to_vector
from tacit.images import MAX_SIDE, Image, ImageTransform
from tacit.rig.scene import measured


@dataclass(frozen=True, kw_only=True)
class TrainerExport(Export):
    """Options of every such data set."""

    size: tuple[int, int] | None = None
    """Width and height of all pictures [px]; as recorded, if left out."""

    def __post_init__(self) -> None:
        """Refuse a size that no picture has."""
        if self.size is not None and not all(1 <= side <= MAX_SIDE for side in self.size):
            raise EpisodeError(f"--size {self.size[0]} {self.size[1]}: expected 1 to {MAX_SIDE} px")


def robot_tables(reader: EpisodeReader, rotation: str = "quat") -> dict[str, np.ndarray]:
    """Return what is known of each arm at the ticks, f4: `robot0_joint_pos` (T, n) [rad],
    `robot0_gripper_qpos` (T, 1) [m], `robot0_eef_pos` (T, 3) [m] of the flange in the world, and its rotation
    as `robot0_eef_quat` (T, 4) xyzw, or as `robot0_eef_rot_axis_angle` (T, 3). Arms that nobody measured have
    no pose.
    """
    rig, found = reader.rig, {}
    for number, (arm, spec) in enumerate(rig.arms.items()):
        found[f"robot{number}_joint_pos"] = reader.qpos[:, rig.arm_slice(arm)]
        if spec.gripper is not None:
            column = rig.state_names.index(spec.gripper.name)
            found[f"robot{number}_gripper_qpos"] = reader.qpos[:, column : column + 1]
        if arm in measured(rig).arms:
            T = reader.file[f"observations/ee_pose/{arm}"][:]
            found[f"robot{number}_eef_pos"] = T[:, :3, 3]
            if rotation == "quat":
                found[f"robot{number}_eef_quat"] = rotation_to_quaternion(T[:, :3, :3])
            else:
                vectors = [rotation_to_vector(R) for R in T[:, :3, :3]]
                found[f"robot{number}_eef_rot_axis_angle"] = np.array(vectors)
    return {name: np.asarray(table, np.float32) for name, table in found.items()}


def whole_streams(reader: EpisodeReader) -> list[str]:
    """Return the cameras and sensors that have a picture at every tick."""
    streams = (*reader.cameras, *reader.gels)
    ticks = range(reader.num_ticks)
    return [name for name in streams if all(reader.image_bytes(name, tick).size for tick in ticks)]


def pictures_of(reader: EpisodeReader, stream: str, size: tuple[int, int] | None) -> Iterator[Image]:
    """Yield the pictures of a stream (H, W, 3) RGB uint8, of the size (width, height) that is asked for."""
    transform: ImageTransform | None = None
    for image in reader.pictures(stream, slice(0, reader.num_ticks)):
        if size is not None and transform is None:
            transform = ImageTransform(image.shape[0], image.shape[1], size[1], size[0])
        yield image if transform is None else transform.image(image)


def check_alike(paths: Sequence[Path]) -> list[int]:
    """Return the number of ticks of each episode.

    Raises:
        EpisodeError: They are of several robots, which one table cannot hold, or no episodes of tacit.
    """
    counts, first = [], None
    for path in paths:
        with EpisodeReader(path) as reader:
            if reader.is_foreign:
                raise EpisodeError(f"{path}: is no episode of tacit; convert it to one first")
            kind = (reader.state_names, sorted(whole_streams(reader)))
            first = first or kind
            if kind != first:
                raise EpisodeError(
                    f"{path}: other joints, or pictures, than {paths[0].name}: {', '.join(kind[0])}; "
                    f"{', '.join(kind[1])}. Convert the two kinds one by one"
                )
            counts.append(reader.num_ticks)
    return counts
