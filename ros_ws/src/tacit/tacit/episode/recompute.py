"""Old episodes under a new calibration: the same joints and images, poses and boxes derived anew.

Where the new rig reads a joint or gripper otherwise (a zero offset, another opening model), stored
values go back to what the driver said and forward again. The calibration at recording stays in the
file, and every change of it is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tacit.episode import schema
from tacit.episode.columns import AttributeValue, set_attributes
from tacit.episode.edit import edited, note_change
from tacit.episode.finish import content_sha256, write_joint_rates, write_statistics
from tacit.episode.layout import calibration_text, located, moving_cameras, write_calibration
from tacit.episode.reader import EpisodeReader
from tacit.errors import EpisodeError, did_you_mean
from tacit.geometry.footprint import FRESH
from tacit.rig import GripperSpec, JointSpec, Rig, parse_rig
from tacit.rig.scene import RigGeometry
from tacit.rig.units import from_canonical, to_canonical

TEMPORARY_SUFFIX = ".recomputing"
"""Not `.hdf5`: a copy that is killed halfway must never be taken for an episode."""
CAMERA_KEYS = ("K", "D", "model", "parent", "T_parent_camera")
SENSOR_KEYS = ("mount", "T_mount_sensor", "size_m")
ARM_KEYS = ("model", "dh", "urdf", "base_link", "tip_link", "T_world_base")
JOINT_KEYS = ("sign", "offset", "urdf_joint")
GRIPPER_KEYS = ("axis", "raw", "scale", "offset", "table")
BLOCK = 4096
SLOPE_STEP = 1e-6


@dataclass(frozen=True)
class Recomputed:
    """What has changed in one episode.

    Attributes:
        path: Where the result is.
        before, after: `calibration_id`.
        shift_px: {(camera, sensor): median distance of box centres from where they were [px]}; NaN
            where no box is finite in both.
        converted: State names whose values were read anew.
    """

    path: Path
    before: str
    after: str
    shift_px: dict[tuple[str, str], float]
    converted: tuple[str, ...]


def recompute_boxes(path: str | Path, rig: Rig, target: str | Path | None = None) -> Recomputed:
    """Derive poses and boxes of an episode from another calibration of the same robot.

    Args:
        path: A finished episode.
        rig: Gives the calibration: lenses, mounts, sensors, kinematics, gripper models. Topics, rates
            and limits stay as recorded.
        target: Where the result goes; over the episode itself when left out, in one step.

    Raises:
        EpisodeError: Not finished, foreign, of another robot, or `target` exists.
    """
    path = Path(path)
    with EpisodeReader(path) as reader:
        if reader.is_foreign or reader.state not in schema.FINAL_STATES:
            raise EpisodeError(f"{path}: expected a finished tacit episode; finish it with `tacit recover`")
        recorded = reader.rig
    if recorded.unmeasured:
        raise EpisodeError(
            f"{path}: comes from others, without {', '.join(recorded.unmeasured)}; convert the data set "
            "again with --rig and the calibrated rig"
        )
    renewed = with_calibration(recorded, rig, path.name)
    if target is not None and Path(target).exists():
        raise EpisodeError(f"{target}: exists; give another folder, or leave it away to change the original")
    place = None if target is None else Path(target)
    with edited(path, place, TEMPORARY_SUFFIX) as file:
        return _rewrite(file, recorded, renewed, place or path)


def with_calibration(recorded: Rig, rig: Rig, source: str) -> Rig:
    """Return the recorded rig with the geometry of another one.

    Raises:
        EpisodeError: Arms, joints, cameras, sensors or image sizes are not the same.
    """
    data, new = recorded.model_dump(mode="json"), rig.model_dump(mode="json")
    _same_names(source, "state names", recorded.state_names, rig.state_names)
    for group in ("arms", "cameras", "tactile"):
        _same_names(source, group, data[group], new[group])
    for name, camera in data["cameras"].items():
        sizes = [(spec["width"], spec["height"]) for spec in (camera, new["cameras"][name])]
        if sizes[0] != sizes[1]:
            raise EpisodeError(
                f"{source}: cameras.{name}: stored {sizes[0][0]}x{sizes[0][1]}, the rig has "
                f"{sizes[1][0]}x{sizes[1][1]}; K belongs to a size"
            )
        _copy(camera, new["cameras"][name], CAMERA_KEYS)
    for name, sensor in data["tactile"].items():
        _copy(sensor, new["tactile"][name], SENSOR_KEYS)
    for name, arm in data["arms"].items():
        _copy(arm, new["arms"][name], ARM_KEYS)
        for joint, other in zip(arm["joints"], new["arms"][name]["joints"], strict=True):
            _copy(joint, other, JOINT_KEYS)
        if arm["gripper"]:
            _copy(arm["gripper"], new["arms"][name]["gripper"], GRIPPER_KEYS)
    data["calibrations"] = new["calibrations"]
    return parse_rig(data, f"{source} with the calibration of {rig.name}")


def _same_names(
    source: str, label: str, recorded: Sequence[str] | Mapping, new: Sequence[str] | Mapping
) -> None:
    if list(recorded) == list(new):
        return
    for name in [*recorded]:
        if name not in [*new]:
            raise EpisodeError(f"{source}: {label}: the rig has no {name!r}; {did_you_mean(name, new)}")
    raise EpisodeError(f"{source}: {label}: recorded {', '.join(recorded)}; the rig has {', '.join(new)}")


def _copy(target: dict, source: Mapping, keys: Sequence[str]) -> None:
    target.update({key: source[key] for key in keys})


def _rewrite(file: h5py.File, recorded: Rig, renewed: Rig, place: Path) -> Recomputed:
    """Bring every part of the file that follows from the calibration up to date."""
    before = str(file.attrs["calibration_id"])
    converted = _convert_values(file, recorded, renewed)
    write_calibration(file, renewed)
    shift = _write_geometry(file, renewed)
    for group in ("stats/qpos", "stats/action"):
        if group in file:
            del file[group]
    write_statistics(file)
    _write_identity(file, recorded, renewed, converted)
    return Recomputed(place, before, renewed.calibration_id, shift, converted)


def _convert_values(file: h5py.File, recorded: Rig, renewed: Rig) -> tuple[str, ...]:
    """Read values anew whose model has changed, at the ticks and at their native rate; return their names."""
    changed = {
        name: _conversion(recorded, renewed, name)
        for name, old, new in zip(recorded.state_names, recorded.members, renewed.members, strict=True)
        if _reading(old) != _reading(new)
    }
    if not changed:
        return ()
    for path in (schema.QPOS, schema.ACTION, "action_sent"):
        if path in file:
            _convert_columns(file[path], list(recorded.state_names), changed)
    for table in _tables(file):
        _convert_table(table, schema.names_of(table), changed)
    for path in (schema.QVEL, schema.EFFORT):
        if path in file:
            del file[path]
    write_joint_rates(file)
    return tuple(changed)


def _tables(file: h5py.File) -> Iterator[h5py.Group]:
    for table in file.get("streams", {}).values():
        if "names" in table.attrs and ("position" in table or "data" in table):
            yield table


def _convert_columns(
    dataset: h5py.Dataset, names: list[str], changed: Mapping[str, Callable[[np.ndarray], np.ndarray]]
) -> None:
    values = dataset[:]
    for name, convert in changed.items():
        if name in names:
            values[:, names.index(name)] = convert(values[:, names.index(name)].astype(np.float64))
    dataset[...] = values


def _convert_table(
    table: h5py.Group, names: list[str], changed: Mapping[str, Callable[[np.ndarray], np.ndarray]]
) -> None:
    """Positions as such; velocities by the slope there, efforts by its sign."""
    main = table["position"] if "position" in table else table["data"]
    if main.ndim != 2 or main.shape[1] != len(names):
        return
    before = main[:]
    for field in ("velocity", "effort"):
        if field in table:
            rates = table[field][:]
            for name in set(changed) & set(names):
                slope = _slope(changed[name], before[:, names.index(name)])
                rates[:, names.index(name)] *= slope if field == "velocity" else np.sign(slope)
            table[field][...] = rates
    _convert_columns(main, names, changed)


def _slope(convert: Callable[[np.ndarray], np.ndarray], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((convert(values + SLOPE_STEP) - convert(values - SLOPE_STEP)) / (2 * SLOPE_STEP))


def _conversion(recorded: Rig, renewed: Rig, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns recorded values (N,) of one joint into those of the renewed rig."""

    def convert(values: np.ndarray) -> np.ndarray:
        raws = (from_canonical(recorded, name, float(value)) for value in values)
        return np.array([to_canonical(renewed, name, raw) for raw in raws])

    return convert


def _reading(member: JointSpec | GripperSpec) -> tuple[object, ...]:
    """What decides how a driver's value is read."""
    if isinstance(member, JointSpec):
        return member.sign, member.offset
    return member.raw, member.scale, member.offset, member.table


def _write_geometry(file: h5py.File, rig: Rig) -> dict[tuple[str, str], float]:
    """Write poses and footprints of the joints as stored (f4); return how far boxes have moved."""
    pairs = [(camera, sensor) for camera in rig.cameras for sensor in rig.tactile]
    before = {pair: file[f"sensor_bbox/{pair[0]}/{pair[1]}"][:] for pair in pairs}
    flags = [file[f"sensor_flags/{camera}/{sensor}"] for camera, sensor in pairs]
    states = file[schema.QPOS][:].astype(np.float64)
    fresh = flags[0][:] & FRESH if flags else np.zeros(len(states), bool)  # the same in every pair
    _move_camera_poses(file, rig, len(states))
    for path, rows in located(RigGeometry(rig), states, fresh).items():
        file[path][...] = rows
    for name in rig.tactile:
        file[f"sensor_pose/{name}"].attrs["fk_sha256"] = rig.calibration_id
    return {pair: _median_shift(before[pair], file[f"sensor_bbox/{pair[0]}/{pair[1]}"][:]) for pair in pairs}


def _move_camera_poses(file: h5py.File, rig: Rig, num_ticks: int) -> None:
    """A camera that has been moved from the world to an arm, or back, changes where its pose is kept."""
    moving = moving_cameras(rig)
    for name in rig.cameras:
        path = f"camera_pose/{name}"
        if name in moving and path not in file:
            dataset = file.create_dataset(path, (num_ticks, 4, 4), np.float64)
            set_attributes(dataset, {"parent": "world", "child": f"{name} camera"})
        elif name not in moving and path in file:
            del file[path]


def _median_shift(before: np.ndarray, after: np.ndarray) -> float:
    both = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    if not both.any():
        return float("nan")
    moved = (after[both, :2] + after[both, 2:] - before[both, :2] - before[both, 2:]) / 2
    return float(np.median(np.linalg.norm(moved, axis=1)))


def _write_identity(file: h5py.File, recorded: Rig, renewed: Rig, converted: Sequence[str]) -> None:
    """New identifiers; those of the recording stay under `recorded_*`, and the change is listed."""
    for key in ("calibration_id", "calibration_yaml", "rig_id", "content_sha256"):
        if f"recorded_{key}" not in file.attrs and key in file.attrs:
            file.attrs[f"recorded_{key}"] = file.attrs[key]
    moved = {"from": recorded.calibration_id, "to": renewed.calibration_id, "converted": list(converted)}
    note_change(file, "recalibrated", moved)
    attributes: dict[str, AttributeValue] = {
        "calibration_id": renewed.calibration_id,
        "calibration_yaml": calibration_text(renewed),
        "rig_id": renewed.rig_id,
        "contract_yaml": renewed.to_yaml(),
        "content_sha256": content_sha256(file),
    }
    set_attributes(file, attributes)
