"""The rules that one episode must keep, each with the reason under which a breach is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tacit.convert.vace_e_files import EpisodeFiles
from tacit.convert.video import VideoInfo, probe_video, read_frames
from tacit.errors import EpisodeError, ImageError
from tacit.images import decode_image
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.records import EpisodeRecord, Finding, Outcome
from tacit_learning.vace_e.data.trajectories import TrajectoryError, load_motion, load_objects
from tacit_learning.vace_e.data.windows import MATCHING_FRAMES, MIN_FRAMES, WHITE_FROM

SMALLEST_HAND = 0.002  # of the picture; less than this says nothing
SAME_COLOUR = 16  # of 255; lossy codecs differ by less
VISIBLE = 0.8


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
