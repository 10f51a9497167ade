"""The rules that one episode must keep, and the report of which episodes break which.

Every breach is counted under a short reason; a usable episode becomes an `EpisodeRecord`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tacit.convert.vace_e_files import EpisodeFiles
from tacit.convert.video import VideoInfo, probe_video, read_frames
from tacit.errors import EpisodeError, ImageError
from tacit.images import load_image
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.trajectories import (
    Motion,
    Objects,
    TrajectoryError,
    load_motion,
    load_objects,
)
from tacit_learning.vace_e.data.windows import MATCHING_FRAMES, MIN_FRAMES, WHITE_FROM

SMALLEST_HAND = 0.002  # of the picture; less than this says nothing
SAME_COLOUR = 16  # of 255; lossy codecs differ by less
VISIBLE = 0.8  # share of what the mask hides that looks as in the target
WARN_EXCLUDED = 0.5  # of all episodes
SHOWN_PER_REASON = 3


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
        return lines + told("excluded", self.excluded) + told("note", self.notes)


@dataclass
class Outcome:
    """What the check of one episode gave: a record, or why it is left out."""

    record: EpisodeRecord | None = None
    excluded: Finding | None = None
    notes: list[Finding] = field(default_factory=list)


def told(kind: str, findings: Sequence[Finding]) -> list[str]:
    """Return one line per reason with its count, and its first cases."""
    lines = []
    for reason, count in Counter(finding.reason for finding in findings).most_common():
        lines.append(f"{kind}: {reason}: {count}")
        cases = [finding for finding in findings if finding.reason == reason]
        lines += [f"  {case.where}: {case.message}" for case in cases[:SHOWN_PER_REASON]]
        if count > SHOWN_PER_REASON:
            lines.append(f"  and {count - SHOWN_PER_REASON} more")
    return lines


def check_episode(files: EpisodeFiles, options: DataOptions, require_target: bool) -> Outcome:
    """Check the files of one episode.

    Raises:
        ConfigError: Gripper codes whose meaning must be told.
    """
    where = f"{files.folder.parent.name}/{files.folder.name}"
    result = Outcome()
    try:
        info = _check_videos(files, options, require_target)
        result.notes += _check_first_mask(files, options, where)
        has_motion = _check_trajectories("motion", files, options, where, result.notes)
        has_objects = _check_trajectories("objects", files, options, where, result.notes)
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


def _check_trajectories(
    kind: Literal["motion", "objects"],
    files: EpisodeFiles,
    options: DataOptions,
    where: str,
    notes: list[Finding],
) -> bool:
    """Return whether an episode has this kind of trajectory; note what is missing, damaged or doubtful."""
    path = files.hands if kind == "motion" else files.objects
    if not path.is_file():
        return _absent(f"{kind} missing", f"{path} is missing", options, where, notes)
    found: Motion | Objects | None
    try:
        if kind == "motion":
            found = load_motion(path, options.gripper_open_values)
        else:
            found = load_objects(path, options.max_objects)
    except TrajectoryError as problem:
        return _absent(f"{kind} damaged", str(problem), options, where, notes)
    if found is None:
        return _absent(f"{kind} missing", f"{path}: no finite value in it", options, where, notes)
    notes += [Finding(where, f"{kind} doubtful", text) for text in found.warnings]
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
            load_image(path)
        except ImageError as problem:
            notes.append(Finding(where, "reference damaged", str(problem)))
            continue
        return path.name
    notes.append(Finding(where, "reference missing", f"{files.folder}: no end_effector_* image"))
    return None
