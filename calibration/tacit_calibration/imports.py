"""Calibration samples from what is there already: a recorded episode, or a folder with a table of joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.episode import EpisodeReader
from tacit.errors import CalibrationError
from tacit.images import encode_png
from tacit.record.samples import SampleFolder
from tacit.record.stillness import StillDetector, Tolerances, is_new
from tacit.rig import Rig
from tacit.rig.units import from_canonical, to_canonical
from tacit_calibration.detection import read_picture
from tacit_calibration.poses.files import read_poses
from tacit_calibration.rig_update import known
from tacit_calibration.samples import read_table

JOINTS_CSV = "joints.csv"
MAX_JOINT_RAD = 7.0
"""Joints turn by 6.28 at most; larger numbers are degrees."""


def import_episode(path: Path, rig: Rig, camera: str, folder: Path, arm: str = "") -> int:
    """Take one picture of every pose in which the arm of an episode stood still.

    Args:
        path: The episode.
        rig: The rig of the session; names must be those of the episode.
        camera: Whose pictures.
        folder: Where samples go.
        arm: Which arm; the camera's, or the only one.

    Returns:
        How many samples were taken.

    Raises:
        CalibrationError: The episode has no such camera, or other joints.
    """
    with EpisodeReader(path) as reader:
        known(reader.rig, "camera", camera, dict.fromkeys(reader.cameras))
        arm = arm_of(rig, camera, arm)
        names = [joint.name for joint in rig.arms[arm].joints]
        gripper = rig.arms[arm].gripper
        wanted = [*names, *([gripper.name] if gripper else [])]
        missing = [name for name in wanted if name not in reader.state_names]
        if missing:
            raise CalibrationError(f"{path}: has no {', '.join(missing)}; it was recorded on another robot")
        q = reader.qpos[:, [reader.state_names.index(name) for name in wanted]].astype(np.float64)
        samples = SampleFolder(folder, arm, tuple(names), camera)
        taken = 0
        for tick, pose in _still_ticks(reader.tick_ns, q, Tolerances.of(len(names), gripper is not None)):
            raw = from_canonical(reader.rig, gripper.name, float(pose[-1])) if gripper else None
            png = encode_png(reader.image(camera, tick)).tobytes()
            samples.add(png, tuple(pose[: len(names)].tolist()), raw, int(reader.tick_ns[tick]))
            taken += 1
    return taken


def import_folder(source: Path, rig: Rig, camera: str, folder: Path, arm: str = "") -> int:
    """Take the pictures that `joints.csv` of a folder lists: image, one column per joint, maybe gripper_raw.

    Raises:
        CalibrationError: The table is missing or has other columns, holds degrees, or names no picture.
    """
    arm = arm_of(rig, camera, arm)
    names = tuple(joint.name for joint in rig.arms[arm].joints)
    samples, count = SampleFolder(folder, arm, names, camera), 0
    _check_joints(source / JOINTS_CSV, names, camera)
    hint = f"list the pictures there, with the columns image,{','.join(names)}[,gripper_raw]"
    for where, row in read_table(source / JOINTS_CSV, ("image", *names), hint):
        q, raw = _numbers(row, names, where)
        image = source / row["image"]
        if not image.is_file():
            raise CalibrationError(f"{where}: no picture {image}")
        samples.add(encode_png(read_picture(image)).tobytes(), q, raw, None)
        count += 1
    return count


def states_of_episode(reader: EpisodeReader, rig: Rig, camera: str) -> NDArray[np.float64]:
    """Return the states (N, S) of an episode as another rig of the same robot reads them.

    Raises:
        CalibrationError: The episode has other joints, or images of another size than the rig.
    """
    known(rig, "camera", camera, dict.fromkeys(reader.cameras))
    if tuple(reader.state_names) != tuple(rig.state_names):
        raise CalibrationError(
            f"{reader.path}: joints {', '.join(reader.state_names)}; the rig has {', '.join(rig.state_names)}"
        )
    height, width = reader.image(camera, 0).shape[:2]
    spec = rig.cameras[camera]
    if (width, height) != (spec.width, spec.height):
        raise CalibrationError(
            f"{reader.path}: {camera} is {width}x{height}, the rig has {spec.width}x{spec.height}"
        )
    states = reader.qpos.astype(np.float64)
    for column, name in enumerate(rig.state_names):
        raw = [from_canonical(reader.rig, name, float(value)) for value in states[:, column]]
        states[:, column] = [to_canonical(rig, name, value) for value in raw]
    return states


def arm_of(rig: Rig, camera: str, arm: str = "") -> str:
    """Return `arm` if it is given, else the arm that a camera rides on, or the only arm of the rig.

    Raises:
        CalibrationError: No such arm, or a fixed camera on a rig with several arms and no name.
    """
    if arm:
        known(rig, "arm", arm, rig.arms)
        return arm
    parent = rig.cameras[camera].parent
    if parent != "world":
        return parent.rpartition(".")[0]
    if len(rig.arms) != 1:
        raise CalibrationError(f"cameras.{camera}: fixed, and there are arms {', '.join(rig.arms)}; name one")
    return next(iter(rig.arms))


def _still_ticks(
    tick_ns: NDArray[np.int64], q: NDArray[np.float64], tolerances: Tolerances
) -> list[tuple[int, NDArray[np.float64]]]:
    """Return the first tick of each new pose in which the arm has stood still, with its mean joints."""
    still = StillDetector(tolerances.still)
    found: list[tuple[int, NDArray[np.float64]]] = []
    for tick, (stamp, values) in enumerate(zip(tick_ns.tolist(), q, strict=True)):
        still.add(stamp, values)
        pose = still.still_at(stamp)
        if pose is not None and is_new(pose, (before for _, before in found), tolerances.new):
            found.append((tick, pose))
    return found


def _check_joints(path: Path, names: tuple[str, ...], camera: str) -> None:
    """Say what to do with a table of flange poses, which stands where joints are expected.

    Raises:
        CalibrationError: It is one.
    """
    try:
        table = read_poses(path)
    except (CalibrationError, OSError):
        return  # no poses: what else is wrong with it, reading it as joints will say
    if table.named and not set(names) & set(table.named):
        raise CalibrationError(
            f"{path}: holds poses of the flange, not joints; calibrate from them with `tacit calibrate "
            f"handeye --camera {camera} --rig <rig> --poses {path} --images {path.parent}`"
        )


def _numbers(
    row: dict[str, str], names: tuple[str, ...], where: str
) -> tuple[tuple[float, ...], float | None]:
    try:
        q = tuple(float(row[name]) for name in names)
        raw = float(row["gripper_raw"]) if row.get("gripper_raw") else None
    except ValueError:
        raise CalibrationError(f"{where}: expected numbers") from None
    if max(abs(value) for value in q) > MAX_JOINT_RAD:
        raise CalibrationError(
            f"{where}: joints up to {max(map(abs, q)):g}; expected radians, these look like degrees"
        )
    return q, raw
