"""Our episodes as a data set of robomimic: one HDF5 file, `data/demo_<i>` with observations and actions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tacit.convert.hdf5 import any_hdf5, new_hdf5
from tacit.convert.job import Converted, Track, episodes_to_export
from tacit.convert.trainers import TrainerExport, check_alike, pictures_of, robot_tables, whole_streams
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError

GYM = 2
"""What robomimic calls an environment that is not robosuite; ours has none, so rollouts are switched off."""
LEAST_RANGE = 1e-6


class _Span(NamedTuple):
    """Least and greatest action (A,)."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Writing(TrainerExport):
    """Write episodes as one robomimic file.

    Example: tacit convert data/place_cube data/place_cube_robomimic.hdf5 --to robomimic --size 84 84
    """

    next_obs: bool = True
    """Store each observation a second time as the next one of its predecessor: robomimic before 0.3 and its
    value-based algorithms want it; the last tick is then left out, which has none."""
    scale_actions: bool = True
    """Scale actions to -1..1, which is what its policies give; the file says from what."""
    valid_every: int = 10
    """Every n-th episode goes into mask/valid, the others into mask/train."""


def recognises(source: Path) -> bool:
    """Whether a path is such a file, or a folder with one in it."""
    return any_hdf5(source, lambda file: "demo_0" in file.get("data", ()))


def write(job: Writing, place: Path, track: Track) -> Converted:
    """Write every episode of the job into the file `place`."""
    if place.suffix not in (".hdf5", ".h5"):
        raise EpisodeError(f"{job.target}: robomimic reads one file; give it a name that ends in .hdf5")
    if job.valid_every < 2:
        raise EpisodeError(f"--valid-every {job.valid_every}: expected 2 or more, to leave some for training")
    paths, notes = episodes_to_export(job)
    check_alike(paths)
    span = _span(paths) if job.scale_actions else None
    masks: dict[str, list[str]] = {"train": [], "valid": [], "success": []}
    total, unlabelled = 0, 0
    with new_hdf5(place) as file:
        data = file.create_group("data")
        for number, path in enumerate(track(paths, "episodes")):
            name = f"demo_{number}"
            with EpisodeReader(path) as reader:
                total += _write_demo(data.create_group(name), reader, job, span)
                unlabelled += reader.success is None
                if number == 0:
                    _describe(data, reader, span)
                if reader.success:
                    masks["success"].append(name)
            masks["valid" if number % job.valid_every == job.valid_every - 1 else "train"].append(name)
        data.attrs["total"] = total
        for mask, names in masks.items():
            if names:
                file.create_dataset(f"mask/{mask}", data=np.array(names, dtype="S"))
    if unlabelled:
        notes += (f"{unlabelled} episodes are unlabelled: no rewards for them, and not in mask/success",)
    if job.next_obs:
        notes += (
            "the last tick of each episode is its last next_obs and no sample (--no-next-obs keeps it)",
        )
    return Converted(len(paths), total, notes)


def _span(paths: list[Path]) -> _Span:
    """Return the range of actions, by the limits of the rig and by all episodes."""
    lows, highs = [], []
    for path in paths:
        with EpisodeReader(path) as reader:
            lows += [reader.targets.min(axis=0), reader.rig.limits("lower")]
            highs += [reader.targets.max(axis=0), reader.rig.limits("upper")]
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    return _Span(low, np.maximum(high, low + LEAST_RANGE))


def _describe(data: h5py.Group, reader: EpisodeReader, span: _Span | None) -> None:
    """Say what the elements are, and how actions were scaled."""
    kwargs = {"state_names": list(reader.state_names), "fps": reader.fps}
    data.attrs["env_args"] = json.dumps({"env_name": reader.rig.name, "type": GYM, "env_kwargs": kwargs})
    data.attrs["action_names"] = json.dumps(list(reader.state_names))
    if span is not None:
        data.attrs["action_low"], data.attrs["action_high"] = span.low, span.high


def _write_demo(demo: h5py.Group, reader: EpisodeReader, job: Writing, span: _Span | None) -> int:
    """Write one episode; returns its number of samples."""
    count = reader.num_ticks - (1 if job.next_obs else 0)
    if count < 1:
        raise EpisodeError(f"{reader.path}: one tick has no next observation; leave it out, or --no-next-obs")
    actions = reader.targets.astype(np.float64)
    if span is not None:
        actions = 2 * (actions - span.low) / (span.high - span.low) - 1
    demo["actions"] = actions[:count].astype(np.float32)
    ends = np.arange(count) == count - 1
    demo["dones"] = ends.astype(np.int64)
    if reader.success is not None:
        demo["rewards"] = (ends & reader.success).astype(np.float32)
    demo.attrs["num_samples"] = count
    demo.attrs["source"] = reader.path.name
    demo.attrs["language_instruction"] = reader.instruction
    for key, table in robot_tables(reader).items():
        demo[f"obs/{key}"] = table[:count]
        if job.next_obs:
            demo[f"next_obs/{key}"] = table[1:]
    for stream in whole_streams(reader):
        _write_pictures(demo, f"{stream}_image", reader, stream, job, count)
    return count


def _write_pictures(
    demo: h5py.Group, key: str, reader: EpisodeReader, stream: str, job: Writing, count: int
) -> None:
    """Write the pictures of one stream, one by one."""
    tables: dict[str, h5py.Dataset] = {}
    for tick, image in enumerate(pictures_of(reader, stream, job.size)):
        if not tables:
            for group in ("obs", "next_obs") if job.next_obs else ("obs",):
                shape = (count, *image.shape)
                tables[group] = demo.create_dataset(
                    f"{group}/{key}", shape, np.uint8, chunks=(1, *image.shape)
                )
        if tick < count:
            tables["obs"][tick] = image
        if job.next_obs and tick:
            tables["next_obs"][tick - 1] = image
