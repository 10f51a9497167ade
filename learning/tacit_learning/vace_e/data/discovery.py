"""Find the episodes of a data set, check each, and report what is left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tacit.errors import EpisodeError
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.episode_check import check_episode
from tacit_learning.vace_e.data.folders import find_episode_folders
from tacit_learning.vace_e.data.index import Entry, dumped, fingerprint, load_index, restored, save_index
from tacit_learning.vace_e.data.records import DiscoveryReport, EpisodeRecord, Outcome, told


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
    known = load_index(index)
    fresh: dict[str, Entry] = {}
    outcomes = []
    for files in find_episode_folders(options):
        key = f"{files.folder.parent.name}/{files.folder.name}"
        mark = fingerprint(files, options, require_target)
        entry = known.get(key)
        if entry is None or entry["mark"] != mark:
            entry = {"mark": mark, **dumped(check_episode(files, options, require_target))}
        fresh[key] = entry
        outcomes.append(restored(entry))
    if index is not None and fresh != known:
        save_index(index, fresh)
    return _summed(root, outcomes, options.strict)


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
