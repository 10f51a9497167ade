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
from tacit.convert.video import Clock, VideoInfo, probe_video, read_clock, read_frames
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
from tacit_learning.vace_e.data.windows import MATCHING_FRAMES, MIN_FRAMES, WHITE_FROM, model_times

SMALLEST_HAND = 0.002  # of the picture; less than this says nothing
SAME_RATE = 0.02  # share by which the rates of two videos may differ that count as one
SLOW = 0.75  # of the model's rate; below it frames are shown again and again
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
    """One usable episode: how long and large its videos are, and what else it has.

    `frames` are those of its main video (the target, where it is needed); `clocks` say of each video when its
    frames are shown.
    """

    task: str
    episode: str
    frames: int
    height: int
    width: int
    fps: float
    has_motion: bool
    has_objects: bool
    reference: str | None  # file name
    clocks: dict[str, Clock]

    @property
    def clock(self) -> Clock:
        """The clock of the main video."""
        return next(iter(self.clocks.values()))

    def times(self, fps: float | None) -> np.ndarray:
        """Return the moments that the model may see, at its rate [s]."""
        return model_times(self.clock.times, min(each.times[-1] for each in self.clocks.values()), fps)

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
        info, clocks = _check_videos(files, options, require_target)
        result.notes += _doubtful_clocks(clocks, options, where)
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
        clocks=clocks,
    )
    return result


class _Unusable(EpisodeError):
    """An episode that is left out, with the reason it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _check_videos(
    files: EpisodeFiles, options: DataOptions, require_target: bool
) -> tuple[VideoInfo, dict[str, Clock]]:
    """Return what the videos have in common, and the clock of each, the main video first."""
    wanted = {"target": files.target} if require_target else {}
    if not options.control_from_mask:
        wanted["control"] = files.control
    wanted["mask"] = files.mask
    infos: dict[str, VideoInfo] = {}
    clocks: dict[str, Clock] = {}
    for name, path in wanted.items():
        if not path.is_file():
            raise _Unusable(f"no {name} video", f"{path} is missing")
        try:
            infos[name], clock = probe_video(path), read_clock(path)
        except EpisodeError as problem:
            raise _Unusable(f"{name} video unreadable", str(problem)) from None
        count = infos[name].frames
        clocks[name] = Clock(count, clock.rate, clock.stamps[:count])
    sizes = {name: f"{info.width}x{info.height}" for name, info in infos.items()}
    if len(set(sizes.values())) > 1:
        raise _Unusable("sizes differ", f"{files.folder}: {_listed(sizes)}")
    frames = _common_frames(clocks, options.fps, files.folder)
    return next(iter(infos.values()))._replace(frames=frames), clocks


def _common_frames(clocks: dict[str, Clock], fps: float | None, folder: Path) -> int:
    """Return the frames of the main video that all videos span; their lengths are compared in time."""
    lengths = {name: clock.duration for name, clock in clocks.items()}
    slowest = max(1 / clock.rate for clock in clocks.values())
    if max(lengths.values()) - min(lengths.values()) > (MATCHING_FRAMES + SAME_RATE) * slowest:
        told = {
            name: f"{c.frames} frames at {c.rate:.4g} Hz ({c.duration:.2f} s)" for name, c in clocks.items()
        }
        raise _Unusable("lengths differ", f"{folder}: {_listed(told)}; they show different spans of time")
    main = next(iter(clocks.values())).times
    end = min(clock.times[-1] for clock in clocks.values())
    seen = len(model_times(main, end, fps))
    if seen < MIN_FRAMES:
        rate = "" if fps is None else f" at {fps:g} Hz (fps)"
        raise _Unusable("too short", f"{folder}: {seen} frames{rate}, expected at least {MIN_FRAMES}")
    return len(model_times(main, end, None))


def _doubtful_clocks(clocks: dict[str, Clock], options: DataOptions, where: str) -> list[Finding]:
    """Note videos whose time is not that of their frame numbers, or that are slower than the model."""
    rates = {name: clock.rate for name, clock in clocks.items()}
    told = _listed({name: f"{rate:.4g} Hz" for name, rate in rates.items()})
    found = []
    if uneven := [name for name, clock in clocks.items() if clock.stamps]:
        message = f"{', '.join(uneven)} video; frames are chosen by their stamps"
        found.append(Finding(where, "uneven frame rate", message))
    if max(rates.values()) > (1 + SAME_RATE) * min(rates.values()):
        found.append(Finding(where, "rates differ", f"{told}; frames are chosen by their time"))
    if options.fps is not None and min(rates.values()) < SLOW * options.fps:
        message = f"{told}, the model {options.fps:g} Hz (fps): frames are shown several times"
        found.append(Finding(where, "slower than the model", message))
    return found


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
