"""Results into a rig: the value, and a record of where it came from.

Each function returns a new rig; `calibration_id` follows from the geometry, so it changes by itself.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tacit.camera import Camera, FisheyeCamera
from tacit.errors import CalibrationError, did_you_mean
from tacit.rig import CalibrationRecord, GripperSpec, Rig, parse_rig
from tacit.transforms import FloatArray


def with_intrinsics(rig: Rig, name: str, camera: Camera, record: CalibrationRecord | None = None) -> Rig:
    """Return the rig with the lens of one camera replaced, scaled to its stored image size.

    Raises:
        CalibrationError: No such camera, or pictures of another aspect than the stored images.
    """
    known(rig, "camera", name, rig.cameras)
    spec = rig.cameras[name]
    if camera.width * spec.height != camera.height * spec.width:
        raise CalibrationError(
            f"pictures are {camera.width}x{camera.height}, cameras.{name} stores {spec.width}x{spec.height}: "
            "another aspect means a crop; calibrate with pictures of the stored size"
        )
    scaled = camera.scaled(spec.width, spec.height)
    model = "fisheye" if isinstance(camera, FisheyeCamera) else "pinhole"
    changes = {"K": scaled.K.tolist(), "D": list(scaled.D), "model": model}
    return _changed(rig, ("cameras", name), changes, "lens", record)


def with_camera(rig: Rig, name: str, **changes: object) -> Rig:
    """Return the rig with some fields of one camera replaced, without a record."""
    return _changed(rig, ("cameras", name), changes, "", None)


def with_camera_pose(rig: Rig, name: str, T: FloatArray, record: CalibrationRecord | None = None) -> Rig:
    """Return the rig with T_parent_camera of one camera replaced."""
    known(rig, "camera", name, rig.cameras)
    return _changed(rig, ("cameras", name), {"T_parent_camera": T.tolist()}, "pose", record)


def with_sensor(
    rig: Rig, name: str, T: FloatArray, size_m: tuple[float, float, float], record: CalibrationRecord | None
) -> Rig:
    """Return the rig with pose and size of one tactile sensor replaced."""
    known(rig, "sensor", name, rig.tactile)
    changes = {"T_mount_sensor": T.tolist(), "size_m": [float(side) for side in size_m]}
    return _changed(rig, ("tactile", name), changes, "pose", record)


def with_base(rig: Rig, arm: str, T_world_base: FloatArray, record: CalibrationRecord | None) -> Rig:
    """Return the rig with the base of one arm elsewhere."""
    known(rig, "arm", arm, rig.arms)
    return _changed(rig, ("arms", arm), {"T_world_base": T_world_base.tolist()}, "base", record)


def with_gripper(rig: Rig, arm: str, gripper: GripperSpec, record: CalibrationRecord | None) -> Rig:
    """Return the rig with the opening model of one gripper replaced."""
    known(rig, "arm", arm, rig.arms)
    return _changed(rig, ("arms", arm, "gripper"), gripper.model_dump(mode="json"), "model", record)


def with_joint_offsets(
    rig: Rig, arm: str, offsets: Mapping[str, float], record: CalibrationRecord | None
) -> Rig:
    """Return the rig with something added to the zero offsets of some joints [rad]."""
    known(rig, "arm", arm, rig.arms)
    joints = [joint.model_dump(mode="json") for joint in rig.arms[arm].joints]
    for joint in joints:
        joint["offset"] += offsets.get(joint["name"], 0.0)
    return _changed(rig, ("arms", arm), {"joints": joints}, "zeros", record)


def record_of(
    rig: Rig, method: str, *, parent: str = "", child: str = "", **numbers: Any
) -> CalibrationRecord:
    """Return a record dated now that names the rig it replaces."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    replaces = rig.calibration_id
    return CalibrationRecord(
        parent=parent, child=child, date=now, method=f"tacit calibrate {method}", replaces=replaces, **numbers
    )


def write_rig(rig: Rig, path: Path) -> None:
    """Write a rig in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(rig.to_yaml(), encoding="utf-8")
    os.replace(temporary, path)


def known(rig: Rig, kind: str, name: str, names: Mapping[str, object]) -> None:
    """Raise CalibrationError where a rig has no such camera, sensor or arm."""
    if name not in names:
        raise CalibrationError(f"rig {rig.name}: no {kind} {name!r}; {did_you_mean(name, names)}")


def _changed(
    rig: Rig,
    path: tuple[str, ...],
    changes: Mapping[str, object],
    what: str,
    record: CalibrationRecord | None,
) -> Rig:
    data = rig.model_dump(mode="json")
    node = data
    for key in path:
        node = node[key]
    node.update(changes)
    if record is not None:
        data["calibrations"][".".join((*path, what))] = record.model_dump(mode="json")
    return parse_rig(data, f"{rig.name} with a new {'.'.join(path)}")
