"""Results into a rig: the value, and a record of where it came from.

Each function returns a new rig; `calibration_id` follows from the geometry, so it changes by itself.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tacit.errors import CalibrationError, did_you_mean
from tacit.geometry.camera import Camera, FisheyeCamera
from tacit.geometry.transforms import FloatArray
from tacit.rig import CalibrationRecord, GripperSpec, Rig, canonical_hash, parse_rig

VALUES = {
    ("cameras", "lens"): ("K", "D", "model"),
    ("cameras", "pose"): ("parent", "T_parent_camera"),
    ("tactile", "pose"): ("mount", "T_mount_sensor", "size_m"),
    ("arms", "base"): ("T_world_base",),
    ("arms", "model"): ("raw", "scale", "offset", "table"),
    ("arms", "zeros"): ("joints",),
}
"""What each kind of record vouches for: keys of the rig's entry."""


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
    """Return a record dated now that names the rig it replaces; a number that is none is left out."""
    numbers = {name: value for name, value in numbers.items() if not _is_unknown(value)}
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    replaces = rig.calibration_id
    return CalibrationRecord(
        parent=parent, child=child, date=now, method=f"tacit calibrate {method}", replaces=replaces, **numbers
    )


def _is_unknown(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


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
    # By way of plain data, so that every check of the schema runs again on what was calibrated.
    data = rig.model_dump(mode="json")
    _node(data, path).update(changes)
    new = parse_rig(data, f"{rig.name} with a new {'.'.join(path)}")
    if record is None:
        return new
    name = ".".join((*path, what))
    signed = record.model_copy(update={"value_sha256": value_sha256(new, name)})
    data["calibrations"][name] = signed.model_dump(mode="json")
    return parse_rig(data, f"{rig.name} with a record of {name}")


def value_sha256(rig: Rig, name: str) -> str | None:
    """Return the hash of what a record vouches for, such as `cameras.wrist.pose`; None if it is not there."""
    *path, what = name.split(".")
    try:
        node = _node(rig.model_dump(mode="json"), path)
    except (KeyError, TypeError):
        return None
    keys = VALUES.get((path[0], what), tuple(node))
    return canonical_hash({key: node[key] for key in keys})


def _node(data: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    for key in path:
        data = data[key]
    return data
