"""Draft a rig for a data set of others from what it says of itself; what it does not say is `unmeasured`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.rig import Rig, parse_rig

ARM, STATES, COMMAND = "arm", "joints", "command"
TOUCH_WORDS = ("tactile", "gelsight", "digit", "touch")
"""A picture stream with one of these in its name is a sensor that feels, not a camera."""
MARGIN = 0.05
"""Limits are the values seen, wider by this share of their range."""
FASTER = 1.2
"""And the speeds seen, times this."""
SMALLEST = 1e-3
NAME_LENGTH = 64

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Draft:
    """What a data set says of its robot.

    Attributes:
        name: Of the robot; made a plain name here.
        joints: Elements of state and action (S), plain names; grippers too, for their unit is not known.
        fps: Rate of the frames [Hz].
        low, high: Least and greatest value of each element (S,), in the unit of the data set.
        speed, change: Greatest velocity and acceleration of each (S,).
        pictures: (height, width) [px] by stream.
        extras: Names of the elements of each further stream of numbers.
    """

    name: str
    joints: Sequence[str]
    fps: float
    low: FloatArray
    high: FloatArray
    speed: FloatArray
    change: FloatArray
    pictures: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    extras: Mapping[str, Sequence[str]] = field(default_factory=dict)


def draft_rig(draft: Draft) -> Rig:
    """Return a rig that fits the data; geometry, which no such data set holds, is called unmeasured.

    Raises:
        RigError: Two streams of one name, or other contradictions.
    """
    cameras = {name: size for name, size in draft.pictures.items() if not feels(name)}
    sensors = {name: size for name, size in draft.pictures.items() if feels(name)}
    names = list(draft.joints)
    data: dict[str, Any] = {
        "name": plain_name(draft.name, "robot"),
        "description": "Drafted from a data set, in its units; fill in topics, limits and geometry.",
        "arms": {
            ARM: {
                "dh": [{"d": 0.0, "a": 0.0, "alpha": 0.0} for _ in names],
                "joints": [_joint(draft, index) for index in range(len(names))],
            }
        },
        "cameras": {name: _camera(name, size, draft.fps) for name, size in cameras.items()},
        "tactile": {name: _sensor(name, size, draft.fps) for name, size in sensors.items()},
        "streams": {STATES: _numbers("/joint_states", names, draft.fps, "state")},
        "commands": {COMMAND: _numbers("/joint_command", names, draft.fps)},
        "alignment": {
            "tick_source": f"camera:{next(iter(cameras))}" if cameras else "timer",
            "rate_hz": draft.fps,
        },
        "unmeasured": [
            f"arms.{ARM}",
            *(f"cameras.{name}" for name in cameras),
            *(f"tactile.{name}" for name in sensors),
        ],
    }
    for name, elements in draft.extras.items():
        data["streams"][name] = _numbers(f"/{name}", elements, draft.fps, "extra") | {"required": False}
    return parse_rig(data, f"rig drafted for {draft.name}")


def motion_limits(
    tracks: Iterable[FloatArray], fps: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return (low, high, speed, change), each (S,), over episodes (T, S) at `fps`: see `Draft`."""
    lows, highs, speeds, changes = [], [], [], []
    for track in tracks:
        lows.append(track.min(axis=0))
        highs.append(track.max(axis=0))
        still = np.zeros((1, track.shape[1]))
        velocity = np.concatenate([still, np.diff(track, axis=0) * fps])
        speeds.append(np.abs(velocity).max(axis=0))
        changes.append(np.abs(np.diff(velocity, axis=0, prepend=still) * fps).max(axis=0))
    return np.min(lows, 0), np.max(highs, 0), np.max(speeds, 0), np.max(changes, 0)


def feels(name: str) -> bool:
    """Whether the name of a picture stream says that it is a tactile sensor."""
    return any(word in name.lower() for word in TOUCH_WORDS)


def plain_name(text: str, otherwise: str) -> str:
    """Return a text as a name of letters, digits and `._-`; `otherwise` where none of them is left."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
    return re.sub(r"\.{2,}", ".", name)[:NAME_LENGTH].strip("._-") or otherwise


def plain_names(texts: Sequence[str]) -> list[str]:
    """Return names for the elements of a vector; equal ones are numbered."""
    names: list[str] = []
    for index, text in enumerate(texts):
        name = plain_name(text, f"q{index}")
        names.append(name if name not in names else f"{name[: NAME_LENGTH - 6]}_{index}")
    return names


def _joint(draft: Draft, index: int) -> dict[str, Any]:
    low, high = float(draft.low[index]), float(draft.high[index])
    margin = max(MARGIN * (high - low), SMALLEST)
    return {
        "name": draft.joints[index],
        "lower": low - margin,
        "upper": high + margin,
        "velocity": max(FASTER * float(draft.speed[index]), SMALLEST),
        "acceleration": max(FASTER * float(draft.change[index]), SMALLEST),
    }


def _numbers(topic: str, names: Sequence[str], rate_hz: float, role: str | None = None) -> dict[str, Any]:
    kind = "std_msgs/msg/Float64MultiArray" if role == "extra" else "sensor_msgs/msg/JointState"
    spec = {"topic": topic, "type": kind, "rate_hz": rate_hz, "names": list(names)}
    return spec | ({"role": role} if role else {})


def _camera(name: str, size: tuple[int, int], rate_hz: float) -> dict[str, Any]:
    height, width = size
    return {
        "topic": f"/camera/{name}/image",
        "rate_hz": rate_hz,
        "width": width,
        "height": height,
        "K": [[width, 0.0, (width - 1) / 2], [0.0, width, (height - 1) / 2], [0.0, 0.0, 1.0]],
        "parent": "world",
        "T_parent_camera": np.eye(4).tolist(),
    }


def _sensor(name: str, size: tuple[int, int], rate_hz: float) -> dict[str, Any]:
    height, width = size
    return {
        "topic": f"/tactile/{name}/image",
        "rate_hz": rate_hz,
        "width": width,
        "height": height,
        "mount": f"{ARM}.flange",
        "T_mount_sensor": np.eye(4).tolist(),
        "size_m": [0.02, 0.02, 0.01],
    }
