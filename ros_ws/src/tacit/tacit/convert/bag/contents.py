"""What an episode says, as messages in the order in which they came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tacit.convert.bag.messages import (
    ANNOTATIONS,
    CAMERA_INFO,
    COMPRESSED,
    DEPTH_FORMAT,
    TEXT,
    TRANSFORMS,
    Messages,
)
from tacit.episode import EpisodeReader
from tacit.episode.schema import image_format
from tacit.images import encode_png
from tacit.rig import CameraSpec, CommandSpec, StreamSpec
from tacit.rig.scene import measured
from tacit.rig.units import efforts_to_canonical, rates_from_canonical, vector_from_canonical

NO_CONTACT = "/tacit/no_contact"


class Entry(NamedTuple):
    """One message that is yet to be made: when it was received [ns], where, of which type."""

    log_ns: int
    topic: str
    kind: str
    make: Callable[[], Any]


def entries_of(reader: EpisodeReader, messages: Messages) -> list[Entry]:
    """Return every message of an episode, by reception.

    Pictures are there as the ticks took them, numbers at the rate of their driver and in its unit; poses and
    outlines as they were computed at the ticks. What the episode lacks has no topic.
    """
    found = [*_pictures(reader, messages), *_numbers(reader, messages), *_geometry(reader, messages)]
    found += [*_references(reader, messages), *_taxels(reader, messages)]
    for stamp_ns, kind, data in reader.events:
        text = json.dumps({"kind": kind, "data": data})
        found.append(Entry(stamp_ns, "/tacit/events", TEXT, partial(messages.text, text)))
    return sorted(found, key=lambda entry: entry.log_ns)


def _pictures(reader: EpisodeReader, messages: Messages) -> Iterator[Entry]:
    """Yield each picture once, with the calibration of its camera."""
    rig, known = reader.rig, measured(reader.rig).cameras
    for name, spec in rig.images.items():
        stamps = reader.timestamps(name)
        is_depth = name in reader.depth_cameras
        ending = "compressedDepth" if is_depth else "compressed"
        frame_id = getattr(spec, "frame_id", "") or name
        for tick in np.flatnonzero(stamps["fresh"]).tolist():
            stamp_ns = int(stamps["stamp_ns"][tick])
            log_ns = int(stamps["recv_ns"][tick]) or stamp_ns
            picture = partial(_picture, reader, messages, name, tick, stamp_ns, frame_id)
            yield Entry(log_ns, f"{spec.topic}/{ending}", COMPRESSED, picture)
            if name in known and isinstance(spec, CameraSpec):
                topic = spec.info_topic or f"{spec.topic.rpartition('/')[0]}/camera_info"
                camera = rig.geometry.camera(name)
                info = partial(messages.camera_info, camera, stamp_ns, frame_id)
                yield Entry(log_ns, topic, CAMERA_INFO, info)


def _references(reader: EpisodeReader, messages: Messages) -> Iterator[Entry]:
    """Yield what each sensor shows untouched, at the first tick."""
    stamp_ns = int(reader.tick_ns[0])
    for sensor in reader.gels:
        reference = reader.reference(sensor)
        if reference is not None:
            make = partial(messages.picture, encode_png(reference), stamp_ns, sensor, "png")
            yield Entry(stamp_ns, f"{NO_CONTACT}/{sensor}", COMPRESSED, make)


def _taxels(reader: EpisodeReader, messages: Messages) -> Iterator[Entry]:
    """Yield every reading of the arrays at its own rate, and what they say untouched at the first tick."""
    for name in reader.taxels:
        spec, first_ns, offset = reader.rig.taxels[name], int(reader.tick_ns[0]), reader.reference(name)
        if offset is not None:
            make = partial(messages.taxels, spec.type, offset, first_ns)
            yield Entry(first_ns, f"{NO_CONTACT}/{name}", spec.type, make)
        table = reader.stream(name)
        if not len(table["stamp_ns"]):  # an episode of others: what the ticks hold
            stamps = reader.timestamps(name)
            heard = stamps["index"] >= 0
            times = {field: stamps[field][heard] for field in ("stamp_ns", "recv_ns")}
            table = times | {"data": reader.readings(name)[heard]}
        for stamp_ns, recv_ns, reading in zip(
            *(table[f] for f in ("stamp_ns", "recv_ns", "data")), strict=True
        ):
            make = partial(messages.taxels, spec.type, reading, int(stamp_ns))
            yield Entry(int(recv_ns) or int(stamp_ns), spec.topic, spec.type, make)


def _picture(
    reader: EpisodeReader, messages: Messages, name: str, tick: int, stamp_ns: int, frame_id: str
) -> Any:
    data = reader.image_bytes(name, tick)
    kind = DEPTH_FORMAT if name in reader.depth_cameras else image_format(data)
    return messages.picture(data, stamp_ns, frame_id, kind)


def _numbers(reader: EpisodeReader, messages: Messages) -> Iterator[Entry]:
    """Yield the messages of every low-dimensional stream, in the unit of its driver."""
    rig = reader.rig
    low_dim: dict[str, StreamSpec | CommandSpec] = {**rig.streams, **rig.commands}
    for name, spec in low_dim.items():
        is_index = isinstance(spec, StreamSpec) and spec.role == "steps"
        names = (name,) if is_index else tuple(spec.names)
        table = _table(reader, name)
        stamps, received = table.pop("stamp_ns"), table.pop("recv_ns")
        if len(stamps) and (name in rig.states or name in rig.commands):
            table = _in_driver_units(reader, names, table)
        for row in range(len(stamps)):
            fields = {field: values[row] for field, values in table.items()}
            make = partial(messages.numbers, spec.type, names, fields, int(stamps[row]))
            yield Entry(int(received[row]) or int(stamps[row]), spec.topic, spec.type, make)


def _table(reader: EpisodeReader, name: str) -> dict[str, np.ndarray]:
    """Return a stream as its driver sent it; where that was not stored, joints and commands of the ticks."""
    rig, stored = reader.rig, reader.file.get("streams", ())
    table = reader.stream(name) if name in stored else {"stamp_ns": np.empty(0), "recv_ns": np.empty(0)}
    if len(table["stamp_ns"]) or not (name in rig.states or name in rig.commands):
        return table
    stamps = reader.timestamps(name)
    heard = stamps["index"] >= 0
    values = (reader.qpos if name in rig.states else reader.action)[heard]
    at_ticks = {"stamp_ns": reader.tick_ns[heard], "recv_ns": stamps["recv_ns"][heard]}
    names = (rig.states.get(name) or rig.commands[name]).names
    return at_ticks | {"position": np.take(values, rig.index_of(names), axis=1)}


def _in_driver_units(
    reader: EpisodeReader, names: tuple[str, ...], table: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the fields (N, n) of a table as the driver had sent them."""
    rig, main = reader.rig, "position" if "position" in table else "data"
    raw = np.array([vector_from_canonical(rig, names, row) for row in table[main]]).reshape(table[main].shape)
    found = {main: raw}
    if "velocity" in table:
        rows = zip(table["velocity"], raw, strict=True)
        found["velocity"] = np.array([rates_from_canonical(rig, names, v, r) for v, r in rows])
    if "effort" in table:  # only its sign follows the joint's: twice is back
        rows = zip(table["effort"], raw, strict=True)
        found["effort"] = np.array([efforts_to_canonical(rig, names, e, r) for e, r in rows])
    return found


def _geometry(reader: EpisodeReader, messages: Messages) -> Iterator[Entry]:
    """Yield poses of flanges, cameras and sensors, and outlines of the sensors in the pictures."""
    rig, file, known = reader.rig, reader.file, measured(reader.rig)
    fixed = [name for name in known.cameras if f"camera_pose/{name}" not in file]
    frames = {name: rig.cameras[name].frame_id or name for name in known.cameras}
    tracks = {f"{arm}.flange": file[f"observations/ee_pose/{arm}"][:] for arm in known.arms}
    tracks |= {frames[name]: reader.camera_pose(name) for name in known.cameras if name not in fixed}
    tracks |= {name: reader.sensor_pose(name) for name in known.sensors}
    if fixed:
        first_ns = int(reader.tick_ns[0])
        still = {frames[name]: reader.camera_pose(name)[0] for name in fixed}
        yield Entry(first_ns, "/tf_static", TRANSFORMS, partial(messages.transforms, still, first_ns))
    outlines = {
        camera: {sensor: reader.corners(camera, sensor) for sensor in known.sensors}
        for camera in known.cameras
    }
    for tick, stamp_ns in enumerate(reader.tick_ns.tolist()):
        if tracks:
            poses = {name: track[tick] for name, track in tracks.items()}
            yield Entry(stamp_ns, "/tf", TRANSFORMS, partial(messages.transforms, poses, stamp_ns))
        for camera, sensors in outlines.items():
            quads = {s: corners[tick] for s, corners in sensors.items() if np.isfinite(corners[tick]).all()}
            make = partial(messages.annotations, quads, stamp_ns)
            yield Entry(stamp_ns, f"/tacit/sensors/{camera}", ANNOTATIONS, make)
