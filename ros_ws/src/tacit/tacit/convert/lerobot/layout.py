"""Names, versions and places of a LeRobot data set, and the small texts in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tacit.config.documents import MAX_TABLE_BYTES, inside, json_mapping, read_text
from tacit.errors import EpisodeError

Version = Literal["v3.0", "v2.1"]
READABLE = ("v2.0", "v2.1", "v3.0")
"""v2.0 is v2.1 without statistics of single episodes, which are not read."""

INFO = "meta/info.json"
STATS = "meta/stats.json"
MODALITY = "meta/modality.json"
TASKS = {"v3.0": "meta/tasks.parquet", "v2.1": "meta/tasks.jsonl"}
EPISODES_V2 = "meta/episodes.jsonl"
EPISODE_STATS_V2 = "meta/episodes_stats.jsonl"
CHUNK_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_V3 = "meta/episodes/" + CHUNK_FILE + ".parquet"
DATA_PATH = {
    "v3.0": "data/" + CHUNK_FILE + ".parquet",
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
}
VIDEO_PATH = {
    "v3.0": "videos/{video_key}/" + CHUNK_FILE + ".mp4",
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}
CHUNK_SIZE = 1000
DATA_FILE_MB, VIDEO_FILE_MB = 100, 200

STATE, ACTION = "observation.state", "action"
IMAGES = "observation.images."
STAMP_NS = "observation.stamp_ns"
VELOCITY, EFFORT = "observation.velocity", "observation.effort"
SENSOR_POSE, CAMERA_POSE, EE_POSE = (
    "observation.sensor_pose.",
    "observation.camera_pose.",
    "observation.ee_pose.",
)
SENSOR_BOX = "observation.sensor_bbox."
EXTRA = "observation.extra."
TAXELS = "observation.tactile_arrays."
"""Readings (R, C, K) of touch that is no picture."""
GEOMETRY = (SENSOR_POSE, CAMERA_POSE, EE_POSE, SENSOR_BOX)
"""What follows from joints and calibration: written for others, computed anew on the way back."""

FOREIGN = ("observation.", "next.", "action.", "annotation.")
"""How names of streams begin that are keys of a data set of others, kept whole."""

COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every data set has."""

_FIELD = re.compile(r"\{[a-z_]+(:0?\d+d)?\}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_key(key: str, where: str) -> str:
    """Return the key of a feature, which becomes a folder of its videos.

    Raises:
        EpisodeError: It has parts of a path.
    """
    if not _KEY.fullmatch(key) or ".." in key:
        raise EpisodeError(
            f"{where}: features: the name {key[:100]!r} has parts of a path; expected letters, digits, '.', "
            "'_' and '-', as in observation.images.top"
        )
    return key


def picture_key(stream: str) -> str:
    """Return the key of a stream of pictures; one that came under another key keeps it."""
    return stream if stream.startswith(FOREIGN) else IMAGES + stream


def picture_stream(key: str) -> str:
    """Return the stream of a key of pictures; undone by `picture_key`."""
    return key.removeprefix(IMAGES)


def extra_key(stream: str) -> str:
    """Return the key of a further stream of numbers; one that came under another key keeps it."""
    return stream if stream.startswith(FOREIGN) else EXTRA + stream


def extra_stream(key: str) -> str:
    """Return the stream of a key of further numbers or of taxels; of numbers undone by `extra_key`."""
    return key.removeprefix(TAXELS if key.startswith(TAXELS) else EXTRA)


def place_of(folder: Path, template: str, values: Mapping[str, object]) -> Path:
    """Return the path that a template of `info.json` gives; it never leads out of the folder.

    Raises:
        EpisodeError: An unknown field in the template, or a way out.
    """
    where = f"{folder / INFO}: path {template[:100]!r}"
    if set("{}") & set(_FIELD.sub("", template)):  # a field may not look into what it is given
        raise EpisodeError(f"{where}: expected fields like {{episode_index:06d}}")
    try:
        name = template.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError) as problem:
        raise EpisodeError(
            f"{where}: cannot be filled in ({problem}); it takes {', '.join(values)}"
        ) from None
    return inside(folder, name, where, EpisodeError)


def read_lines(path: Path) -> list[dict[str, object]]:
    """Return the objects of a JSON-lines file.

    Raises:
        EpisodeError: Missing, too large, or a line that is no object.
    """
    text = read_text(path, MAX_TABLE_BYTES, "JSON lines", EpisodeError)
    lines = enumerate(text.splitlines(), 1)
    return [
        json_mapping(line, f"{path}: line {number}", EpisodeError) for number, line in lines if line.strip()
    ]


def write_lines(path: Path, items: Iterable[Mapping[str, object]]) -> None:
    """Write objects as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def write_json(path: Path, data: object) -> None:
    """Write one JSON text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=4, ensure_ascii=False), encoding="utf-8")


def names_of(names: object, count: int) -> list[str]:
    """Return the names of the elements of a vector: a list, lists by group, or none (then q0, q1, ...)."""
    if isinstance(names, dict):
        groups = list(names.values())
        flat = [str(n) for group in groups for n in (group if isinstance(group, list) else [group])]
    else:
        flat = [str(name) for name in names] if isinstance(names, list) else []
    return flat if len(flat) == count else [f"q{index}" for index in range(count)]


def modality(state: Mapping[str, Sequence[int]], cameras: Iterable[str]) -> dict[str, object]:
    """Return what GR00T reads of a data set: where each part stands in the vectors.

    Args:
        state: (start, end) of each part, the same in state and action.
        cameras: Names of the picture streams.
    """
    spans = {name: {"start": start, "end": end} for name, (start, end) in state.items()}
    return {
        "state": spans,
        "action": spans,
        "video": {name: {"original_key": picture_key(name)} for name in cameras},
        "annotation": {"human.task_description": {"original_key": "task_index"}},
    }
