"""Our episodes as HDF5 files that ACT, ACT++ (Mobile ALOHA) or X-Trainer train on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import h5py
import numpy as np

from tacit.convert.aloha.layout import (
    BASE_ACTION,
    COMPRESS_LEN,
    NO_CONTACT,
    STAMPS,
    STEPS,
    STYLES,
    Grippers,
    Style,
    StyleName,
    rates_to_theirs,
    renames,
    to_theirs,
    usual_grippers,
)
from tacit.convert.hdf5 import new_hdf5
from tacit.convert.job import Converted, Export, Track, episodes_to_export
from tacit.convert.pictures import Colour
from tacit.episode import EpisodeReader
from tacit.episode.schema import image_format
from tacit.errors import EpisodeError
from tacit.images import encode_jpeg, encode_png

TOLD = (
    "task",
    "language_instruction",
    "success",
    "outcome",
    "fps",
    "operator",
    "embodiment",
    "contract_yaml",
)
"""Attributes of ours that go along: their programs do not look at them, and the way back needs them."""


@dataclass(frozen=True, kw_only=True)
class Writing(Export):
    """Write episodes for ACT, ACT++ (Mobile ALOHA) or X-Trainer.

    Example: tacit convert data/place_cube data/aloha --to aloha --style act++
    """

    style: StyleName = "act++"
    """Whose files: act (raw pictures), act++ (JPEG), xtrainer (JPEG, touch as tactile1 and tactile2)."""
    colour: Colour | None = None
    """Order of the channels after cv2.imdecode or in raw pictures; as the style has it, if left out."""
    grippers: Grippers | None = None
    """Unit of the grippers: normalised 0 to 1, driver, metres; driver for claws, else normalised."""
    rename: tuple[str, ...] = ()
    """Other names for cameras, as OLD=NEW: top=cam_high."""
    quality: int = 95
    """JPEG quality (1 to 100) of pictures whose channels must be swapped; others keep their bytes."""


def write(job: Writing, place: Path, track: Track) -> Converted:
    """Write every episode of the job as one file below `place`."""
    style, paths_notes = STYLES[job.style], episodes_to_export(job)
    paths, notes = paths_notes[0], list(paths_notes[1])
    folder = place / style.folder
    folder.mkdir(parents=True)
    lengths = []
    for number, path in enumerate(track(paths, "episodes")):
        with EpisodeReader(path) as reader:
            left_out = _write_file(folder / style.name.format(number), reader, job)
            lengths.append(reader.num_ticks)
        notes += [note for note in left_out if note not in notes]
    if job.style == "act" and len(set(lengths)) > 1:
        notes.append(
            f"episodes have {min(lengths)} to {max(lengths)} frames, and the original ACT wants equal "
            "lengths; trim them before, or use --style act++"
        )
    return Converted(len(paths), sum(lengths), tuple(notes))


def _write_file(path: Path, reader: EpisodeReader, job: Writing) -> list[str]:
    """Write one file; returns what was left out of it."""
    if reader.is_foreign:
        raise EpisodeError(f"{reader.path}: is a file of the ACT family already; give episodes of tacit")
    style, names, notes = STYLES[job.style], renames(job.rename), []
    with new_hdf5(path) as file:
        file.attrs.update({name: reader.attribute(name) for name in TOLD if name in reader.file.attrs})
        file.attrs.update({"sim": bool(reader.attribute("sim", False)), "compress": style.encoded})
        _write_numbers(file, reader, job)
        lengths = {}
        for number, stream in enumerate((*reader.cameras, *reader.gels)):
            if not all(len(data) for data in _stored(reader, stream)):
                notes.append(f"{stream} left out: it has no picture at some frames")
                continue
            place = f"observations/images/{names.get(stream, stream)}"
            if job.style == "xtrainer" and stream in reader.gels:
                place = f"observations/tactile{1 + number - len(reader.cameras)}"
            if place in file:
                raise EpisodeError(f"--rename: two streams would be {place}; give them different names")
            lengths[place] = _write_pictures(
                file, place, _pictures(reader, stream, style, job), reader.num_ticks
            )
            file[place].attrs.update({"color": job.colour or style.colour, "stream": stream})
        if style.encoded and lengths:
            table = file.create_dataset(COMPRESS_LEN, data=np.array(list(lengths.values()), np.float32))
            table.attrs["streams"] = json.dumps([place.rpartition("/")[2] for place in lengths])
        for sensor in reader.gels:
            reference = reader.reference(sensor)
            if reference is not None:
                file.create_dataset(f"{NO_CONTACT}/{sensor}", data=encode_png(reference))
        if reader.steps:
            file.attrs[STEPS] = json.dumps([[s.name, s.start_frame, s.end_frame] for s in reader.steps])
    notes += [f"depth camera {name} left out: the format holds colours" for name in reader.depth_cameras]
    return notes


def _write_numbers(file: h5py.File, reader: EpisodeReader, job: Writing) -> None:
    """Write states, actions and what else is known of the body; what is not known stays away."""
    rig = reader.rig
    unit = job.grippers or usual_grippers(rig)
    qpos = to_theirs(rig, reader.qpos, unit)
    tables = {
        "observations/qpos": qpos,
        "action": to_theirs(rig, reader.targets, unit),
        "observations/qvel": None if reader.qvel is None else rates_to_theirs(rig, reader.qvel, qpos, unit),
        "observations/effort": reader.effort,
    }
    for place, table in tables.items():
        if table is not None:
            file.create_dataset(place, data=np.asarray(table, np.float32))
    file["observations/qpos"].attrs["names"] = json.dumps(list(reader.state_names))
    file.attrs["gripper_unit"] = unit
    extra = reader.file.get(f"observations/extra/{BASE_ACTION}")
    if extra is not None:
        file.create_dataset(BASE_ACTION, data=extra[:])
    file.create_dataset(STAMPS, data=reader.tick_ns)


def _stored(reader: EpisodeReader, stream: str) -> Iterator[np.ndarray]:
    return (reader.image_bytes(stream, tick) for tick in range(reader.num_ticks))


def _pictures(reader: EpisodeReader, stream: str, style: Style, job: Writing) -> Iterator[np.ndarray]:
    """Yield the pictures of a stream as the style has them: (H, W, 3), or bytes (N,)."""
    swaps = (job.colour or style.colour) == ("rgb" if style.encoded else "bgr")
    for tick, data in enumerate(_stored(reader, stream)):
        if style.encoded and not swaps and image_format(data) == "jpeg":
            yield data
            continue
        image = reader.touch(stream, tick) if stream in reader.gels else reader.image(stream, tick)
        if swaps:
            image = np.ascontiguousarray(image[..., ::-1])
        yield encode_jpeg(image, job.quality) if style.encoded else image


def _write_pictures(
    file: h5py.File, place: str, pictures: Iterator[np.ndarray], num_frames: int
) -> list[int]:
    """Write one stream, bytes padded with zeros to the longest; returns the length of each."""
    first = next(pictures)
    rows: Iterator[np.ndarray] = chain([first], pictures)
    if first.ndim == 1:
        rows = iter(encoded := list(rows))
        shape: tuple[int, ...] = (max(len(row) for row in encoded),)
    else:
        shape = first.shape
    dataset = file.create_dataset(place, (num_frames, *shape), np.uint8, chunks=(1, *shape))
    lengths = []
    for index, row in enumerate(rows):
        if row.ndim == 3 and row.shape != first.shape:
            raise EpisodeError(
                f"{place}: pictures of {row.shape} and {first.shape}; the format holds one size"
            )
        dataset[index, : len(row)] = row  # what is not written is zero
        lengths.append(len(row))
    return lengths
