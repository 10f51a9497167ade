"""HDF5 files of ACT, ACT++, Mobile ALOHA and X-Trainer as our episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tacit.config.documents import json_list
from tacit.convert.aloha.layout import (
    BASE_ACTION,
    BASE_NAMES,
    DEFAULT_FPS,
    FILE,
    NO_CONTACT,
    STAMPS,
    STEPS,
    TACTILE,
    UNITS,
    Grippers,
    is_xtrainer,
    joint_names,
    rates_to_ours,
    renames,
    to_ours,
    told,
    usual_grippers,
)
from tacit.convert.draft import Draft, draft_rig, motion_limits, plain_name
from tacit.convert.hdf5 import any_hdf5
from tacit.convert.incoming import Incoming, provenance, write_incoming
from tacit.convert.job import Converted, Import, Track
from tacit.convert.pictures import COLOURS, Colour, size_of, true_pictures
from tacit.episode import EpisodeReader, Step, find_episodes, schema
from tacit.episode.secure import open_episode
from tacit.errors import EpisodeError, ImageError, did_you_mean
from tacit.images import Image, decode_image
from tacit.rig import Rig, load_rig, parse_rig
from tacit.rig.topics import MAX_RATE_HZ

FIRST_NS = 1_000_000_000
"""Stamp of the first frame where the file has none: an episode's stamps are above 0."""
MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Reading(Import):
    """Read files of ACT, ACT++, Mobile ALOHA or X-Trainer.

    Example: tacit convert aloha_data/fold_shirt data --from aloha --rig my_rig.yaml --rename cam_high=top
    """

    fps: float | None = None
    """Frames per second; 50, if neither this nor the file says it."""
    colour: Colour | None = None
    """Order of the channels after cv2.imdecode or in raw pictures: rgb for ALOHA, bgr for X-Trainer."""
    grippers: Grippers | None = None
    """Unit of the grippers, where --rig says what they are: normalised 0 to 1, driver, metres."""
    rename: tuple[str, ...] = ()
    """Other names for cameras, as OLD=NEW: cam_high=top."""
    instruction: str = ""
    """What a person would say to have the task done."""
    action_delay: int = 0
    """Take the action of so many frames before: 1 is what ACT does with files of the real robot."""


class _File(NamedTuple):
    """What one file says of itself."""

    path: Path
    pictures: dict[str, str]
    sizes: dict[str, tuple[int, int]]
    states: np.ndarray
    action: np.ndarray
    fps: float


def recognises(source: Path) -> bool:
    """Whether a path is an HDF5 file of the family, or a folder with one in it."""
    return any_hdf5(source, _is_of_family)


def _is_of_family(file: h5py.File) -> bool:
    """Whether a file has states and actions, and is no episode of tacit."""
    return "schema" not in file.attrs and schema.ACTION in file and schema.QPOS in file


def read(job: Reading, place: Path, track: Track) -> Converted:
    """Write every file of the family at the source as one episode below `place`."""
    paths, notes = _sources(job.source)
    files = [_look(path, job) for path in paths]
    rig = _rig(job, files, notes)
    for index, found in enumerate(track(files, "episodes")):
        with EpisodeReader(found.path) as reader:
            notes += [note for note in _assumed(reader, found, job) if note not in notes]
            write_incoming(place, rig, _incoming(reader, found, rig, job, index))
    return Converted(len(files), sum(len(found.states) for found in files), tuple(notes))


def _sources(source: Path) -> tuple[list[Path], list[str]]:
    """Return the files of the family in order of their numbers, and notes on the others.

    Raises:
        EpisodeError: There is none, or one that cannot be opened.
    """
    paths: list[Path] = []
    others: list[Path] = []
    for path in find_episodes(source):
        with open_episode(path) as file:  # a damaged one ends the conversion: nobody is to lose it unseen
            (paths if _is_of_family(file) else others).append(path)
    if not paths:
        raise EpisodeError(
            f"{source}: no HDF5 file with /action and /observations/qpos of the ACT family in it"
        )
    numbers = {path: int(found.group(1)) if (found := FILE.search(path.name)) else -1 for path in paths}
    paths.sort(key=lambda path: (str(path.parent), numbers[path], path.name))
    named = ", ".join(path.name for path in others[:MOST_NAMED])
    return paths, [f"{len(others)} other HDF5 files left alone: {named}"] if others else []


def _look(path: Path, job: Reading) -> _File:
    """Read what decides the rig: numbers, and the size of the first picture of each stream."""
    with EpisodeReader(path) as reader:
        file, names = reader.file, renames(job.rename)
        streams = _streams(file)
        for name in names:
            if name not in streams:
                raise EpisodeError(f"{path}: --rename {name}: no such camera; {did_you_mean(name, streams)}")
        pictures = {names.get(name, name): place for name, place in streams.items()}
        return _File(
            path,
            pictures,
            {name: size_of(file[place], path, reader.num_ticks) for name, place in pictures.items()},
            _table(file, schema.QPOS),
            _table(file, schema.ACTION),
            job.fps or _fps(file),
        )


def _streams(file: h5py.File) -> dict[str, str]:
    """Return where the colour pictures of each stream are; depth has "depth" in its name there.

    Files of ours say what a stream was called before it was named for them.
    """
    places = [f"{schema.IMAGES}/{name}" for name in file.get(schema.IMAGES, ()) if "depth" not in name]
    places += [f"observations/{name}" for name in file["observations"] if TACTILE.match(name)]
    return {str(file[place].attrs.get("stream", place.rpartition("/")[2])): place for place in places}


def _table(file: h5py.File, place: str) -> np.ndarray:
    """Return numbers (T, n) as they are."""
    table = np.asarray(file[place][:], dtype=np.float64)
    if table.ndim != 2 or len(table) == 0:
        raise EpisodeError(f"{file.filename}: /{place} has shape {table.shape}, expected rows and columns")
    return table


def _fps(file: h5py.File) -> float:
    fps = float(file.attrs.get("fps", DEFAULT_FPS))
    if not 0 < fps <= MAX_RATE_HZ:
        raise EpisodeError(f"{file.filename}: attribute fps is {fps}; give the right one with --fps")
    return fps


def draft(source: Path) -> Rig:
    """Return a rig for the files at a path, from their numbers and the sizes of their pictures."""
    job = Reading(source=source, target=source)
    return _rig(job, [_look(path, job) for path in _sources(source)[0]], [])


def _rig(job: Reading, files: Sequence[_File], notes: list[str]) -> Rig:
    """Return the rig of the set: the one asked for, the one that our own files carry, else a drafted one."""
    if job.rig is not None:
        return load_rig(job.rig)
    first = files[0]
    with EpisodeReader(first.path) as reader:
        if "contract_yaml" in reader.file.attrs:
            return _without(reader.rig, first.pictures)
        has_base, like_xtrainer = _has_base(reader.file), is_xtrainer(reader.file)
    for found in files:
        if found.sizes != first.sizes or found.states.shape[1] != first.states.shape[1]:
            raise EpisodeError(
                f"{found.path}: other cameras, sizes or joints than {first.path.name} ({found.sizes}, not "
                f"{first.sizes}); convert the two kinds one by one"
            )
    notes.append(
        "rig drafted: joints and grippers in the unit of the files, geometry unmeasured; --rig takes your own"
    )
    tracks = [table for found in files for table in (found.states, found.action) if np.isfinite(table).all()]
    width = first.states.shape[1]
    draft = Draft(
        plain_name(job.source.stem, "aloha"),
        joint_names(width, like_xtrainer),
        first.fps,
        *motion_limits(tracks or [np.zeros((1, width))], first.fps),
        pictures=first.sizes,
        extras={BASE_ACTION: BASE_NAMES} if has_base else {},
    )
    return draft_rig(draft)


def _has_base(file: h5py.File) -> bool:
    return BASE_ACTION in file and file[BASE_ACTION].shape == (len(file[schema.ACTION]), len(BASE_NAMES))


def _without(rig: Rig, pictures: Iterable[str]) -> Rig:
    """Call optional what a rig has and the files lack."""
    data = rig.model_dump(mode="json")
    for name, spec in {**data["cameras"], **data["tactile"]}.items():
        spec["required"] = spec["required"] and name in pictures
    return parse_rig(data, f"rig {rig.name}")


def _incoming(reader: EpisodeReader, found: _File, rig: Rig, job: Reading, index: int) -> Incoming:
    """Bring one file to the words of the rig."""
    file, where = reader.file, str(found.path)
    _check_fit(rig, found)
    unit = _unit(file, rig, job)
    velocity, effort = _rates(file, schema.QVEL), _rates(file, schema.EFFORT)
    action = np.concatenate([found.action[:1]] * max(0, job.action_delay) + [found.action])
    takes_base = _has_base(file) and BASE_ACTION in rig.streams
    return Incoming(
        source=where,
        stamps_ns=_stamps(file, len(found.states), found.fps),
        stamps="true" if STAMPS in file else "nominal",
        qpos=to_ours(rig, found.states, unit),
        action=to_ours(rig, action[: len(found.states)], unit),
        task=job.task or reader.task or plain_name(job.source.stem, "task"),
        pictures={
            n: true_pictures(file[place], _colour(file, place, job)) for n, place in found.pictures.items()
        },
        extras={BASE_ACTION: _table(file, BASE_ACTION)} if takes_base else {},
        velocity=None if velocity is None else rates_to_ours(rig, velocity, found.states, unit),
        effort=effort,
        instruction=job.instruction or reader.instruction,
        success=job.success(reader.success),
        outcome=str(reader.attribute("outcome")),
        steps=_steps(file, rig),
        references=_references(file, rig),
        metadata={
            "sim": bool(reader.attribute("sim", False)),
            **provenance("aloha", "xtrainer" if is_xtrainer(file) else "act", found.path.name, index),
        },
    )


def _check_fit(rig: Rig, found: _File) -> None:
    """Refuse a rig of another robot, or of cameras of another size."""
    width, joints = found.states.shape[1], rig.state_names
    if width != len(joints):
        raise EpisodeError(
            f"{found.path}: {width} joints, the rig {rig.name} has {len(joints)} ({', '.join(joints)}); give "
            "the rig of the robot that was recorded"
        )
    for name, size in found.sizes.items():
        spec = rig.images.get(name)
        if spec is not None and (spec.height, spec.width) != size:
            raise EpisodeError(
                f"{found.path}: {name} is {size[1]}x{size[0]}, the rig {rig.name} says {spec.width}x"
                f"{spec.height}; calibrate the rig for the size of the files"
            )


def _stamps(file: h5py.File, num_frames: int, fps: float) -> np.ndarray:
    """Return the stamps of the frames [ns]: true ones from files of ours, else counted."""
    if STAMPS not in file:
        return FIRST_NS + np.round(np.arange(num_frames) * 1e9 / fps).astype(np.int64)
    stamps = file[STAMPS][:]
    if stamps.shape != (num_frames,) or (np.diff(stamps) <= 0).any():
        raise EpisodeError(f"{file.filename}: /{STAMPS} does not increase from frame to frame")
    return stamps


def _unit(file: h5py.File, rig: Rig, job: Reading) -> Grippers:
    """Return the unit of the grippers; a drafted rig has taken them as they are."""
    stated = told(file, "gripper_unit", UNITS)
    if job.grippers and stated not in (None, job.grippers):
        raise EpisodeError(f"{file.filename}: says that its grippers are {stated}; leave out --grippers")
    return job.grippers or stated or usual_grippers(rig)  # type: ignore[return-value]  # one of UNITS


def _steps(file: h5py.File, rig: Rig) -> list[Step]:
    """Return the steps that a file of ours names, where the rig has a stream for them."""
    if STEPS not in file.attrs or not any(spec.role == "steps" for spec in rig.streams.values()):
        return []
    where = f"{file.filename}: attribute {STEPS}"
    try:
        told = json_list(str(file.attrs[STEPS]), where, EpisodeError)
        return [Step(str(name), int(start), int(end)) for name, start, end in told]
    except (TypeError, ValueError):
        raise EpisodeError(f"{where}: expected a list of name, first and last frame") from None


def _references(file: h5py.File, rig: Rig) -> dict[str, Image]:
    """Return what the sensors show untouched, in files of ours."""
    try:
        return {
            n: decode_image(file[f"{NO_CONTACT}/{n}"][:]) for n in file.get(NO_CONTACT, ()) if n in rig.gels
        }
    except ImageError as problem:
        raise EpisodeError(f"{file.filename}: /{NO_CONTACT}: {problem}") from None


def _colour(file: h5py.File, place: str, job: Reading) -> Colour:
    """Return the order of the channels of one stream."""
    stated = told(file[place], "color", COLOURS)
    if job.colour and stated not in (None, job.colour):
        raise EpisodeError(
            f"{file.filename}: /{place} says that its channels are {stated}; leave out --colour {job.colour}"
        )
    return job.colour or stated or ("bgr" if is_xtrainer(file) else "rgb")  # type: ignore[return-value]


def _rates(file: h5py.File, place: str) -> np.ndarray | None:
    """Return velocities or efforts; None where the file has none, or not for every joint."""
    if place not in file:
        return None
    rates = _table(file, place)
    return rates if np.isfinite(rates).any() else None


def _assumed(reader: EpisodeReader, found: _File, job: Reading) -> Iterator[str]:
    """Yield what the file does not say and was taken for granted, and what stays behind."""
    file = reader.file
    if job.fps is None and "fps" not in file.attrs:
        yield f"no rate in the files: {DEFAULT_FPS:g} frames per second taken for granted (--fps)"
    if job.colour is None and any("color" not in file[place].attrs for place in found.pictures.values()):
        order = "bgr" if is_xtrainer(file) else "rgb"
        yield f"channels taken to be {order}: where red and blue are swapped in tacit view, give --colour"
    if STAMPS not in file:
        yield "no stamps in the files: counted from the rate, and called nominal in the episodes"
    depths = [name for name in file.get(schema.IMAGES, ()) if "depth" in name]
    if depths:
        yield f"depth left out: {', '.join(depths)}"
