"""Find the episodes of a data set, `<root>/<task>/episode_<N>/`; check each; say what is left out and why.

Opening every video takes time, so what a check gave is kept in an index file: an episode is checked
again only when a file of it changes, or an option that the check depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tacit.config import load_json
from tacit.convert.vace_e_files import EPISODE_PATTERN, EpisodeFiles
from tacit.convert.video import Clock
from tacit.errors import ConfigError, EpisodeError
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.episode_check import (
    DiscoveryReport,
    EpisodeRecord,
    Finding,
    Outcome,
    check_episode,
    told,
)

INDEX_VERSION = 4

Entry = dict[str, Any]
"""JSON values of one episode: the mark of what was checked, and the outcome."""


def discover(
    options: DataOptions, *, require_target: bool = True, index: Path | None = None
) -> tuple[list[EpisodeRecord], DiscoveryReport]:
    """Find and check the episodes below `dataset_base_path`.

    Args:
        options: Folders, limits, and whether an episode may go on as video alone.
        require_target: Training needs the target video; sampling does not.
        index: File that keeps the outcome between runs.

    Returns:
        Records in the order of task folder and episode number, and the report.

    Raises:
        EpisodeError: No episode, none usable, or one excluded while `strict`.
        ConfigError: Gripper codes whose meaning must be told.
    """
    root = Path(options.dataset_base_path)
    known = _load_index(index)
    fresh: dict[str, Entry] = {}
    outcomes = []
    for files in find_episode_folders(options):
        key = f"{files.folder.parent.name}/{files.folder.name}"
        mark = _fingerprint(files, options, require_target)
        entry = known.get(key)
        if entry is None or entry["mark"] != mark:
            entry = {"mark": mark, **asdict(check_episode(files, options, require_target))}
        fresh[key] = entry
        outcomes.append(_restored(entry))
    if index is not None and fresh != known:
        _save_index(index, fresh)
    return _summed(root, outcomes, options.strict)


def find_episode_folders(options: DataOptions) -> list[EpisodeFiles]:
    """Return the episodes of all task folders: a folder with at least one `episode_<N>` is a task.

    Raises:
        EpisodeError: No such folder, no episode in it, or one number twice in a task.
    """
    root = Path(options.dataset_base_path)
    if not root.is_dir():
        raise EpisodeError(f"{root}: no such folder; dataset_base_path names the folder of the task folders")
    found = [files for task in sorted(_folders(root)) for files in _episodes_of(task, options)]
    if not found:
        inside = any(EPISODE_PATTERN.match(folder.name) for folder in _folders(root))
        hint = "it is a task folder itself: give its parent" if inside else "expected <task>/episode_<N>/"
        raise EpisodeError(f"{root}: no episode in it; {hint}")
    return found


def episode_files(options: DataOptions, task: str, episode: str) -> EpisodeFiles:
    """Return where the files of one episode are; HDF5 files may lie below `robot_data_path`.

    There they lie in a folder of the episode, or flat in that of the task.
    """
    folder = Path(options.dataset_base_path) / task / episode
    if options.robot_data_path is None:
        return EpisodeFiles(folder)
    robot = Path(options.robot_data_path) / task
    return EpisodeFiles(folder, robot / episode if (robot / episode).is_dir() else robot)


def _summed(
    root: Path, outcomes: Sequence[Outcome], strict: bool
) -> tuple[list[EpisodeRecord], DiscoveryReport]:
    records = [outcome.record for outcome in outcomes if outcome.record is not None]
    excluded = tuple(outcome.excluded for outcome in outcomes if outcome.excluded is not None)
    notes = tuple(note for outcome in outcomes for note in outcome.notes)
    report = DiscoveryReport(root, len(outcomes), len(records), excluded, notes)
    if not records or (strict and excluded):
        why = "no usable episode" if not records else f"strict: {len(excluded)} episodes cannot be used"
        raise EpisodeError("\n".join([f"{root}: {why}", *told("excluded", excluded)]))
    return records, report


def _episodes_of(task: Path, options: DataOptions) -> list[EpisodeFiles]:
    names = [folder.name for folder in _folders(task) if EPISODE_PATTERN.match(folder.name)]
    episodes = [episode_files(options, task.name, name) for name in names]
    episodes.sort(key=lambda files: (files.number, files.folder.name))
    for first, second in zip(episodes, episodes[1:], strict=False):
        if first.number == second.number:
            both = f"{first.folder.name} and {second.folder.name}"
            raise EpisodeError(f"{task}: {both} have one number; rename one")
    return episodes


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _fingerprint(files: EpisodeFiles, options: DataOptions, require_target: bool) -> str:
    """Hash of everything the check depends on."""
    checked = (
        require_target,
        options.control_from_mask,
        options.fps,
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


def _load_index(index: Path | None) -> dict[str, Entry]:
    """Read the index; a damaged or older one is as good as none."""
    if index is None or not index.is_file():
        return {}
    try:
        content = load_json(index)
    except ConfigError:
        return {}
    matches = content.get("version") == INDEX_VERSION
    return content["episodes"] if matches else {}


def _save_index(index: Path, episodes: dict[str, Entry]) -> None:
    """Write the index, whole or not at all."""
    index.parent.mkdir(parents=True, exist_ok=True)
    part = index.with_name(f"{index.name}.{os.getpid()}.part")
    part.write_text(json.dumps({"version": INDEX_VERSION, "episodes": episodes}), encoding="utf-8")
    part.replace(index)


def _restored(entry: Entry) -> Outcome:
    """Return the outcome of an entry."""
    record, excluded = entry["record"], entry["excluded"]
    if record is not None:
        clocks = {name: Clock(each[0], each[1], tuple(each[2])) for name, each in record["clocks"].items()}
        record = record | {"clocks": clocks}
    return Outcome(
        None if record is None else EpisodeRecord(**record),
        None if excluded is None else Finding(**excluded),
        [Finding(**note) for note in entry["notes"]],
    )
