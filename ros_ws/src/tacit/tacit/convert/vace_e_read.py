"""Folders of VACE-E as our episodes: a video, and the tracks of hands and objects; out goes `vace_e`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tacit.config import load_json
from tacit.convert.draft import Draft, draft_rig, motion_limits, plain_name
from tacit.convert.incoming import Incoming, provenance, write_incoming
from tacit.convert.job import Converted, Import, Track
from tacit.convert.vace_e_files import EPISODE_PATTERN, METADATA_NAME, EpisodeFiles
from tacit.convert.video import VideoInfo, iterate_frames, probe_video, read_clock
from tacit.episode.secure import open_episode
from tacit.errors import EpisodeError
from tacit.images import encode_jpeg
from tacit.rig import Rig, load_rig

METADATA_NAMES = (METADATA_NAME, "ph2d_metadata.json")
CAMERA = "video"
POSE = ("x", "y", "z", "r0", "r1", "r2", "r3", "r4", "r5")
"""A position [m] and the first two columns of a rotation."""
QUALITY = 95
FIRST_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Reading(Import):
    """Read folders of VACE-E: <task>/episode_<n>/ with a video and trajectories of hands.

    Example: tacit convert vace_data data --from vace_e
    """

    instruction: str = ""
    """What a person would say to have the task done; made from the metadata, if left out."""


class _Episode(NamedTuple):
    """What one folder holds beside the frames themselves."""

    files: EpisodeFiles
    video: VideoInfo
    hands: dict[str, np.ndarray]  # (F, 1) by element
    objects: dict[str, np.ndarray]  # (F, 9) by name
    task: Mapping[str, object]


def recognises(source: Path) -> bool:
    """Whether a path is a folder with such an episode in it."""
    return source.is_dir() and next(_folders(source), None) is not None


def _folders(source: Path) -> Iterator[EpisodeFiles]:
    places = [source, *(path for path in sorted(source.rglob("episode_*")) if path.is_dir())]
    for files in (EpisodeFiles(path) for path in places if EPISODE_PATTERN.match(path.name)):
        if files.target.is_file() and files.hands.is_file():
            yield files


def read(job: Reading, place: Path, track: Track) -> Converted:
    """Write every folder at the source as one episode below `place`."""
    episodes = _look_at_all(job.source)
    rig = load_rig(job.rig) if job.rig else _draft(episodes, job.source)
    for index, found in enumerate(track(episodes, "episodes")):
        write_incoming(place, rig, _incoming(found, rig, job, index))
    notes = ["left out, for tacit convert vace_e makes them anew: masks, and pictures of the end effector"]
    notes.append("no stamps in the folders: counted from the rate of the video, and called nominal")
    return Converted(len(episodes), sum(found.video.frames for found in episodes), tuple(notes))


def draft(source: Path) -> Rig:
    """Return a rig for the folders at a path."""
    return _draft(_look_at_all(source), source)


def _look_at_all(source: Path) -> list[_Episode]:
    """Read the tracks of every folder.

    Raises:
        EpisodeError: There is none, a damaged one, or several kinds.
    """
    folders = sorted(_folders(source), key=lambda files: (str(files.folder.parent), files.number))
    if not folders:
        raise EpisodeError(f"{source}: no episode_<n> with a video and hand trajectories in it")
    tasks = _tasks(source)
    episodes = [_look(files, tasks.get(files.folder.parent.name, {})) for files in folders]
    first = episodes[0]
    for found in episodes:
        kind = (found.video[1:], list(found.hands))
        if kind != (first.video[1:], list(first.hands)):
            raise EpisodeError(
                f"{found.files.folder}: another size or rate of the video, or other hands, than "
                f"{first.files.folder}; convert the two kinds one by one"
            )
    return episodes


def _tasks(source: Path) -> Mapping[str, Mapping[str, object]]:
    """Return what the metadata say of each task; they may lie above the folder that is converted."""
    for folder in (source, source.parent, source.parent.parent):
        for name in METADATA_NAMES:
            if (folder / name).is_file():
                tasks = load_json(folder / name, EpisodeError).get("per_task_attributes", {})
                return {n: told for n, told in tasks.items() if isinstance(told, dict)}
    return {}


def _look(files: EpisodeFiles, task: Mapping[str, object]) -> _Episode:
    video = probe_video(files.target)
    hands: dict[str, np.ndarray] = {}
    with open_episode(files.hands) as file:
        for side in ("left", "right"):
            if f"{side}_wrist" not in file:
                continue
            pose = _pose(file, f"{side}_wrist", video.frames)
            hands |= {f"{side}_{name}": pose[:, i : i + 1] for i, name in enumerate(POSE)}
            if f"{side}_hand_states" in file:
                opened = _rows(file, f"{side}_hand_states", video.frames)
                hands[f"{side}_open"] = opened.reshape(video.frames, -1)[:, :1]
    if not hands:
        raise EpisodeError(f"{files.hands}: neither left_wrist nor right_wrist in it")
    objects: dict[str, np.ndarray] = {}
    if files.objects.is_file():
        with open_episode(files.objects) as file:
            objects = {plain_name(name, "object"): _pose(file, name, video.frames) for name in file}
    return _Episode(files, video, hands, objects, task)


def _pose(file: h5py.File, group: str, num_frames: int) -> np.ndarray:
    """Return position and rotation (F, 9) of a group."""
    parts = [_rows(file, f"{group}/{name}", num_frames) for name in ("positions", "rotations_6d")]
    pose = np.concatenate([part.reshape(num_frames, -1) for part in parts], axis=1)
    if pose.shape[1] != len(POSE):
        raise EpisodeError(f"{file.filename}: /{group}: {pose.shape[1]} numbers, expected 3 and 6")
    return pose


def _rows(file: h5py.File, place: str, num_frames: int) -> np.ndarray:
    if not isinstance(file.get(place), h5py.Dataset) or len(file[place]) != num_frames:
        found = len(file[place]) if isinstance(file.get(place), h5py.Dataset) else "no"
        raise EpisodeError(
            f"{file.filename}: /{place}: {found} rows for {num_frames} frames of the video; they belong to "
            "different recordings, or one is cut off"
        )
    return np.asarray(file[place][:], np.float64)


def _draft(episodes: Sequence[_Episode], source: Path) -> Rig:
    first = episodes[0]
    tracks = [np.concatenate(list(found.hands.values()), axis=1) for found in episodes]
    finite = [track for track in tracks if np.isfinite(track).all()] or [np.zeros((1, len(first.hands)))]
    fps = first.video.fps
    objects = {name: [f"{name}_{part}" for part in POSE] for found in episodes for name in found.objects}
    name = str(first.task.get("embodiment_type", "")) or source.stem
    size, limits = (first.video.height, first.video.width), motion_limits(finite, fps)
    name, names = plain_name(name, "vace_e"), list(first.hands)
    return draft_rig(Draft(name, names, fps, *limits, pictures={CAMERA: size}, extras=objects))


def _incoming(found: _Episode, rig: Rig, job: Reading, index: int) -> Incoming:
    """Bring one folder to the words of the rig; nobody commanded what a camera saw of a hand."""
    task = found.task
    words = [str(task[key]) for key in ("task_type", "objects") if task.get(key)]
    body = str(task.get("embodiment_type", ""))
    times = read_clock(found.files.target).times[: found.video.frames]
    camera = CAMERA if CAMERA in rig.cameras else next(iter(rig.cameras))
    return Incoming(
        source=str(found.files.folder),
        stamps_ns=FIRST_NS + np.round(times * 1e9).astype(np.int64),
        stamps="nominal",
        qpos=np.concatenate(list(found.hands.values()), axis=1),
        action=None,
        task=job.task or plain_name(found.files.folder.parent.name, "task"),
        pictures={camera: _frames(found)},
        extras=found.objects,
        instruction=job.instruction or " ".join(words),
        success=job.success(None),
        metadata={
            "embodiment_type": "human" if "human" in body else "robot",
            "rotation_6d": "columns",
            "task_json": json.dumps(dict(task)),
            **provenance("vace_e", "", f"{found.files.folder.parent.name}/{found.files.folder.name}", index),
        },
    )


def _frames(found: _Episode) -> Iterator[np.ndarray]:
    """Yield the frames of the video as JPEG."""
    return (encode_jpeg(image, QUALITY) for image in iterate_frames(found.files.target))
