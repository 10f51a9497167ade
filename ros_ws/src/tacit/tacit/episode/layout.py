"""What a new episode file holds before its first tick: root attributes, calibration, empty columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import h5py
import numpy as np

import tacit
from tacit.episode import schema
from tacit.episode.columns import Attributes, Column, set_attributes
from tacit.geometry.footprint import FRESH
from tacit.images import encode_png
from tacit.rig import Rig, TaxelSpec, is_depth
from tacit.rig.scene import RigGeometry, RigLike, measured


def calibration_text(rig: Rig) -> str:
    """Return the geometric part of the rig as canonical JSON (which is YAML): the text whose sha256
    is `rig.calibration_id`, so an episode proves its own identifier."""
    return json.dumps(rig.calibration, sort_keys=True, separators=(",", ":"), allow_nan=False)


def root_attributes(rig: Rig) -> dict[str, str | float | bool]:
    """Return the root attributes that follow from the rig alone."""
    models = [arm.model or ("dh" if arm.dh else "urdf") for arm in rig.arms.values()]
    latency = {name: spec.latency_ms for name, spec in rig.specs.items()}
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


def write_static(file: h5py.File, rig: Rig, references: Mapping[str, np.ndarray]) -> None:
    """Write calibration, sensor descriptions and no-contact references by sensor: RGB uint8 of gels,
    (R, C, K) of taxels."""
    write_calibration(file, rig)
    for name, camera in rig.cameras.items():
        set_attributes(file[f"cameras/{name}"], {"width": camera.width, "height": camera.height})
    for name, sensor in rig.tactile.items():
        group = file[f"tactile/{name}"]
        set_attributes(group, {"type": sensor.sensor_type, "serial": sensor.serial})
        if name in references:
            write_reference(group, references[name])


def write_reference(group: h5py.Group, reference: np.ndarray) -> None:
    """Write what a sensor says without contact: a gel's picture, or the offset (R, C, K) of taxels."""
    if reference.dtype.kind == "f":
        group.create_dataset("reference", data=reference.astype(np.float32))
        return
    dataset = group.create_dataset("reference", shape=(1,), dtype=schema.VLEN_U1)
    dataset[0] = encode_png(reference)


def write_calibration(file: h5py.File, rig: Rig) -> None:
    """Write what a calibration decides of cameras and sensors, over what is there; what nobody measured
    stays away."""
    known = measured(rig)
    for name, camera in rig.cameras.items():
        group = file.require_group(f"cameras/{name}")
        if name not in known.cameras:
            continue
        for key, value in (("K", camera.K), ("D", camera.D), ("T", camera.T_parent_camera)):
            if key in group:  # another lens model may have another number of coefficients
                del group[key]
            group.create_dataset(key, data=np.asarray(value, dtype=np.float64))
        attributes: Attributes = {
            "distortion_model": camera.model,
            "kind": "eye_to_hand" if camera.parent == "world" else "eye_in_hand",
            "parent_frame": camera.parent,
            "calibration_id": rig.calibration_id,
        }
        set_attributes(group, attributes)
    for name, sensor in rig.tactile.items():
        if name not in known.sensors:
            file.require_group(f"tactile/{name}")
            continue
        described: Attributes = {
            "size_m": np.asarray(sensor.size_m[:2]),
            "thickness_m": sensor.size_m[2],
            "T_mount": np.asarray(sensor.T_mount_sensor),
            "mount_frame": sensor.mount,
        }
        set_attributes(file.require_group(f"tactile/{name}"), described)


def located(geometry: RigGeometry, states: np.ndarray, fresh: np.ndarray) -> dict[str, np.ndarray]:
    """Return {path: rows} of every per-tick dataset that follows from joints and calibration.

    Args:
        geometry: Scene of the rig.
        states: As stored, (N, S), so that a reader can compute the same.
        fresh: Where the joints were fresh (N,).
    """
    rows: dict[str, np.ndarray] = {}
    states = np.asarray(states, dtype=np.float64)
    with geometry.holding(states):
        rows |= {f"observations/ee_pose/{arm}": T for arm, T in geometry.flange_poses(states).items()}
        camera_poses = geometry.camera_poses(states)
        rows |= {f"camera_pose/{name}": camera_poses[name] for name in moving_cameras(geometry.rig)}
        rows |= {f"sensor_pose/{name}": T for name, T in geometry.sensor_poses(states).items()}
        tracks = geometry.footprint_tracks(states)
    for (camera, sensor), track in tracks.items():
        pair = f"{camera}/{sensor}"
        rows[f"sensor_bbox/{pair}"] = track.box
        rows[f"sensor_corners/{pair}"] = track.corners
        rows[f"sensor_visibility/{pair}"] = track.visibility
        rows[f"sensor_flags/{pair}"] = track.flags | np.where(fresh, FRESH, 0).astype(track.flags.dtype)
    return rows


def moving_cameras(rig: RigLike) -> list[str]:
    """Return the cameras that an arm carries; only their poses are stored at every tick."""
    return [name for name in measured(rig).cameras if rig.cameras[name].parent != "world"]


def image_path(rig: Rig, name: str) -> str:
    """Return where the images of a stream are.

    Colour cameras have a folder, which also links to the sensors' images; depth cameras have their own.
    """
    if name in rig.cameras:
        return f"{schema.DEPTH if is_depth(rig.cameras[name]) else schema.IMAGES}/{name}"
    return f"observations/{name}"


def create_columns(file: h5py.File, rig: Rig) -> dict[str, Column]:
    """Create every per-tick dataset of a rig, empty, with its attributes and links.

    Returns:
        {path: column}; the stamps of the ticks come first.
    """
    columns = [Column(file, schema.TICK_NS, (), np.int64, schema.STAMP_CHUNK)]
    columns += [_state_column(file, path, rig) for path in (schema.QPOS, schema.ACTION)]
    for name, stream in rig.streams.items():
        if stream.role == "steps" and schema.STEP_INDEX not in file:
            names = {"names": json.dumps(stream.names)}
            columns.append(Column(file, schema.STEP_INDEX, (), np.int32, schema.STAMP_CHUNK, names))
        elif stream.role in schema.EXTRA_ROLES:
            columns.append(Column(file, f"observations/extra/{name}", (len(stream.names),), np.float32))
    columns += _image_columns(file, rig)
    columns += [_taxel_column(file, name, spec) for name, spec in rig.taxels.items()]
    for name in rig.specs:
        columns += _timestamp_columns(file, name)
    known = measured(rig)
    columns += [_pose_column(file, f"observations/ee_pose/{arm}", f"{arm}.flange") for arm in known.arms]
    columns += [_pose_column(file, f"camera_pose/{name}", f"{name} camera") for name in moving_cameras(rig)]
    columns += [_pose_column(file, f"sensor_pose/{name}", name, rig) for name in known.sensors]
    for camera in known.cameras:
        for sensor in known.sensors:
            columns += _footprint_columns(file, rig, camera, sensor)
    return {column.path: column for column in columns}


def _state_column(file: h5py.File, path: str, rig: Rig) -> Column:
    """A (T, S) column in the order of the rig, with names and units."""
    units = ["m" if i in rig.gripper_indices else "rad" for i in range(len(rig.state_names))]
    attributes: Attributes = {
        "names": json.dumps(rig.state_names),
        "units": json.dumps(units),
        "gripper_indices": np.asarray(rig.gripper_indices, dtype=np.int64),
    }
    if path == schema.ACTION:
        attributes["space"] = "joint_position"
        attributes["commands"] = json.dumps({name: spec.names for name, spec in rig.commands.items()})
    return Column(file, path, (len(units),), np.float32, attributes=attributes)


def _image_columns(file: h5py.File, rig: Rig) -> list[Column]:
    """Each stream of pictures at its `image_path`; tactile ones are hard-linked beside the cameras."""
    columns = []
    specs = rig.images
    for name, spec in specs.items():
        kind: Attributes = {"encoding": "jpeg", "color": "rgb", "channels": 3}
        if is_depth(spec):
            kind = {"encoding": "png", "dtype": "uint16", "units": "mm", "channels": 1}
        attributes: Attributes = kind | {
            "height": spec.height,
            "width": spec.width,
            "frame_id": getattr(spec, "frame_id", ""),
            "pipeline_json": "{}",
        }
        columns.append(Column(file, image_path(rig, name), (), schema.VLEN_U1, schema.VLEN_CHUNK, attributes))
    link_tactile(file, rig.gels)
    return columns


def _taxel_column(file: h5py.File, name: str, spec: TaxelSpec) -> Column:
    array = spec.array
    ends = {"low": np.array(array.low), "high": np.array(array.high)}
    return Column(file, f"{schema.TAXELS}/{name}", array.shape, np.float32, 64, ends | {"unit": array.unit})


def link_tactile(file: h5py.File, sensors: Iterable[str]) -> None:
    """Give each tactile stream a second name beside the cameras, where other trainers look."""
    for name in sensors:
        file[f"{schema.IMAGES}/{name}"] = file[f"observations/{name}"]


def _timestamp_columns(file: h5py.File, name: str) -> list[Column]:
    """stamp_ns, recv_ns, index, fresh of one stream."""
    group = f"timestamps/{name}"
    columns = []
    for field in schema.STAMP_FIELDS:
        dtype = np.uint8 if field == "fresh" else np.int64
        columns.append(Column(file, f"{group}/{field}", (), dtype, schema.STAMP_CHUNK))
    file[group].attrs["stamp_source"] = "header"
    return columns


def _pose_column(file: h5py.File, path: str, child: str, rig: Rig | None = None) -> Column:
    """A (T, 4, 4) column of T_base_child; the base frame of an episode is the rig's world."""
    attributes = {"parent": "world", "child": child}
    if rig is not None:
        attributes |= {"fk_model": "tacit.rig.scene.RigGeometry", "fk_sha256": rig.calibration_id}
    return Column(file, path, (4, 4), np.float64, 64, attributes)


def _footprint_columns(file: h5py.File, rig: Rig, camera: str, sensor: str) -> list[Column]:
    """box, corners, visibility, flags of one sensor in one camera."""
    spec, pair = rig.cameras[camera], f"{camera}/{sensor}"
    attributes: Attributes = {
        "width": spec.width,
        "height": spec.height,
        "convention": schema.BBOX_CONVENTION,
    }
    return [
        Column(file, f"sensor_bbox/{pair}", (4,), np.float32, attributes=attributes),
        Column(file, f"sensor_corners/{pair}", (4, 2), np.float32),
        Column(file, f"sensor_visibility/{pair}", (), np.float32, schema.STAMP_CHUNK),
        Column(file, f"sensor_flags/{pair}", (), np.uint8, schema.STAMP_CHUNK),
    ]
