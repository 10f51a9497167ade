"""Find the episodes of a data set, check each, and report what is left out and why.

Opening every video takes time, so what was found is kept in an index: an episode is checked again
when a file of it changes, or an option that the check depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.convert.vace_e_files import EPISODE_PATTERN, EpisodeFiles
from tacit.convert.video import VideoInfo, probe_video, read_frames
from tacit.errors import EpisodeError, ImageError
from tacit.images import decode_image
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.trajectories import TrajectoryError, load_motion, load_objects
from tacit_learning.vace_e.windows import MATCHING_FRAMES, MIN_FRAMES, WHITE_FROM

INDEX_VERSION = 2
WARN_EXCLUDED = 0.5
SHOWN_PER_REASON = 3
SMALLEST_HAND = 0.002  # of the picture; less than this says nothing
SAME_COLOUR = 16  # of 255; lossy codecs differ by less
VISIBLE = 0.8


@dataclass(frozen=True)
class Finding:
    """Something about one episode: the kind, for counting, and the story."""

    where: str
    reason: str
    message: str


@dataclass(frozen=True)
class EpisodeRecord:
    """One usable episode: how long and large its videos are, and what else it has."""

    task: str
    episode: str
    frames: int
    height: int
    width: int
    fps: float
    has_motion: bool
    has_objects: bool
    reference: str | None  # file name

    @property
    def identity(self) -> str:
        """Name that is unique in the data set and the same on every machine."""
        return f"{self.task}/{self.episode}"


@dataclass(frozen=True)
class DiscoveryReport:
    """What was found: excluded episodes, and notes on those that stay."""

    root: Path
    found: int
    valid: int
    excluded: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Excluded episodes per reason, most frequent first."""
        return dict(Counter(finding.reason for finding in self.excluded).most_common())

    @property
    def note_counts(self) -> dict[str, int]:
        """Notes per reason, most frequent first."""
        return dict(Counter(finding.reason for finding in self.notes).most_common())

    def lines(self) -> list[str]:
        """Return the report as plain lines: totals, then each reason with its first cases."""
        lines = [f"{self.root}: {self.valid} of {self.found} episodes usable"]
        if self.valid and len(self.excluded) > WARN_EXCLUDED * self.found:
            lines.append(f"WARNING: more than half of the episodes are excluded ({len(self.excluded)})")
        return lines + _told("excluded", self.excluded) + _told("note", self.notes)


@dataclass
class _Checked:
    """Outcome for one episode."""

    record: EpisodeRecord | None = None
    excluded: Finding | None = None
    notes: list[Finding] = field(default_factory=list)


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
    fresh: dict[str, dict[str, Any]] = {}
    outcomes = []
    for files in find_episode_folders(options):
        key = f"{files.folder.parent.name}/{files.folder.name}"
        mark = _fingerprint(files, options, require_target)
        entry = known.get(key)
        if entry is None or entry["mark"] != mark:
            entry = {"mark": mark, **_dumped(_check(files, options, require_target))}
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


def _check(files: EpisodeFiles, options: DataOptions, require_target: bool) -> _Checked:
    where = f"{files.folder.parent.name}/{files.folder.name}"
    result = _Checked()
    try:
        info = _check_videos(files, options, require_target)
        result.notes += _check_first_mask(files, options, where)
        has_motion = _check_motion(files, options, where, result.notes)
        has_objects = _check_objects(files, options, where, result.notes)
    except _Unusable as problem:
        result.excluded = Finding(where, problem.reason, str(problem))
        return result
    result.record = EpisodeRecord(
        task=files.folder.parent.name,
        episode=files.folder.name,
        frames=info.frames,
        height=info.height,
        width=info.width,
        fps=info.fps,
        has_motion=has_motion,
        has_objects=has_objects,
        reference=_check_reference(files, where, result.notes),
    )
    return result


class _Unusable(EpisodeError):
    """An episode that is left out, with the reason it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _check_videos(files: EpisodeFiles, options: DataOptions, require_target: bool) -> VideoInfo:
    """Return what all videos have in common; the shortest decides the number of frames."""
    wanted = {"mask video": files.mask}
    if require_target:
        wanted["target video"] = files.target
    if not options.control_from_mask:
        wanted["control video"] = files.control
    infos: dict[str, VideoInfo] = {}
    for name, path in wanted.items():
        if not path.is_file():
            raise _Unusable(f"no {name}", f"{path} is missing")
        try:
            infos[name] = probe_video(path)
        except EpisodeError as problem:
            raise _Unusable(f"{name} unreadable", str(problem)) from None
    return _common(infos, files.folder)


def _common(infos: dict[str, VideoInfo], folder: Path) -> VideoInfo:
    sizes = {name: f"{info.width}x{info.height}" for name, info in infos.items()}
    if len(set(sizes.values())) > 1:
        raise _Unusable("sizes differ", f"{folder}: {_listed(sizes)}")
    counts = {name: info.frames for name, info in infos.items()}
    if max(counts.values()) - min(counts.values()) > MATCHING_FRAMES:
        raise _Unusable(
            "lengths differ", f"{folder}: frames {_listed(counts)}; one more or less would be cut"
        )
    frames = min(counts.values())
    if frames < MIN_FRAMES:
        raise _Unusable("too short", f"{folder}: {frames} frames, expected at least {MIN_FRAMES}")
    return next(iter(infos.values()))._replace(frames=frames)


def _check_first_mask(files: EpisodeFiles, options: DataOptions, where: str) -> list[Finding]:
    """Say when the control video still shows what the mask hides: the model would read it there.

    Looked at in the first frame alone; a hand that comes later is not seen here.
    """
    if options.control_from_mask or not files.target.is_file():
        return []
    mask, control, target = (read_frames(path, [0])[0] for path in (files.mask, files.control, files.target))
    hidden = mask.max(axis=-1) >= WHITE_FROM
    if hidden.mean() < SMALLEST_HAND:
        return []
    difference = np.abs(control[hidden].astype(int) - target[hidden]).max(axis=-1)
    share = float((difference < SAME_COLOUR).mean())
    if share < VISIBLE:
        return []
    told = (
        f"{files.control}: {100 * share:.0f} % of what the mask hides is as in the target; mask it, or use "
    )
    return [Finding(where, "hands visible under the mask", told + "control_from_mask")]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _check_motion(files: EpisodeFiles, options: DataOptions, where: str, notes: list[Finding]) -> bool:
    if not files.hands.is_file():
        return _absent("motion missing", f"{files.hands} is missing", options, where, notes)
    try:
        motion = load_motion(files.hands, options.gripper_open_values)
    except TrajectoryError as problem:
        return _absent("motion damaged", str(problem), options, where, notes)
    if motion is None:
        return _absent("motion missing", f"{files.hands}: no finite value in it", options, where, notes)
    notes += [Finding(where, "motion doubtful", text) for text in motion.warnings]
    return True


def _check_objects(files: EpisodeFiles, options: DataOptions, where: str, notes: list[Finding]) -> bool:
    if not files.objects.is_file():
        return _absent("objects missing", f"{files.objects} is missing", options, where, notes)
    try:
        objects = load_objects(files.objects, options.max_objects)
    except TrajectoryError as problem:
        return _absent("objects damaged", str(problem), options, where, notes)
    if objects is None:
        return _absent("objects missing", f"{files.objects}: no finite value in it", options, where, notes)
    notes += [Finding(where, "objects doubtful", text) for text in objects.warnings]
    return True


def _absent(reason: str, message: str, options: DataOptions, where: str, notes: list[Finding]) -> bool:
    """Note that a modality is missing; without `fallback_to_video_only` the episode is left out."""
    if not options.fallback_to_video_only:
        raise _Unusable(reason, f"{message} (fallback_to_video_only is false)")
    notes.append(Finding(where, reason, message))
    return False


def _check_reference(files: EpisodeFiles, where: str, notes: list[Finding]) -> str | None:
    """Return the first image of the end effector that can be decoded."""
    for path in files.references:
        try:
            decode_image(path.read_bytes())
        except ImageError as problem:
            notes.append(Finding(where, "reference damaged", f"{path}: {problem}"))
            continue
        return path.name
    notes.append(Finding(where, "reference missing", f"{files.folder}: no end_effector_* image"))
    return None


def _summed(
    root: Path, outcomes: Sequence[_Checked], strict: bool
) -> tuple[list[EpisodeRecord], DiscoveryReport]:
    records = [outcome.record for outcome in outcomes if outcome.record is not None]
    excluded = tuple(outcome.excluded for outcome in outcomes if outcome.excluded is not None)
    notes = tuple(note for outcome in outcomes for note in outcome.notes)
    report = DiscoveryReport(root, len(outcomes), len(records), excluded, notes)
    if not records or (strict and excluded):
        why = "no usable episode" if not records else f"strict: {len(excluded)} episodes cannot be used"
        raise EpisodeError("\n".join([f"{root}: {why}", *_told("excluded", excluded)]))
    return records, report


def _told(kind: str, findings: Sequence[Finding]) -> list[str]:
    lines = []
    for reason, count in Counter(finding.reason for finding in findings).most_common():
        lines.append(f"{kind}: {reason}: {count}")
        cases = [finding for finding in findings if finding.reason == reason]
        lines += [f"  {case.where}: {case.message}" for case in cases[:SHOWN_PER_REASON]]
        if count > SHOWN_PER_REASON:
            lines.append(f"  and {count - SHOWN_PER_REASON} more")
    return lines


# -- the index -------------------------------------------------------------------------------------


def _fingerprint(files: EpisodeFiles, options: DataOptions, require_target: bool) -> str:
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


def _load_index(index: Path | None) -> dict[str, dict[str, Any]]:
    """Read the index; a damaged or older one is as good as none."""
    if index is None or not index.is_file():
        return {}
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return {}
    matches = isinstance(content, dict) and content.get("version") == INDEX_VERSION
    return content["episodes"] if matches else {}


def _save_index(index: Path, episodes: dict[str, dict[str, Any]]) -> None:
    index.parent.mkdir(parents=True, exist_ok=True)
    part = index.with_name(f"{index.name}.{os.getpid()}.part")
    part.write_text(json.dumps({"version": INDEX_VERSION, "episodes": episodes}), encoding="utf-8")
    part.replace(index)


def _dumped(outcome: _Checked) -> dict[str, Any]:
    return asdict(outcome)


def _restored(entry: dict[str, Any]) -> _Checked:
    record, excluded = entry["record"], entry["excluded"]
    return _Checked(
        None if record is None else EpisodeRecord(**record),
        None if excluded is None else Finding(**excluded),
        [Finding(**note) for note in entry["notes"]],
    )
