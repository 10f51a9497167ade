"""A folder of robot poses and pictures: `samples.yaml` beside the images it names.

The folder is the contract between whoever moves the robot and the solvers; nothing here knows ROS.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tacit.config import Config, load
from tacit.errors import CalibrationError
from tacit.images import decode_image
from tacit.rig import Rig
from tacit.robot import Robot
from tacit_calibration.board import Board
from tacit_calibration.detection import View, detect_images

FILE_NAME = "samples.yaml"


class Sample(Config):
    """One picture and the canonical joints [rad] at its stamp."""

    image: str
    q: tuple[float, ...]


class SampleFile(Config):
    """The file `samples.yaml`: which arm moved, its joints in the order of `q`, and the samples."""

    schema_version: Literal["tacit-samples 1"] = "tacit-samples 1"
    arm: str
    joint_names: tuple[str, ...]
    samples: tuple[Sample, ...] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class RobotViews:
    """Flange poses T_base_flange (n, 4, 4), the n views taken there, and pictures without board."""

    arm: str
    flange_poses: NDArray[np.float64]
    views: tuple[View, ...]
    without_board: tuple[str, ...]
    width: int
    height: int


def read_samples(folder: Path, rig: Rig, board: Board) -> RobotViews:
    """Read `samples.yaml` and its pictures; joints are matched to the rig by name.

    Raises:
        ConfigError: The file is missing or wrong.
        CalibrationError: Joints do not fit the rig's arm, or a picture is missing.
    """
    path = folder / FILE_NAME
    listed = load(SampleFile, path)
    robot = Robot.from_rig(rig, listed.arm)
    wanted = [joint.name for joint in rig.arms[listed.arm].joints]
    if sorted(wanted) != sorted(listed.joint_names):
        raise CalibrationError(
            f"{path}: joint_names: {', '.join(listed.joint_names)}; arm {listed.arm} has {', '.join(wanted)}"
        )
    order = [listed.joint_names.index(name) for name in wanted]
    joints = {sample.image: _joints(sample, len(wanted), path)[order] for sample in listed.samples}
    found = detect_images([(name, decode_image(_read(folder / name))) for name in joints], board)
    poses = robot.forward_batch(
        np.array([joints[view.name] for view in found.views]).reshape(-1, len(wanted))
    )
    return RobotViews(listed.arm, poses, found.views, found.without_board, found.width, found.height)


def _joints(sample: Sample, count: int, path: Path) -> NDArray[np.float64]:
    if len(sample.q) != count or not np.isfinite(sample.q).all():
        raise CalibrationError(
            f"{path}: {sample.image}: q {list(sample.q)}, expected {count} finite joints [rad]"
        )
    return np.array(sample.q)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise CalibrationError(f"{path}: no such picture; samples.yaml names it, relative to itself")
    return path.read_bytes()
