"""What the metadata of a task folder say of its episodes: the prompt, and the camera that saw them.

The folder's exact name is the key; names are never parsed, they hold spaces and several date forms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, field_validator

from tacit.config import load_json, parse
from tacit.images import ImageTransform


class _Foreign(BaseModel):
    """Files of others may say more than we read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TaskMetadata(_Foreign):
    """What is known of one task folder. `objects` is a text such as "cup, bottle."."""

    task_type: str
    embodiment_type: str | None = None
    left_hand: bool = False
    right_hand: bool = False
    objects: str = ""

    @field_validator("objects", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """Accept a list as well."""
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value or ""


class Metadata(_Foreign):
    """The metadata file of a data set."""

    metadata: dict[str, Any] = {}
    per_task_attributes: dict[str, TaskMetadata]


Row3 = tuple[float, float, float]
Row4 = tuple[float, float, float, float]


class CameraMetadata(_Foreign):
    """A pinhole of known place."""

    width: PositiveInt
    height: PositiveInt
    K: tuple[Row3, Row3, Row3]
    T_world_camera: tuple[Row4, Row4, Row4, Row4]


def load_metadata(path: str | Path) -> Metadata:
    """Read the metadata file (JSON).

    Raises:
        ConfigError: Missing, not JSON, or without the attributes of its tasks.
    """
    return parse(Metadata, load_json(path), str(path))


def make_prompt(task: TaskMetadata | None, folder: str) -> str:
    """Return the prompt of a task folder.

    Both hands and exactly two objects: `Pouring, left hand cup, right hand bottle`, the first object
    left. Both hands otherwise, one hand, or none: `Both hands ...`, `Right hand grasping white bottle
    with black lid.`, `Left hand ...`, `Picking ...`. A folder without metadata is named as it is.
    """
    if task is None:
        return f"Robot manipulation task: {folder}"
    kind = task_type(task)
    pair = _objects(task.objects)
    if task.left_hand and task.right_hand:
        if len(pair) == 2:
            return f"{_capital(kind)}, left hand {pair[0]}, right hand {pair[1]}"
        return f"Both hands {kind} {task.objects}".rstrip()
    if task.right_hand:
        return f"Right hand {kind} {task.objects}".rstrip()
    if task.left_hand:
        return f"Left hand {kind} {task.objects}".rstrip()
    return f"{_capital(kind)} {task.objects}".rstrip()


def task_type(task: TaskMetadata) -> str:
    """Return the type of a task in words."""
    return task.task_type.replace("_", " ")


def camera_of(metadata: Metadata, folder: str) -> CameraMetadata | None:
    """Return the camera of a task folder; None where the metadata do not say where it stands.

    It is the one named for the folder's embodiment, or the only one.
    """
    cameras = metadata.metadata.get("cameras")
    task = metadata.per_task_attributes.get(folder)
    if not isinstance(cameras, dict) or task is None:
        return None
    named = metadata.metadata.get("embodiment_type_camera")
    wanted = named.get(task.embodiment_type) if isinstance(named, dict) else None
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else list(cameras)
    try:
        return CameraMetadata.model_validate(cameras.get(str(names[0]))) if len(names) == 1 else None
    except ValidationError:  # others may say less of a camera, or something else
        return None


def seen_through(camera: CameraMetadata, video: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
    """Return the matrix (3, 4) f4 from the world to shares of a window that is cut from a video.

    Distortion of the lens is left out: on a wide one the places are off at the rim.

    Args:
        camera: Of any size.
        video: Height and width of the video [px].
        window: Height and width of what is cut from it as `fit_video` does [px].
    """
    place = ImageTransform(*video, *window, "crop").placement
    (height, width), (rows, columns) = window, (place.height, place.width)
    scale = np.array(
        [
            [columns / camera.width / width, 0, ((0.5 * columns / camera.width) + place.left) / width],
            [0, rows / camera.height / height, ((0.5 * rows / camera.height) + place.top) / height],
            [0, 0, 1],
        ]
    )
    pose: np.ndarray = np.array(camera.T_world_camera)
    R_camera_world = pose[:3, :3].T
    T_camera_world = np.column_stack([R_camera_world, -R_camera_world @ pose[:3, 3]])
    found: np.ndarray = scale @ np.array(camera.K) @ T_camera_world
    return found.astype(np.float32)


def _objects(text: str) -> list[str]:
    """Split "cup, bottle." into its objects, without the final dot."""
    parts = (part.strip() for part in text.strip().removesuffix(".").split(","))
    return [part for part in parts if part]


def _capital(text: str) -> str:
    """Make the first letter a capital and leave the rest."""
    return text[:1].upper() + text[1:]
