"""Our episodes as the replay buffer of diffusion policy and UMI: a zarr folder of concatenated tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tacit.convert.job import Converted, Track, episodes_to_export
from tacit.convert.trainers import TrainerExport, check_alike, pictures_of, robot_tables, whole_streams
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError

if TYPE_CHECKING:
    import zarr

ROWS = 1000
"""Rows of a chunk of numbers; a chunk of pictures is one picture, for training reads at random."""


@dataclass(frozen=True, kw_only=True)
class Writing(TrainerExport):
    """Write episodes as a zarr replay buffer.

    Example: tacit convert data/place_cube data/place_cube.zarr --to zarr --size 96 96
    """

    keys: Literal["names", "umi"] = "names"
    """names: cameras and sensors by their own names, beside action and state; umi: camera0_rgb and the like,
    with the poses that UMI trains on."""


def recognises(source: Path) -> bool:
    """Whether a path is such a folder."""
    return (source / "meta" / "episode_ends").is_dir()


def write(job: Writing, place: Path, track: Track) -> Converted:
    """Write every episode of the job into the zarr folder `place`, in version 2 of the format."""
    import zarr

    paths, notes = episodes_to_export(job)
    counts = check_alike(paths)
    ends, start = np.cumsum(counts), 0
    root = zarr.open_group(str(place), mode="w-", zarr_format=2)
    tables = _Tables(root.create_group("data"), int(ends[-1]))
    for path, count in zip(track(paths, "episodes"), counts, strict=True):
        with EpisodeReader(path) as reader:
            for key, values in _numbers(reader, job).items():
                tables.put(key, start, values, ROWS)
            for key, pictures in _pictures(reader, job):
                for offset, image in enumerate(pictures):
                    tables.put(key, start + offset, image[None], 1)
            if start == 0:
                root.attrs["state_names"] = json.dumps(list(reader.state_names))
                root.attrs["fps"] = reader.fps
        start += count
    meta, shape = root.create_group("meta"), ends.shape
    meta.create_array("episode_ends", shape=shape, chunks=shape, dtype=np.int64, compressors=None)[:] = ends
    return Converted(len(paths), int(ends[-1]), notes)


class _Tables:
    """The arrays of all episodes together, each made when its first values come."""

    def __init__(self, data: zarr.Group, num_rows: int) -> None:
        self._data, self._num_rows = data, num_rows
        self._arrays: dict[str, zarr.Array] = {}

    def put(self, key: str, start: int, values: np.ndarray, chunk: int) -> None:
        """Write rows (n, ...) from row `start` on.

        Raises:
            EpisodeError: Another episode has values of another shape under this key.
        """
        from numcodecs import Blosc

        if key not in self._arrays:
            shape, chunks = (
                (rows, *values.shape[1:]) for rows in (self._num_rows, min(chunk, self._num_rows))
            )
            codec = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
            self._arrays[key] = self._data.create_array(
                key, shape=shape, chunks=chunks, dtype=values.dtype, compressors=codec
            )
        array = self._arrays[key]
        if array.shape[1:] != values.shape[1:]:
            raise EpisodeError(f"{key}: {values.shape[1:]} and {array.shape[1:]}; give pictures one --size")
        array[start : start + len(values)] = values


def _numbers(reader: EpisodeReader, job: Writing) -> dict[str, np.ndarray]:
    """Return the numbers (T, n) of an episode by key."""
    if job.keys == "umi":
        return _umi_tables(reader)
    seconds = (reader.tick_ns - reader.tick_ns[0]) / 1e9
    return {"action": reader.targets, "state": reader.qpos, "timestamp": seconds} | robot_tables(reader)


def _umi_tables(reader: EpisodeReader) -> dict[str, np.ndarray]:
    """Return poses and widths as UMI calls them, with the poses at which a demonstration began and ended."""
    tables = robot_tables(reader, "axis_angle")
    found: dict[str, np.ndarray] = {}
    for number, arm in enumerate(reader.rig.arms):
        name = f"robot{number}"
        if f"{name}_eef_pos" not in tables:
            raise EpisodeError(
                f"{reader.path}: arm {arm} is unmeasured, and UMI trains on poses: --keys names"
            )
        position, rotation = tables[f"{name}_eef_pos"], tables[f"{name}_eef_rot_axis_angle"]
        found |= {f"{name}_eef_pos": position, f"{name}_eef_rot_axis_angle": rotation}
        if f"{name}_gripper_qpos" in tables:
            found[f"{name}_gripper_width"] = tables[f"{name}_gripper_qpos"]
        pose = np.concatenate([position, rotation], axis=1).astype(np.float64)
        found[f"{name}_demo_start_pose"] = np.repeat(pose[:1], len(pose), axis=0)
        found[f"{name}_demo_end_pose"] = np.repeat(pose[-1:], len(pose), axis=0)
    return found


def _pictures(reader: EpisodeReader, job: Writing) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """Yield (key, pictures) of each stream."""
    whole = whole_streams(reader)
    for number, stream in enumerate(whole):
        is_camera = stream in reader.cameras
        key = f"camera{number}_rgb" if job.keys == "umi" and is_camera else stream
        yield key, pictures_of(reader, stream, job.size)
