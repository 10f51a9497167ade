"""Read one episode: arrays, images by tick, where touch is seen, steps; also images of ACT files.

Open after fork, one reader per process (h5py handles do not survive it).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from tacit.config.documents import json_of, yaml_mapping
from tacit.episode import schema
from tacit.episode.annotated import read_step_table, read_task_steps
from tacit.episode.elements import Elements
from tacit.episode.secure import open_episode
from tacit.episode.steps import Step
from tacit.errors import EpisodeError, ImageError, TacitError, did_you_mean
from tacit.images import decode_image
from tacit.images.depth import decode_depth
from tacit.rig import Rig, parse_rig

Decode = Callable[[np.ndarray], np.ndarray]  # makes a picture of what is stored


class EpisodeReader:
    """One `tacit-episode` file; also the images, qpos and action of ALOHA and ACT++ files.

    Arrays are read on first use and cached; images are read and decoded on demand.

    Args:
        path: The file.

    Raises:
        EpisodeError: Missing, cut off, hostile, of another schema or of a newer major version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = open_episode(path)
        self._images: dict[str, h5py.Dataset] = {}
        self._elements: dict[str, Elements] = {}
        try:
            self.is_foreign = schema.is_foreign(self._file, self.path)
            self.num_ticks = self._rows_of(schema.ACTION)
        except EpisodeError:
            self._file.close()
            raise

    def __enter__(self) -> EpisodeReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; cached arrays stay."""
        self._file.close()

    @property
    def file(self) -> h5py.File:
        """The open HDF5 file, for what has no accessor."""
        return self._file

    # -- what and when -------------------------------------------------------------------------

    def attribute(self, name: str, default: object = "") -> object:
        """Return a root attribute as a Python value."""
        value = self._file.attrs.get(name, default)
        return value.item() if isinstance(value, np.generic) else value

    @property
    def task(self) -> str:
        """Identifier of the task."""
        return str(self.attribute("task"))

    @property
    def instruction(self) -> str:
        """What a person would say to have it done."""
        return str(self.attribute("language_instruction"))

    @property
    def state(self) -> str:
        """recording, complete, recovered or aborted."""
        return str(self.attribute("state"))

    @property
    def success(self) -> bool | None:
        """Whether the task was done; None when nobody said."""
        label = int(self.attribute("success", -1))  # type: ignore[call-overload]
        return None if label < 0 else bool(label)

    @property
    def fps(self) -> float:
        """Nominal tick rate [Hz]; 50 for ALOHA files, which do not say."""
        return float(self.attribute("fps", 50.0))  # type: ignore[arg-type]

    @functools.cached_property
    def rig(self) -> Rig:
        """The rig as it was when the episode was recorded."""
        if not (text := self.attribute("contract_yaml")):
            raise EpisodeError(f"{self.path}: holds no rig (contract_yaml); it was not recorded by tacit")
        try:
            return _rig_of(str(text))
        except TacitError as problem:
            raise EpisodeError(f"{self.path.name}: {problem}") from None

    @functools.cached_property
    def tick_ns(self) -> np.ndarray:
        """Stamps of the ticks (T,) i8 [ns]; evenly spaced at `fps` for files without stamps."""
        if schema.TICK_NS in self._file:
            return self._file[schema.TICK_NS][:]
        return np.round(np.arange(self.num_ticks) * 1e9 / self.fps).astype(np.int64)

    # -- body ----------------------------------------------------------------------------------

    @functools.cached_property
    def qpos(self) -> np.ndarray:
        """Measured state (T, S) f4, order of the rig [rad, gripper opening m]."""
        return self._dataset(schema.QPOS)[:]

    @functools.cached_property
    def action(self) -> np.ndarray:
        """Commanded state (T, S) f4 in force at each tick, same order and units; the measured one where
        an optional command had not been given (`action_source`)."""
        return self._dataset(schema.ACTION)[:]

    @property
    def action_source(self) -> str:
        """Where `action` comes from: `command`, `measured` (the arm was led by hand) or `mixed`."""
        return str(self._dataset(schema.ACTION).attrs.get("action_source", "command"))

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """What a policy is to command at each tick (T, S) f4: the action; where nobody had commanded, the
        state measured at the next tick, for where the arm is already it need not be sent."""
        targets = self.action.copy()
        ahead = np.concatenate([self.qpos[1:], self.qpos[-1:]])
        for columns, in_force in schema.commanded_rows(self._file):
            for column in columns:
                targets[~in_force, column] = ahead[~in_force, column]
        return targets

    @functools.cached_property
    def qvel(self) -> np.ndarray | None:
        """Measured velocity (T, S) f4 [rad/s, m/s], NaN where unknown; None where no driver reports it."""
        return self._file[schema.QVEL][:] if schema.QVEL in self._file else None

    @functools.cached_property
    def effort(self) -> np.ndarray | None:
        """Measured effort (T, S) f4 in the drivers' units, NaN where unknown; None where none reports it."""
        return self._file[schema.EFFORT][:] if schema.EFFORT in self._file else None

    @functools.cached_property
    def state_names(self) -> tuple[str, ...]:
        """Names of the elements of qpos and action."""
        qpos = self._dataset(schema.QPOS)
        return (
            tuple(schema.names_of(qpos))
            if "names" in qpos.attrs
            else tuple(f"q{i}" for i in range(self.qpos.shape[1]))
        )

    # -- images --------------------------------------------------------------------------------

    @functools.cached_property
    def cameras(self) -> tuple[str, ...]:
        """Names of the colour cameras (tactile sensors apart)."""
        names = [name for name in self._file.get(schema.IMAGES, ()) if name not in self.tactile]
        # Files of others keep depth among the colours, by a name that says so.
        return tuple(name for name in names if not self.is_foreign or "depth" not in name)

    @functools.cached_property
    def depth_cameras(self) -> tuple[str, ...]:
        """Names of the depth cameras."""
        return () if self.is_foreign else tuple(self._file.get(schema.DEPTH, ()))

    @functools.cached_property
    def tactile(self) -> tuple[str, ...]:
        """Names of the tactile sensors."""
        return tuple(self._file["tactile"]) if "tactile" in self._file else ()

    @functools.cached_property
    def taxels(self) -> tuple[str, ...]:
        """Names of those tactile sensors that send arrays of numbers."""
        return tuple(self._file.get(schema.TAXELS, ()))

    @functools.cached_property
    def gels(self) -> tuple[str, ...]:
        """Names of those tactile sensors that send pictures."""
        return tuple(name for name in self.tactile if name not in self.taxels)

    def image(self, camera: str, tick: int) -> np.ndarray:
        """Return one camera image (H, W, 3) RGB uint8."""
        return self._decode(camera, tick, self._image_dataset(camera, self.cameras)[tick])

    def depth(self, camera: str, tick: int) -> np.ndarray:
        """Return one depth image (H, W) uint16 [mm], 0 where nothing was measured."""
        return self._decode(camera, tick, self._image_dataset(camera, self.depth_cameras)[tick])

    def touch(self, sensor: str, tick: int) -> np.ndarray:
        """Return one tactile image (H, W, 3) RGB uint8."""
        return self._decode(sensor, tick, self._image_dataset(sensor, self.gels)[tick])

    def readings(self, sensor: str, ticks: slice | int = slice(None)) -> np.ndarray:
        """Return what an array said at the ticks (T, R, C, K) f4; NaN before the first of an optional one."""
        self._known(sensor, self.taxels, "array of taxels")
        return self._dataset(f"{schema.TAXELS}/{sensor}")[ticks]

    def pictures(self, stream: str, ticks: slice, decode: Decode | None = None) -> Iterator[np.ndarray]:
        """Yield the images of a camera or sensor at successive ticks, as one by one, in one read.

        Args:
            stream: Name of the camera or sensor.
            ticks: Which, without a step.
            decode: Makes a picture of what is stored; decodes it whole when left out.
        """
        first = ticks.indices(self.num_ticks)[0]
        block = self._image_dataset(stream, self._image_streams)[ticks]
        for tick, data in enumerate(block, start=first):
            yield self._decode(stream, tick, data, decode)

    def picture(self, stream: str, tick: int, decode: Decode) -> np.ndarray:
        """Return what `decode` makes of the image of a camera or sensor as it is stored."""
        dataset = self._image_dataset(stream, self._image_streams)
        if dataset.ndim > 1 or not 0 <= tick < len(dataset):
            return self._decode(stream, tick, dataset[tick], decode)
        elements = self._elements.get(stream) or self._elements.setdefault(stream, Elements(dataset))
        return self._decode(stream, tick, elements[tick], decode)

    def image_bytes(self, stream: str, tick: int) -> np.ndarray:
        """Return one image of any camera or sensor as stored: encoded bytes, 1-D uint8."""
        data = self._image_dataset(stream, self._image_streams)[tick]
        if data.ndim != 1:
            raise EpisodeError(f"{self.path}: {stream}: stored raw, not encoded; use image()")
        return data

    def reference(self, sensor: str) -> np.ndarray | None:
        """Return the no-contact image (H, W, 3) of a gel, the reading (R, C, K) of an array; or None."""
        self._known(sensor, self.tactile, "sensor")
        path = f"tactile/{sensor}/reference"
        if path not in self._file:
            return None
        stored = self._file[path]
        return stored[:] if sensor in self.taxels else decode_image(stored[0])

    # -- where touch is seen -------------------------------------------------------------------

    def is_located(self, camera: str, sensor: str) -> bool:
        """Whether the file says where a sensor is in a camera; not where nobody measured one of them."""
        return f"sensor_bbox/{camera}/{sensor}" in self._file

    def boxes(self, camera: str, sensor: str) -> np.ndarray:
        """Return boxes (T, 4) f4 xyxy in pixels of the stored image, unclipped; NaN behind it."""
        return self._pair("sensor_bbox", camera, sensor)

    def corners(self, camera: str, sensor: str) -> np.ndarray:
        """Return the sensing face in the image (T, 4, 2) f4 [px]."""
        return self._pair("sensor_corners", camera, sensor)

    def visibility(self, camera: str, sensor: str) -> np.ndarray:
        """Return the fraction of the box inside the image (T,) f4."""
        return self._pair("sensor_visibility", camera, sensor)

    def flags(self, camera: str, sensor: str) -> np.ndarray:
        """Return `tacit.geometry.footprint` flags (T,) u1."""
        return self._pair("sensor_flags", camera, sensor)

    def sensor_pose(self, sensor: str) -> np.ndarray:
        """Return T_base_sensor (T, 4, 4) f8."""
        self._known(sensor, self.tactile, "sensor")
        return self._dataset(f"sensor_pose/{sensor}")[:]

    def camera_pose(self, camera: str) -> np.ndarray:
        """Return T_base_camera (T, 4, 4) f8; a fixed camera has the same pose at each tick."""
        self._known(camera, self._all_cameras, "camera")
        path = f"camera_pose/{camera}"
        if path in self._file:
            return self._file[path][:]
        return np.broadcast_to(self._dataset(f"cameras/{camera}/T")[:], (self.num_ticks, 4, 4))

    # -- steps, time and losses ----------------------------------------------------------------

    @functools.cached_property
    def steps(self) -> list[Step]:
        """Annotated steps in order of their frames; empty when there are none."""
        return read_step_table(self._file, schema.STEPS)

    @functools.cached_property
    def failures(self) -> list[Step]:
        """What went wrong, by kind; empty where nothing is labelled."""
        return read_step_table(self._file, schema.FAILURES)

    @functools.cached_property
    def task_steps(self) -> tuple[str, ...]:
        """The steps of the whole task, also those that this episode lacks; () where unknown."""
        return read_task_steps(self._file, str(self.path))

    def timestamps(self, stream: str) -> dict[str, np.ndarray]:
        """Return stamp_ns, recv_ns, index (T,) i8 and fresh (T,) u1 of a stream at the ticks."""
        streams = [name for name in self._file.get("timestamps", ()) if name != "tick_ns"]
        self._known(stream, streams, "stream")
        group = self._file[f"timestamps/{stream}"]
        return {field: group[field][:] for field in schema.STAMP_FIELDS}

    def stream(self, name: str) -> dict[str, np.ndarray]:
        """Return a low-dimensional stream at its native rate: stamp_ns, recv_ns and its fields."""
        self._known(name, list(self._file.get("streams", ())), "low-dimensional stream")
        return {field: data[:] for field, data in self._file[f"streams/{name}"].items()}

    @functools.cached_property
    def events(self) -> list[tuple[int, str, object]]:
        """Events as (stamp_ns, kind, data)."""
        group = self._file.get("events")
        if group is None:
            return []
        texts = (group["kind"].asstr()[:], group["data"].asstr()[:])
        where = f"{self.path}: /events"
        return [
            (int(stamp), str(kind), json_of(data, where, EpisodeError))
            for stamp, kind, data in zip(group["stamp_ns"][:], *texts, strict=True)
        ]

    @functools.cached_property
    def drops(self) -> dict[str, dict[str, float]]:
        """Counts per stream, see `tacit.streams.counts.StreamCounts.as_dict`."""
        group = self._file.get("drops", {})
        return {name: {k: v.item() for k, v in group[name].attrs.items()} for name in group}

    # -- inside --------------------------------------------------------------------------------

    def _rows_of(self, path: str) -> int:
        """Return the number of rows of a table (T, n); check that it is one."""
        shape = self._dataset(path).shape
        if len(shape) != 2:
            raise EpisodeError(f"{self.path}: /{path} has shape {shape}, expected rows and columns")
        return int(shape[0])

    def _dataset(self, path: str) -> h5py.Dataset:
        found = self._file.get(path)
        if not isinstance(found, h5py.Dataset):
            raise EpisodeError(f"{self.path}: dataset /{path} is missing; run `tacit check` on the file")
        return found

    def _image_dataset(self, name: str, valid: tuple[str, ...]) -> h5py.Dataset:
        if name in self._images and name in valid:
            return self._images[name]
        for path in (f"{schema.IMAGES}/{name}", f"{schema.DEPTH}/{name}", f"observations/{name}"):
            if path in self._file and (name in valid or self.is_foreign):
                return self._images.setdefault(name, self._file[path])
        hint = (
            "that is a depth camera: use depth()" if name in self.depth_cameras else did_you_mean(name, valid)
        )
        raise EpisodeError(f"{self.path}: no image stream {name!r}; {hint}")

    @property
    def _all_cameras(self) -> tuple[str, ...]:
        return (*self.cameras, *self.depth_cameras)

    @property
    def _image_streams(self) -> tuple[str, ...]:
        return (*self._all_cameras, *self.gels)

    def _decode(self, stream: str, tick: int, data: np.ndarray, decode: Decode | None = None) -> np.ndarray:
        """Decode variable-length or zero-padded bytes; raw images are returned as they are.

        Raises:
            EpisodeError: The bytes are no image.
        """
        try:
            if decode is not None:
                return decode(data)
            if stream in self.depth_cameras:
                return decode_depth(data)
            return data if data.ndim == 3 else decode_image(data)
        except ImageError as problem:
            raise EpisodeError(
                f"{self.path}: {stream}, tick {tick}: {problem}; leave the episode out, or cut it there"
            ) from None

    def _pair(self, group: str, camera: str, sensor: str) -> np.ndarray:
        self._known(camera, self._all_cameras, "camera")
        self._known(sensor, self.tactile, "sensor")
        return self._dataset(f"{group}/{camera}/{sensor}")[:]

    def _known(self, name: str, valid: tuple[str, ...] | list[str], kind: str) -> None:
        if name not in valid:
            raise EpisodeError(f"{self.path}: no {kind} {name!r}; {did_you_mean(name, valid)}")


@functools.lru_cache(maxsize=16)
def _rig_of(text: str) -> Rig:
    """Parse a rig; a data set repeats the same few texts."""
    return parse_rig(yaml_mapping(text, "contract_yaml", EpisodeError), "contract_yaml")
