"""A folder of calibration samples: `samples.yaml` beside the pictures it names.

The contract between whoever moves the robot (the capture node, a person, an episode) and the solvers
of `tacit_calibration`; nothing here knows ROS or a board.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from tacit.config import Config, load, to_yaml
from tacit.errors import CalibrationError

FILE_NAME = "samples.yaml"


class Sample(Config):
    """One picture and what the robot said when it was taken.

    Attributes:
        image: File name, relative to `samples.yaml`.
        q: Canonical joints [rad].
        gripper_raw: What the gripper's driver reported, in its own unit; its model may be unknown yet.
        stamp_ns: Stamp of the picture.
    """

    image: str
    q: tuple[float, ...]
    gripper_raw: float | None = None
    stamp_ns: int | None = None


class SampleFile(Config):
    """The file `samples.yaml`: which arm moved, its joints in the order of `q`, and the samples."""

    schema_version: Literal["tacit-samples 1"] = "tacit-samples 1"
    arm: str
    joint_names: tuple[str, ...]
    camera: str | None = None
    samples: tuple[Sample, ...] = ()


def load_samples(folder: Path) -> SampleFile:
    """Read `samples.yaml` of a folder.

    Raises:
        ConfigError: The file is missing or wrong.
        CalibrationError: It lists nothing.
    """
    path = Path(folder) / FILE_NAME
    listed = load(SampleFile, path)
    if not listed.samples:
        raise CalibrationError(f"{path}: samples: is empty; capture some first")
    return listed


class SampleFolder:
    """Adds samples to a folder, also to one that an earlier run has begun.

    Args:
        folder: Made if it is not there.
        arm, joint_names, camera: What the samples are of.

    Raises:
        CalibrationError: The folder holds samples of another arm or camera.
    """

    def __init__(self, folder: Path, arm: str, joint_names: tuple[str, ...], camera: str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE_NAME
        self.content = SampleFile(arm=arm, joint_names=joint_names, camera=camera)
        if self.path.is_file():
            before = load(SampleFile, self.path)
            self.content = self.content.model_copy(update={"samples": before.samples})
            if before.model_copy(update={"camera": before.camera or camera}) != self.content:
                raise CalibrationError(
                    f"{self.path}: holds samples of arm {before.arm!r}, camera {before.camera!r}, joints "
                    f"{', '.join(before.joint_names)}; give another folder, or move this one away"
                )

    def add(
        self, image_png: bytes, q: tuple[float, ...], gripper_raw: float | None, stamp_ns: int | None
    ) -> Sample:
        """Write one picture and list it; the list is replaced in one step, so it is never half."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sample = Sample(image=self._free_name(), q=q, gripper_raw=gripper_raw, stamp_ns=stamp_ns)
        (self.folder / sample.image).write_bytes(image_png)
        self._replace((*self.content.samples, sample))
        return sample

    def drop_last(self) -> Sample | None:
        """Take the last sample off the list and remove its picture; None when there is none."""
        if not self.content.samples:
            return None
        last = self.content.samples[-1]
        self._replace(self.content.samples[:-1])
        (self.folder / last.image).unlink(missing_ok=True)
        return last

    def _free_name(self) -> str:
        used = {sample.image for sample in self.content.samples}
        number = len(used)
        while f"{number:03d}.png" in used:
            number += 1
        return f"{number:03d}.png"

    def _replace(self, samples: tuple[Sample, ...]) -> None:
        self.content = self.content.model_copy(update={"samples": samples})
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(to_yaml(self.content), encoding="utf-8")
        os.replace(temporary, self.path)
