"""What a new episode file holds before its first tick: root attributes, calibration, empty columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import h5py
import numpy as np

import tacit
from tacit.episode import schema
from tacit.episode.columns import AttributeValue, Column, set_attributes
from tacit.images import encode_png
from tacit.rig import CameraSpec, Rig, StreamBase, TactileSpec


@dataclass(frozen=True)
class Columns:
    """The growing datasets of an episode, by what feeds them (keys are stream names)."""

    tick_ns: Column
    qpos: Column
    action: Column
    step_index: Column | None
    images: dict[str, Column]
    extra: dict[str, Column]
    timestamps: dict[str, tuple[Column, Column, Column, Column]]
    ee_pose: dict[str, Column]
    camera_pose: dict[str, Column]
    sensor_pose: dict[str, Column]
    footprints: dict[tuple[str, str], tuple[Column, Column, Column, Column]]

    def all(self) -> Iterable[Column]:
        """Yield every column once."""
        yield from (self.tick_ns, self.qpos, self.action)
        if self.step_index:
            yield self.step_index
        for group in (self.images, self.extra, self.ee_pose, self.camera_pose, self.sensor_pose):
            yield from group.values()
        for columns in (*self.timestamps.values(), *self.footprints.values()):
            yield from columns


def calibration_text(rig: Rig) -> str:
    """Return the geometric part of the rig as canonical JSON (which is YAML): the text whose sha256
    is `rig.calibration_id`, so an episode proves its own identifier."""
    return json.dumps(rig.calibration, sort_keys=True, separators=(",", ":"), allow_nan=False)


def root_attributes(rig: Rig) -> dict[str, AttributeValue]:
    """Return the root attributes that follow from the rig alone."""
    models = [arm.model or ("dh" if arm.dh else "urdf") for arm in rig.arms.values()]
    latency = {name: spec.latency_ms for name, spec in stream_specs(rig).items()}
    return {
        "schema": schema.SCHEMA,
        "schema_version": schema.SCHEMA_VERSION,
        "state": schema.RECORDING,
        "compress": True,
        "fps": float(rig.alignment.rate_hz),
        "tick_source": rig.alignment.tick_source,
        "latency_json": json.dumps(latency),
        "embodiment": rig.name,
        "embodiment_type": "robot",
        "robot_model": "+".join(models),
        "rig_id": rig.rig_id,
        "calibration_id": rig.calibration_id,
        "calibration_yaml": calibration_text(rig),
        "contract_yaml": rig.to_yaml(),
        "software_version": tacit.__version__,
    }


def stream_specs(rig: Rig) -> dict[str, StreamBase]:
    """Return all streams of a rig by name."""
    return {**rig.cameras, **rig.tactile, **rig.streams, **rig.commands}


def write_static(file: h5py.File, rig: Rig, references: Mapping[str, np.ndarray]) -> None:
    """Write calibration, sensor descriptions and no-contact references (RGB uint8 by sensor)."""
    for name, camera in rig.cameras.items():
        group = file.create_group(f"cameras/{name}")
        group.create_dataset("K", data=np.asarray(camera.K, dtype=np.float64))
        group.create_dataset("D", data=np.asarray(camera.D, dtype=np.float64))
        group.create_dataset("T", data=np.asarray(camera.T_parent_camera, dtype=np.float64))
        attributes: dict[str, AttributeValue] = {
            "distortion_model": camera.model,
            "width": camera.width,
            "height": camera.height,
            "kind": "eye_to_hand" if camera.parent == "world" else "eye_in_hand",
            "parent_frame": camera.parent,
            "calibration_id": rig.calibration_id,
        }
        set_attributes(group, attributes)
    for name, sensor in rig.tactile.items():
        group = file.create_group(f"tactile/{name}")
        attributes = {
            "type": sensor.sensor_type,
            "serial": sensor.serial,
            "size_m": np.asarray(sensor.size_m[:2]),
            "thickness_m": sensor.size_m[2],
            "T_mount": np.asarray(sensor.T_mount_sensor),
            "mount_frame": sensor.mount,
        }
        set_attributes(group, attributes)
        if name in references:
            dataset = group.create_dataset("reference", shape=(1,), dtype=schema.VLEN_U1)
            dataset[0] = encode_png(references[name])


def create_columns(file: h5py.File, rig: Rig) -> Columns:
    """Create every per-tick dataset of a rig, empty, with its attributes and links."""
    steps = [stream for stream in rig.streams.values() if stream.role == "steps"]
    step_index = None
    if steps:
        attributes = {"names": json.dumps(steps[0].names)}
        step_index = Column(file, schema.STEP_INDEX, (), np.int32, schema.STAMP_CHUNK, attributes)
    moving = [name for name, camera in rig.cameras.items() if camera.parent != "world"]
    return Columns(
        tick_ns=Column(file, schema.TICK_NS, (), np.int64, schema.STAMP_CHUNK),
        qpos=_state_column(file, schema.QPOS, rig),
        action=_state_column(file, schema.ACTION, rig),
        step_index=step_index,
        images=_image_columns(file, rig),
        extra={
            name: Column(file, f"observations/extra/{name}", (len(s.names),), np.float32)
            for name, s in rig.streams.items()
            if s.role == "extra"
        },
        timestamps={name: _timestamp_columns(file, name) for name in stream_specs(rig)},
        ee_pose={arm: _pose_column(file, f"observations/ee_pose/{arm}", f"{arm}.flange") for arm in rig.arms},
        camera_pose={name: _pose_column(file, f"camera_pose/{name}", f"{name} camera") for name in moving},
        sensor_pose={name: _pose_column(file, f"sensor_pose/{name}", name, rig) for name in rig.tactile},
        footprints={(c, s): _footprint_columns(file, rig, c, s) for c in rig.cameras for s in rig.tactile},
    )


def _state_column(file: h5py.File, path: str, rig: Rig) -> Column:
    """A (T, S) column in the order of the rig, with names and units."""
    units = ["m" if i in rig.gripper_indices else "rad" for i in range(len(rig.state_names))]
    attributes: dict[str, AttributeValue] = {
        "names": json.dumps(rig.state_names),
        "units": json.dumps(units),
        "gripper_indices": np.asarray(rig.gripper_indices, dtype=np.int64),
    }
    if path == schema.ACTION:
        attributes["space"] = "joint_position"
    return Column(file, path, (len(units),), np.float32, attributes=attributes)


def _image_columns(file: h5py.File, rig: Rig) -> dict[str, Column]:
    """Cameras under observations/images; tactile under observations, hard-linked there."""
    columns = {}
    specs: dict[str, CameraSpec | TactileSpec] = {**rig.cameras, **rig.tactile}
    for name, spec in specs.items():
        attributes: dict[str, AttributeValue] = {
            "encoding": "jpeg",
            "color": "rgb",
            "height": spec.height,
            "width": spec.width,
            "channels": 3,
            "frame_id": getattr(spec, "frame_id", ""),
            "pipeline_json": "{}",
        }
        path = f"{schema.IMAGES}/{name}" if name in rig.cameras else f"observations/{name}"
        columns[name] = Column(file, path, (), schema.VLEN_U1, schema.VLEN_CHUNK, attributes)
    for name in rig.tactile:
        file[f"{schema.IMAGES}/{name}"] = file[f"observations/{name}"]
    return columns


def _timestamp_columns(file: h5py.File, name: str) -> tuple[Column, Column, Column, Column]:
    """stamp_ns, recv_ns, index, fresh of one stream."""
    group = f"timestamps/{name}"
    fields = [
        Column(file, f"{group}/{f}", chunk=schema.STAMP_CHUNK) for f in ("stamp_ns", "recv_ns", "index")
    ]
    fresh = Column(file, f"{group}/fresh", (), np.uint8, schema.STAMP_CHUNK)
    file[group].attrs["stamp_source"] = "header"
    return fields[0], fields[1], fields[2], fresh


def _pose_column(file: h5py.File, path: str, child: str, rig: Rig | None = None) -> Column:
    """A (T, 4, 4) column of T_base_child; the base frame of an episode is the rig's world."""
    attributes: dict[str, AttributeValue] = {"parent": "world", "child": child}
    if rig is not None:
        attributes |= {"fk_model": "tacit.rig.scene.RigGeometry", "fk_sha256": rig.calibration_id}
    return Column(file, path, (4, 4), np.float64, 64, attributes)


def _footprint_columns(
    file: h5py.File, rig: Rig, camera: str, sensor: str
) -> tuple[Column, Column, Column, Column]:
    """box, corners, visibility, flags of one sensor in one camera."""
    spec = rig.cameras[camera]
    attributes: dict[str, AttributeValue] = {
        "width": spec.width,
        "height": spec.height,
        "convention": schema.BBOX_CONVENTION,
    }
    pair = f"{camera}/{sensor}"
    return (
        Column(file, f"sensor_bbox/{pair}", (4,), np.float32, attributes=attributes),
        Column(file, f"sensor_corners/{pair}", (4, 2), np.float32),
        Column(file, f"sensor_visibility/{pair}", (), np.float32, schema.STAMP_CHUNK),
        Column(file, f"sensor_flags/{pair}", (), np.uint8, schema.STAMP_CHUNK),
    )
