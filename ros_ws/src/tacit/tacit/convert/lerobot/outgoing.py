"""What of our episodes goes to a LeRobot data set: which features, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tacit.convert.lerobot import layout
from tacit.convert.lerobot.videos import Codec, can_encode
from tacit.episode import EpisodeReader, schema
from tacit.errors import EpisodeError
from tacit.rig import Rig

BOX_NAMES = ("x_min", "y_min", "x_max", "y_max")
PICTURE_NAMES = ("height", "width", "channels")


class Feature(NamedTuple):
    """One column: what LeRobot calls its type, the shape of one row, names of the elements."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None


class Plan(NamedTuple):
    """What every episode of the new data set has.

    Attributes:
        fps: Rate of the frames [Hz].
        robot: Name of the robot.
        spans: (start, end) of each arm and gripper in state and action.
        numbers: Features of numbers by key.
        pictures: Features of pictures by stream.
        codecs: Codec of the streams that become videos; the others become single pictures.
        notes: What was left out, and why.
    """

    fps: float
    robot: str
    spans: dict[str, tuple[int, int]]
    numbers: dict[str, Feature]
    pictures: dict[str, Feature]
    codecs: dict[str, Codec]
    notes: tuple[str, ...]


class _Told(NamedTuple):
    fps: float
    robot: str
    numbers: dict[str, Feature]
    pictures: dict[str, Feature]
    depth: tuple[str, ...]


def make_plan(paths: Sequence[Path], codec: Codec | None) -> Plan:
    """Look at every episode and return what they have in common.

    Args:
        paths: Episodes.
        codec: Wanted of videos; None keeps each picture as it is, without a video.

    Raises:
        EpisodeError: Episodes of several rates or robots, or an unreadable one.
    """
    told: list[_Told] = []
    for path in paths:
        with EpisodeReader(path) as reader:
            told.append(_told(reader))
            _require_equal(told[0], told[-1], paths[0], path)
            rig = reader.rig
    numbers, few = _common([item.numbers for item in told])
    pictures, fewer = _common([item.pictures for item in told])
    notes = [f"{name}: left out, for not every episode has it at every frame" for name in (*few, *fewer)]
    notes += [f"{name}: left out, for LeRobot holds no depth" for name in told[0].depth]
    codecs, without = _codecs(pictures, codec)
    notes += without
    return Plan(told[0].fps, told[0].robot, _spans(rig), numbers, pictures, codecs, tuple(notes))


def numbers_of(reader: EpisodeReader) -> dict[str, np.ndarray]:
    """Return every column of numbers (T, ...) that an episode has; geometry and extras as stored.

    Raises:
        EpisodeError: A state or action that is not finite.
    """
    tables = {layout.STATE: reader.qpos, layout.ACTION: reader.targets}
    for key, table in tables.items():
        if not np.isfinite(table).all():
            raise EpisodeError(f"{reader.path}: {key} is not finite; run `tacit check` on the episode")
    found = {key: table.astype(np.float32) for key, table in tables.items()}
    found[layout.STAMP_NS] = reader.tick_ns.astype(np.int64)
    for key, told in ((layout.VELOCITY, reader.qvel), (layout.EFFORT, reader.effort)):
        if told is not None and np.isfinite(told).all():
            found[key] = told.astype(np.float32)
    file = reader.file
    groups = {
        layout.EXTRA: "observations/extra",
        layout.EE_POSE: "observations/ee_pose",
        layout.CAMERA_POSE: "camera_pose",
        layout.SENSOR_POSE: "sensor_pose",
        layout.TAXELS: schema.TAXELS,
    }
    for prefix, group in groups.items():
        for name in file.get(group, ()):
            key = layout.extra_key(name) if prefix == layout.EXTRA else prefix + name
            found[key] = file[f"{group}/{name}"][:].astype(np.float32)
    for camera in reader.cameras:
        for sensor in reader.tactile:
            if reader.is_located(camera, sensor):
                found[f"{layout.SENSOR_BOX}{camera}.{sensor}"] = reader.boxes(camera, sensor)
    return {key: table for key, table in found.items() if np.isfinite(table).any()}


def _told(reader: EpisodeReader) -> _Told:
    rig = reader.rig
    pictures = {
        name: Feature("video", (spec.height, spec.width, 3), PICTURE_NAMES)
        for name, spec in rig.images.items()
        if name in (*reader.cameras, *reader.gels) and _always(reader, name)
    }
    numbers = {
        key: Feature(str(table.dtype), table.shape[1:] or (1,), _names(key, rig))
        for key, table in numbers_of(reader).items()
    }
    return _Told(reader.fps, rig.name, numbers, pictures, reader.depth_cameras)


def _always(reader: EpisodeReader, stream: str) -> bool:
    """Whether a picture is there at every tick; an optional camera may have come late or never."""
    return bool((reader.file[f"timestamps/{stream}/index"][:] >= 0).all())


def _names(key: str, rig: Rig) -> tuple[str, ...] | None:
    if key in (layout.STATE, layout.ACTION, layout.VELOCITY, layout.EFFORT):
        return rig.state_names
    if key.startswith(layout.SENSOR_BOX):
        return BOX_NAMES
    stream = rig.streams.get(layout.extra_stream(key))
    return None if stream is None else tuple(stream.names)


def _require_equal(first: _Told, other: _Told, first_path: Path, path: Path) -> None:
    """Refuse what cannot stand in one data set."""
    if other.fps != first.fps:
        raise EpisodeError(
            f"{path}: {other.fps:g} Hz, but {first_path.name} has {first.fps:g}; a LeRobot data set has one "
            "rate: convert them apart"
        )
    for kind, one, two in (
        ("features", first.numbers, other.numbers),
        ("size", first.pictures, other.pictures),
    ):
        for key in set(one) & set(two):
            if one[key] != two[key]:
                raise EpisodeError(
                    f"{path}: {key}: {kind} {two[key].names or two[key].shape} {two[key].shape}, but "
                    f"{first_path.name} has {one[key].names or ''} {one[key].shape}; convert them apart"
                )


def _common(items: Sequence[dict[str, Feature]]) -> tuple[dict[str, Feature], list[str]]:
    """Return what all have, in the order of the first, and the names that only some have."""
    everywhere = {key: item for key, item in items[0].items() if all(key in other for other in items)}
    anywhere = sorted({key for item in items for key in item} - set(everywhere))
    return everywhere, anywhere


def _codecs(pictures: dict[str, Feature], wanted: Codec | None) -> tuple[dict[str, Codec], list[str]]:
    """Return the codec of each stream that can be a video, and a note on the others."""
    if wanted is None:
        return {}, []
    ways: tuple[Codec, ...] = ("av1", "h264") if wanted == "av1" else ("h264",)
    chosen: dict[str, Codec] = {}
    notes = []
    for name, feature in pictures.items():
        height, width, _ = feature.shape
        codec = next((way for way in ways if can_encode(way, height, width)), None)
        if codec is not None:
            chosen[name] = codec
        if codec != wanted:
            instead = f"is written as {codec}" if codec else "is kept as single pictures"
            notes.append(f"{name}: {width}x{height} is no size for {wanted} here and {instead}")
    return chosen, notes


def _spans(rig: Rig) -> dict[str, tuple[int, int]]:
    """Return where each arm and gripper stands in the state."""
    spans = {}
    for name, arm in rig.arms.items():
        joints = rig.arm_slice(name)
        spans[name] = (joints.start, joints.stop)
        if arm.gripper is not None:
            label = "gripper" if len(rig.arms) == 1 else f"{name}_gripper"
            spans[label] = (joints.stop, joints.stop + 1)
    return spans
