"""Samples with a board: the pictures of a sample folder searched, its joints run forward."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tacit.config.documents import MAX_TABLE_BYTES, inside, read_text
from tacit.errors import CalibrationError
from tacit.geometry.robot import Robot
from tacit.geometry.transforms import FloatArray
from tacit.images import Image
from tacit.record.samples import FILE_NAME, Sample, SampleFile, load_samples
from tacit.rig import Rig
from tacit.rig.units import to_canonical
from tacit_calibration.board import Board
from tacit_calibration.detection import View, detect_images, read_picture


@dataclass(frozen=True, eq=False)
class RobotViews:
    """Flange poses T_base_flange (n, 4, 4), the n views taken there, and pictures without board.

    Attributes:
        joints: Joints (n, j) of the views in the order of the rig [rad].
        reasons: {picture: why it was turned away} of those without board.
    """

    arm: str
    flange_poses: FloatArray
    views: tuple[View, ...]
    without_board: tuple[str, ...]
    width: int
    height: int
    joints: FloatArray
    reasons: Mapping[str, str] = field(default_factory=dict)


def read_samples(folder: Path, rig: Rig, board: Board) -> RobotViews:
    """Read `samples.yaml` and find the board in its pictures; joints are matched to the rig by name.

    Raises:
        ConfigError: The file is missing or wrong.
        CalibrationError: Joints do not fit the rig's arm, or a picture is missing.
    """
    listed = load_samples(folder)
    robot = Robot.from_rig(rig, listed.arm)
    joints = {s.image: q for s, q in zip(listed.samples, joints_in_order(listed, rig, folder), strict=True)}
    found = detect_images([(sample.image, picture(folder, sample)) for sample in listed.samples], board)
    q = np.array([joints[view.name] for view in found.views]).reshape(-1, robot.num_joints)
    poses = robot.forward_batch(q)
    size = found.width, found.height
    return RobotViews(listed.arm, poses, found.views, found.without_board, *size, q, found.reasons)


def joints_in_order(listed: SampleFile, rig: Rig, folder: Path) -> FloatArray:
    """Return the joints (n, j) of all samples in the order of the rig [rad].

    Raises:
        CalibrationError: Other joints than the rig's arm has, or values that no joint can have.
    """
    path = Path(folder) / FILE_NAME
    wanted = [joint.name for joint in rig.arms[listed.arm].joints] if listed.arm in rig.arms else []
    if sorted(wanted) != sorted(listed.joint_names):
        raise CalibrationError(
            f"{path}: joint_names: {', '.join(listed.joint_names)}; arm {listed.arm} has {', '.join(wanted)}"
        )
    order = [listed.joint_names.index(name) for name in wanted]
    return np.array([_joints(sample, len(wanted), path)[order] for sample in listed.samples])


def picture(folder: Path, sample: Sample) -> Image:
    """Return the picture (H, W, 3) of a sample.

    Raises:
        CalibrationError: It is not there.
        ImageError: It is too large or damaged.
    """
    path = inside(folder, sample.image, f"{Path(folder) / FILE_NAME}: image", CalibrationError)
    if not path.is_file():
        raise CalibrationError(f"{path}: no such picture; samples.yaml names it, relative to itself")
    return read_picture(path)


def state_of(rig: Rig, arm: str, q: FloatArray, gripper_raw: float | None) -> FloatArray:
    """Return the state (S,) of a sample; other arms at zero, a gripper without a value closed."""
    state = np.zeros(len(rig.state_names))
    state[rig.arm_slice(arm)] = q
    gripper = rig.arms[arm].gripper
    if gripper is not None and gripper_raw is not None:
        state[rig.index_of([gripper.name])[0]] = to_canonical(rig, gripper.name, gripper_raw)
    return state


def read_table(path: Path, columns: Sequence[str], hint: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a CSV with these columns, and where it stands (`file:line`) for messages.

    Args:
        path: The file.
        columns: Which it must have; others are left alone.
        hint: How the file comes about, said when there is none.

    Raises:
        CalibrationError: There is no such file, or it lacks a column.
    """
    if not path.is_file():
        raise CalibrationError(f"{path}: no such file; {hint}")
    text = read_text(path, MAX_TABLE_BYTES, "table", CalibrationError)
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in columns if name not in (rows.fieldnames or ())]
        if missing:
            raise CalibrationError(f"{path}: no column {', '.join(missing)}; expected {','.join(columns)}")
        for row in rows:
            yield f"{path}:{rows.line_num}", row
    except csv.Error as problem:
        raise CalibrationError(f"{path}:{rows.line_num}: no CSV: {problem}") from None


def sha256_of(folder: Path) -> str:
    """Return one hash over `samples.yaml` and the pictures it names: what a result was computed from."""
    # Names and joints stand in samples.yaml; pictures follow in its order, so nothing else need be hashed.
    listing = Path(folder) / FILE_NAME
    digest = hashlib.sha256(listing.read_bytes())
    for sample in load_samples(folder).samples:
        path = inside(folder, sample.image, f"{listing}: image", CalibrationError)
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _joints(sample: Sample, count: int, path: Path) -> FloatArray:
    if len(sample.q) != count or not np.isfinite(sample.q).all():
        raise CalibrationError(
            f"{path}: {sample.image}: q {list(sample.q)}, expected {count} finite joints [rad]"
        )
    return np.array(sample.q)
