"""The prompt of an episode, made from the metadata of its task folder.

The folder's exact name is the key; names are never parsed, they hold spaces and several date forms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from tacit.config import load_json, parse


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


def _objects(text: str) -> list[str]:
    """Split "cup, bottle." into its objects, without the final dot."""
    parts = (part.strip() for part in text.strip().removesuffix(".").split(","))
    return [part for part in parts if part]


def _capital(text: str) -> str:
    """Make the first letter a capital and leave the rest."""
    return text[:1].upper() + text[1:]
