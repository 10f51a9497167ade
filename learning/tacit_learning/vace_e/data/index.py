"""The index of a data set: what the check of each episode gave, kept between runs.

Opening every video takes time, so an episode is checked again only when a file of it changes, or an
option that the check depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tacit.convert.vace_e_files import EpisodeFiles
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.records import EpisodeRecord, Finding, Outcome

INDEX_VERSION = 3

Entry = dict[str, Any]
"""JSON values of one episode: the mark of what was checked, and the outcome."""


def fingerprint(files: EpisodeFiles, options: DataOptions, require_target: bool) -> str:
    """Hash of everything the check depends on."""
    checked = (
        require_target,
        options.control_from_mask,
        options.fallback_to_video_only,
        options.max_objects,
        options.gripper_open_values,
    )
    paths = (files.target, files.control, files.mask, files.hands, files.objects, *files.references)
    parts = [str(INDEX_VERSION), repr(checked), *_stamps(paths)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _stamps(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        if path.is_file():
            facts = path.stat()
            yield f"{path} {facts.st_size} {facts.st_mtime_ns}"


def load_index(index: Path | None) -> dict[str, Entry]:
    """Read the index; a damaged or older one is as good as none."""
    if index is None or not index.is_file():
        return {}
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return {}
    matches = isinstance(content, dict) and content.get("version") == INDEX_VERSION
    return content["episodes"] if matches else {}


def save_index(index: Path, episodes: dict[str, Entry]) -> None:
    """Write the index, whole or not at all."""
    index.parent.mkdir(parents=True, exist_ok=True)
    part = index.with_name(f"{index.name}.{os.getpid()}.part")
    part.write_text(json.dumps({"version": INDEX_VERSION, "episodes": episodes}), encoding="utf-8")
    part.replace(index)


def dumped(outcome: Outcome) -> Entry:
    """Return an outcome as JSON values."""
    return asdict(outcome)


def restored(entry: Entry) -> Outcome:
    """Return the outcome of an entry."""
    record, excluded = entry["record"], entry["excluded"]
    return Outcome(
        None if record is None else EpisodeRecord(**record),
        None if excluded is None else Finding(**excluded),
        [Finding(**note) for note in entry["notes"]],
    )
