"""`dataset.json`: a small index of a task's episodes, a cache that is rebuilt by looking at the files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tacit.episode import schema
from tacit.episode.files import find_episodes
from tacit.episode.reader import EpisodeReader
from tacit.errors import TacitError

INDEX_NAME = "dataset.json"


def dataset_index(folder: str | Path) -> dict[str, object]:
    """Return the index of a folder of episodes, and write it as `dataset.json`.

    Episodes whose size and time of change are those of the cached entry are not opened again; files
    that cannot be read are listed with their error.

    Args:
        folder: `<root>/<task>/`, or any folder with episodes below.

    Returns:
        `schema`, `schema_version`, `fps` and `features` (of the first readable episode), totals, and
        `episodes`: one entry per file with path, ticks, task, success and identifiers.

    Raises:
        EpisodeError: There is no such folder.
    """
    folder = Path(folder)
    cached = _cached_entries(folder / INDEX_NAME)
    entries = []
    for path in find_episodes(folder):
        name = path.relative_to(folder).as_posix()
        status = path.stat()
        key = {"path": name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        old = cached.get(name, {})
        known = {k: old.get(k) for k in key} == key
        entries.append(old if known else key | _entry(path))
    readable = [entry for entry in entries if "error" not in entry]
    index = {
        "schema": schema.SCHEMA,
        "schema_version": schema.SCHEMA_VERSION,
        "fps": readable[0]["fps"] if readable else None,
        "features": readable[0]["features"] if readable else {},
        "total_episodes": len(readable),
        "total_ticks": sum(int(str(entry["ticks"])) for entry in readable),
        "episodes": entries,
    }
    _write(folder / INDEX_NAME, index)
    return index


def _cached_entries(path: Path) -> dict[str, dict]:
    """Return the entries of an older index by path; a damaged cache is an empty one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {entry["path"]: entry for entry in data["episodes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _entry(path: Path) -> dict[str, object]:
    try:
        with EpisodeReader(path) as reader:
            return {
                "ticks": reader.num_ticks,
                "fps": reader.fps,
                "task": reader.task,
                "instruction": reader.instruction,
                "success": reader.success,
                "state": reader.state,
                "uuid": reader.attribute("episode_uuid"),
                "content_sha256": reader.attribute("content_sha256"),
                "calibration_id": reader.attribute("calibration_id"),
                "features": _features(reader),
            }
    except TacitError as problem:
        return {"error": str(problem)}


def _features(reader: EpisodeReader) -> dict[str, object]:
    """Name, shape and type of what a policy can be fed, in the words of LeRobot."""
    width = reader.qpos.shape[1]
    names = list(reader.state_names)
    features: dict[str, object] = {
        "observation.state": {"dtype": "float32", "shape": [width], "names": names},
        "action": {"dtype": "float32", "shape": [width], "names": names},
    }
    for name in (*reader.cameras, *reader.tactile):
        shape = list(reader.image(name, 0).shape if name in reader.cameras else reader.touch(name, 0).shape)
        features[f"observation.images.{name}"] = {"dtype": "image", "shape": shape}
    return features


def _write(path: Path, index: dict[str, object]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(index, indent=1), encoding="utf-8")
    os.replace(temporary, path)
