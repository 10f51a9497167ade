"""What the HDF5 files of the ACT family have in common, where they differ, and what we add to our own.

`/observations/qpos|qvel|effort` and `/action` (T, S); pictures of a stream as (T, H, W, 3), or as JPEG bytes
(T, N) padded with zeros. No file says the order of its channels, its rate or the unit of its grippers: ours
say it in attributes, which their programs do not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import h5py
import numpy as np

from tacit.convert.pictures import Colour
from tacit.errors import EpisodeError
from tacit.rig import GripperSpec, Rig
from tacit.rig.units import from_canonical, rates_from_canonical, rates_to_canonical, to_canonical

Grippers = Literal["normalised", "driver", "metres"]
"""Unit of a gripper: 0 closed to 1 open by the limits of the rig, as its driver reports, or metres."""
StyleName = Literal["act", "act++", "xtrainer"]
UNITS = get_args(Grippers)

BASE_ACTION = "base_action"
BASE_NAMES = ("linear", "angular")
STAMPS = "timestamps/tick_ns"
"""In our files alone: true stamps, which the way back takes."""
NO_CONTACT, STEPS = "no_contact", "steps_json"
"""In our files alone: what each sensor shows untouched, as PNG, and the steps of the task."""
COMPRESS_LEN = "compress_len"
TACTILE = re.compile(r"^tactile\d*$")
"""Sensors of X-Trainer lie beside the folder of the pictures, as tactile1 and tactile2."""
FILE = re.compile(r"(\d+)\.hdf5$")
DEFAULT_FPS = 50.0
"""ALOHA and X-Trainer take a step of 20 ms for granted and store no time."""
ARM_OF_ALOHA = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
ARM_OF_XTRAINER = (*(f"joint{number}" for number in range(1, 7)), "gripper")


class Style(NamedTuple):
    """How one program of the family wants its files."""

    folder: str
    name: str
    encoded: bool
    colour: Colour


STYLES: dict[StyleName, Style] = {
    "act": Style("", "episode_{}.hdf5", False, "rgb"),
    "act++": Style("", "episode_{}.hdf5", True, "rgb"),
    "xtrainer": Style("train_data", "episode_init_{}.hdf5", True, "bgr"),
}
"""ALOHA hands RGB to `cv2.imencode`; X-Trainer encodes what `cv2.imread` gave."""


def renames(words: Sequence[str]) -> dict[str, str]:
    """Return {old: new} of words OLD=NEW.

    Raises:
        EpisodeError: A word of another form, or two streams that would get one name.
    """
    pairs = [word.partition("=") for word in words]
    if any(not old or not equals or not new for old, equals, new in pairs):
        raise EpisodeError(f"--rename {' '.join(words)}: expected OLD=NEW, such as cam_high=top")
    found = {old: new for old, _, new in pairs}
    if len(set(found.values())) < len(pairs):
        raise EpisodeError(f"--rename {' '.join(words)}: two streams would get the same name")
    return found


def usual_grippers(rig: Rig) -> Grippers:
    """Return the unit that such files have for a rig, where they do not say."""
    claws = any(arm.gripper and arm.gripper.raw == "claw" for arm in rig.arms.values())
    return "driver" if claws else "normalised"


def joint_names(width: int, like_xtrainer: bool) -> list[str]:
    """Return names for the elements of a state that has none: two arms of seven, one arm, or numbers."""
    arm = ARM_OF_XTRAINER if like_xtrainer else ARM_OF_ALOHA
    if width == 2 * len(arm):
        return [f"{side}_{name}" for side in ("left", "right") for name in arm]
    return list(arm) if width == len(arm) else [f"q{index}" for index in range(width)]


def to_theirs(rig: Rig, values: np.ndarray, unit: Grippers) -> np.ndarray:
    """Return states (T, S) with the grippers in another unit than metres."""
    found = np.array(values, dtype=np.float64)
    for index, name in _grippers(rig):
        spec = rig.joint(name)
        assert isinstance(spec, GripperSpec)
        if unit == "normalised":
            found[:, index] = (found[:, index] - spec.lower) / (spec.upper - spec.lower)
        elif unit == "driver":
            found[:, index] = [from_canonical(rig, name, value) for value in found[:, index].tolist()]
    return found


def to_ours(rig: Rig, values: np.ndarray, unit: Grippers) -> np.ndarray:
    """Return states (T, S) with the grippers in metres; inverse of `to_theirs`."""
    found = np.array(values, dtype=np.float64)
    for index, name in _grippers(rig):
        spec = rig.joint(name)
        assert isinstance(spec, GripperSpec)
        if unit == "normalised":
            found[:, index] = spec.lower + found[:, index] * (spec.upper - spec.lower)
        elif unit == "driver":
            found[:, index] = [to_canonical(rig, name, value) for value in found[:, index].tolist()]
    return found


def rates_to_theirs(rig: Rig, rates: np.ndarray, theirs: np.ndarray, unit: Grippers) -> np.ndarray:
    """Return velocities (T, S) at their states (T, S), grippers in their unit per second."""
    found = np.array(rates, dtype=np.float64)
    for index, name in _grippers(rig):
        if unit == "normalised":
            found[:, index] /= _range(rig, name)
        elif unit == "driver":
            names = [name] * len(found)
            found[:, index] = rates_from_canonical(rig, names, found[:, index], theirs[:, index])
    return found


def rates_to_ours(rig: Rig, rates: np.ndarray, theirs: np.ndarray, unit: Grippers) -> np.ndarray:
    """Return velocities (T, S) with grippers in m/s; inverse of `rates_to_theirs`."""
    found = np.array(rates, dtype=np.float64)
    for index, name in _grippers(rig):
        if unit == "normalised":
            found[:, index] *= _range(rig, name)
        elif unit == "driver":
            names = [name] * len(found)
            found[:, index] = rates_to_canonical(rig, names, found[:, index], theirs[:, index])
    return found


def is_xtrainer(file: h5py.File) -> bool:
    """Whether a file has the cameras or the sensors of X-Trainer."""
    cameras = file.get("observations/images", {})
    return any(TACTILE.match(name) for name in file["observations"]) or "left_wrist" in cameras


def told(item: h5py.HLObject, name: str, valid: Sequence[str]) -> str | None:
    """Return an attribute of ours that names one of several; None where the file is not ours.

    Raises:
        EpisodeError: It names none of them.
    """
    value = item.attrs.get(name)
    if value is not None and value not in valid:
        raise EpisodeError(
            f"{item.file.filename}: {item.name}: attribute {name} is {value!r}, expected {' or '.join(valid)}"
        )
    return value


def _grippers(rig: Rig) -> list[tuple[int, str]]:
    return [(index, rig.state_names[index]) for index in rig.gripper_indices]


def _range(rig: Rig, name: str) -> float:
    spec = rig.joint(name)
    return spec.upper - spec.lower
