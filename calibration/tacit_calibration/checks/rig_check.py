"""Is a rig's calibration believable? Plausible lenses, mounts and sensors, and who sees whom.

The schema itself is checked when a rig is loaded; here stand the mistakes that load without a
word: metres for millimetres, K of another image size, a gel that looks the wrong way.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.geometry.camera import Camera
from tacit.geometry.footprint import FACES
from tacit.rig import Rig
from tacit_calibration.rig_update import value_sha256

PLACEHOLDER = re.compile(r"^\s*# PLACEHOLDER|REPLACE-ME")
FIELD_DEG = (15.0, 170.0)
PRINCIPAL_OFFSET = 0.15
PIXEL_ASPECT = 0.05
MAX_REACH_M = {"world": 5.0, "arm": 0.5}
"""A camera 5 m from the base or half a metre from its flange is millimetres read as metres."""
SENSOR_MM = (3.0, 80.0)
NUM_STATES = 256
MAX_AGE_DAYS = 180
"""Half a year of a working lab: screws, cables and visitors have been there."""


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong: the key path in the rig, and what and why."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class PairView:
    """How often a camera sees a sensor over joint states within the limits."""

    camera: str
    sensor: str
    seen: float
    facing: float


def check_rig(rig: Rig, source: Path | None = None) -> list[Finding]:
    """Return everything about the calibration that looks wrong; empty when it is believable.

    Args:
        rig: The loaded rig.
        source: Its file, to look for values that are marked as placeholders.
    """
    findings = [*_placeholders(rig, source), *_sensors(rig), *_fingers(rig)]
    for name in rig.cameras:
        findings += _lens(f"cameras.{name}", rig.geometry.camera(name))
        findings += _mount(f"cameras.{name}", rig.cameras[name].parent, rig.cameras[name].T_parent_camera)
    pairs = views_of_sensors(rig)
    for sensor in rig.tactile:
        if not any(pair.seen > 0 for pair in pairs if pair.sensor == sensor):
            findings.append(
                Finding(
                    f"tactile.{sensor}",
                    f"no camera sees it in any of {NUM_STATES} states; check T_mount_sensor and cameras",
                )
            )
    return findings


def check_records(rig: Rig, now: datetime.datetime) -> list[Finding]:
    """Return what the records of calibration do not vouch for any more: old, or changed by hand.

    Args:
        rig: The rig.
        now: With its offset from UTC.
    """
    findings = []
    for name, record in rig.calibrations.items():
        found = value_sha256(rig, name)
        if found is None:
            findings.append(Finding(f"calibrations.{name}", "the rig has no such entry any more"))
        elif record.value_sha256 not in ("", found):
            findings.append(
                Finding(
                    f"calibrations.{name}", f"the value was changed after {record.method} of {record.date}"
                )
            )
        days = (now - datetime.datetime.fromisoformat(record.date)).days if record.date[10:11] == "T" else 0
        if days > MAX_AGE_DAYS:
            findings.append(
                Finding(
                    f"calibrations.{name}", f"{days} days old; run `tacit calibrate verify` on new pictures"
                )
            )
    return findings


def views_of_sensors(rig: Rig, seed: int = 0) -> list[PairView]:
    """Return for every camera and sensor how often the sensor is at least half visible.

    States are drawn uniformly within the limits; occlusion by the arm is not known here.
    """
    rng = np.random.default_rng(seed)
    states = rng.uniform(rig.limits("lower"), rig.limits("upper"), (NUM_STATES, len(rig.state_names)))
    return [
        PairView(
            camera,
            sensor,
            float(np.mean(found.visibility >= 0.5)),
            float(np.mean((found.visibility >= 0.5) & ((found.flags & FACES) != 0))),
        )
        for (camera, sensor), found in rig.geometry.footprint_tracks(states).items()
    ]


def field_of_view_deg(camera: Camera) -> float:
    """Return the angle between the left and the right edge of the image, NaN where the lens folds."""
    middle = (camera.height - 1) / 2
    left, right = camera.rays([[-0.5, middle], [camera.width - 0.5, middle]])
    return float(np.rad2deg(np.arccos(np.clip(left @ right, -1, 1))))


def _placeholders(rig: Rig, source: Path | None) -> Iterator[Finding]:
    text = source.read_text(encoding="utf-8-sig") if source is not None else rig.to_yaml()
    lines = [str(n) for n, line in enumerate(text.splitlines(), start=1) if PLACEHOLDER.search(line)]
    if lines:
        yield Finding(
            "rig", f"lines {', '.join(lines)} mark placeholders; put your values there, then unmark"
        )


def _lens(path: str, camera: Camera) -> Iterator[Finding]:
    K, size = camera.K, np.array([camera.width, camera.height])
    aspect = K[0, 0] / K[1, 1]
    if abs(aspect - 1) > PIXEL_ASPECT:
        yield Finding(f"{path}.K", f"fx/fy is {aspect:.3f}; pixels are square, is the image stretched?")
    offset = np.abs((K[:2, 2] - (size - 1) / 2) / size)
    if offset.max() > PRINCIPAL_OFFSET:
        yield Finding(
            f"{path}.K",
            f"the principal point {K[0, 2]:.0f}, {K[1, 2]:.0f} is far from the middle of "
            f"{size[0]}x{size[1]}; K must belong to the stored image size",
        )
    field = field_of_view_deg(camera)
    if np.isnan(field):
        yield Finding(
            f"{path}.D", "the lens model folds over inside the image; calibrate with corners at the edges"
        )
    elif not FIELD_DEG[0] < field < FIELD_DEG[1]:
        yield Finding(
            f"{path}.K",
            f"the field of view is {field:.0f} deg; expected {FIELD_DEG[0]:.0f}-{FIELD_DEG[1]:.0f}",
        )


def _mount(path: str, parent: str, T: NDArray[np.float64]) -> Iterator[Finding]:
    reach = float(np.linalg.norm(T[:3, 3]))
    limit = MAX_REACH_M["world" if parent == "world" else "arm"]
    if reach > limit:
        yield Finding(
            f"{path}.T_parent_camera", f"{reach:.2f} m from {parent}, expected below {limit} m; metres?"
        )


def _sensors(rig: Rig) -> Iterator[Finding]:
    for name, spec in rig.tactile.items():
        millimetres = 1e3 * np.array(spec.size_m)
        if millimetres[:2].min() < SENSOR_MM[0] or millimetres.max() > SENSOR_MM[1]:
            listed = " x ".join(f"{side:g}" for side in millimetres)
            yield Finding(
                f"tactile.{name}.size_m", f"the gel is {listed} mm; expected width and height of 3-80 mm"
            )
        reach = float(np.linalg.norm(spec.T_mount_sensor[:3, 3]))
        if reach > MAX_REACH_M["arm"]:
            yield Finding(f"tactile.{name}.T_mount_sensor", f"{reach:.2f} m from {spec.mount}; metres?")


def _fingers(rig: Rig) -> Iterator[Finding]:
    """Two gels on the two fingers of one gripper must look at each other when it is open."""
    # At the upper limits the gripper is open: closed, the gels touch and nothing lies between them.
    poses = rig.sensor_poses(rig.limits("upper"))
    for arm in rig.arms:
        on = {
            side: [n for n, s in rig.tactile.items() if s.mount == f"{arm}.finger_{side}"]
            for side in ("left", "right")
        }
        for left in on["left"]:
            for right in on["right"]:
                between = poses[right][:3, 3] - poses[left][:3, 3]
                if poses[left][:3, 2] @ between <= 0 or poses[right][:3, 2] @ between >= 0:
                    yield Finding(
                        f"tactile.{left}, tactile.{right}",
                        "the gels do not look at each other; z of a sensor points out of its gel, and "
                        "finger_left opens along +axis",
                    )
