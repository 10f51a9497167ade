"""Processed episodes of PH2D (human and robot, one policy) as ours: two views and a state of 128 elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tacit.convert.draft import Draft, draft_rig, motion_limits, plain_name
from tacit.convert.hdf5 import any_hdf5
from tacit.convert.incoming import Incoming, provenance, write_incoming
from tacit.convert.job import Converted, Import, Track
from tacit.convert.pictures import Colour, size_of, true_pictures
from tacit.episode import find_episodes
from tacit.episode.secure import open_episode
from tacit.errors import EpisodeError
from tacit.rig import Rig, load_rig

STATE, ACTION = "observation.state", "action"
VIEWS = {"left": "observation.image.left", "right": "observation.image.right"}
DROPPED = "drop"
"""The description of a take that its operator threw away."""
DEFAULT_FPS = 30.0
FIRST_NS = 1_000_000_000
PARTS = {
    "head": range(0, 9),
    "left_keypoints": range(10, 28),
    "right_wrist": range(30, 39),
    "right_keypoints": range(40, 58),
    "left_wrist": range(80, 89),
    "qpos": range(100, 126),
}
"""Where what stands in the vector: a wrist is a position [m] and the first two rows of its rotation."""


@dataclass(frozen=True, kw_only=True)
class Reading(Import):
    """Read processed episodes of PH2D.

    Example: tacit convert ph2d/pouring data --from ph2d
    """

    fps: float = DEFAULT_FPS
    """Frames per second; the files do not say."""
    colour: Colour = "rgb"
    """Order of the channels after cv2.imdecode."""


class _File(NamedTuple):
    """What one file holds beside its pictures."""

    path: Path
    state: np.ndarray
    action: np.ndarray
    sizes: dict[str, tuple[int, int]]
    description: str
    embodiment: str


def recognises(source: Path) -> bool:
    """Whether a path is such a file, or a folder with one in it."""
    return any_hdf5(source, _is_ours)


def _is_ours(file: h5py.File) -> bool:
    return STATE in file and ACTION in file and any(place in file for place in VIEWS.values())


def read(job: Reading, place: Path, track: Track) -> Converted:
    """Write every file at the source as one episode below `place`."""
    files, notes = _files(job.source)
    used = _used(files)
    rig = load_rig(job.rig) if job.rig else _draft(files, used, job.fps, job.source)
    for index, found in enumerate(track(files, "episodes")):
        with open_episode(found.path) as file:
            pictures = {name: true_pictures(file[VIEWS[name]], job.colour) for name in found.sizes}
            frames = np.arange(len(found.state))
            write_incoming(
                place,
                rig,
                Incoming(
                    source=str(found.path),
                    stamps_ns=FIRST_NS + np.round(frames * 1e9 / job.fps).astype(np.int64),
                    stamps="nominal",
                    qpos=found.state[:, used],
                    action=found.action[:, used],
                    task=job.task or plain_name(found.description, "task"),
                    pictures=pictures,
                    instruction=found.description,
                    success=job.success(None),
                    metadata={
                        "embodiment_type": "human" if "human" in found.embodiment else "robot",
                        "rotation_6d": "rows",
                        **provenance("ph2d", "", found.path.name, index),
                    },
                ),
            )
    notes.append(f"no stamps in the files: counted at {job.fps:g} frames per second, and called nominal")
    return Converted(len(files), sum(len(found.state) for found in files), tuple(notes))


def draft(source: Path) -> Rig:
    """Return a rig for the files at a path."""
    files, _ = _files(source)
    return _draft(files, _used(files), DEFAULT_FPS, source)


def _files(source: Path) -> tuple[list[_File], list[str]]:
    """Return the files at a path but those thrown away, and notes on the others.

    Raises:
        EpisodeError: There is none, or one that cannot be read.
    """
    files, others, dropped = [], 0, 0
    for path in find_episodes(source):
        with open_episode(path) as file:
            if not _is_ours(file):
                others += 1
                continue
            found = _look(file, path)
            dropped += found.description == DROPPED
            if found.description != DROPPED:
                files.append(found)
    if not files:
        raise EpisodeError(f"{source}: no HDF5 file with {STATE}, {ACTION} and pictures of PH2D in it")
    for found in files:
        if found.sizes != files[0].sizes or found.state.shape[1] != files[0].state.shape[1]:
            raise EpisodeError(
                f"{found.path}: other views, sizes or state than {files[0].path.name}; convert them apart"
            )
    notes = [f"{dropped} takes left out that are described as {DROPPED!r}"] if dropped else []
    return files, notes + ([f"{others} other HDF5 files left alone"] if others else [])


def _look(file: h5py.File, path: Path) -> _File:
    tables = [np.asarray(file[name][:], np.float64) for name in (STATE, ACTION)]
    if any(table.ndim != 2 or not len(table) or table.shape != tables[0].shape for table in tables):
        raise EpisodeError(
            f"{path}: {STATE} and {ACTION} have shapes {tables[0].shape} and {tables[1].shape}, expected "
            "frames and elements, both alike"
        )
    sizes = {n: size_of(file[place], path, len(tables[0])) for n, place in VIEWS.items() if place in file}
    description, embodiment = (str(file.attrs.get(name, "")) for name in ("description", "embodiment"))
    return _File(path, tables[0], tables[1], sizes, description, embodiment)


def _used(files: Sequence[_File]) -> np.ndarray:
    """Return which elements any file has: the format fills what a body lacks with zeros."""
    return np.any([(found.state != 0).any(0) | (found.action != 0).any(0) for found in files], axis=0)


def _draft(files: Sequence[_File], used: np.ndarray, fps: float, source: Path) -> Rig:
    """Return a rig whose elements are called by their part, and by their place in the vector."""
    parts = {index: name for name, places in PARTS.items() for index in places}
    names = [f"{parts.get(int(index), 'element')}_{index}" for index in np.flatnonzero(used)]
    tracks = [table[:, used] for found in files for table in (found.state, found.action)]
    limits = motion_limits([t for t in tracks if np.isfinite(t).all()] or [np.zeros((1, len(names)))], fps)
    name = files[0].embodiment or source.stem
    return draft_rig(Draft(plain_name(name, "ph2d"), names, fps, *limits, pictures=files[0].sizes))
