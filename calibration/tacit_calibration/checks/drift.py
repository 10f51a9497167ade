"""Has a calibration drifted? Two rigs of one robot, of two dates, compared where it matters: in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.errors import CalibrationError, did_you_mean
from tacit.geometry.footprint import INTERSECTS
from tacit.geometry.transforms import FloatArray, pose_error
from tacit.rig import Rig

NUM_STATES = 512
VISIBLE = 0.25
SIGMAS = 3.0


@dataclass(frozen=True)
class Moved:
    """How far one thing is from where it was.

    Attributes:
        path: Its key path in the rig.
        millimetres, degrees: The change.
        sigma_mm, sigma_deg: How well both were known, together; None where a date has no record.
        dates: Dates of both calibrations; empty where there is no record.
    """

    path: str
    millimetres: float
    degrees: float
    sigma_mm: float | None
    sigma_deg: float | None
    dates: tuple[str, str]

    @property
    def is_significant(self) -> bool | None:
        """Whether it is more than three times its uncertainty; None where that is not known."""
        if self.sigma_mm is None or self.sigma_deg is None:
            return None
        return self.millimetres > SIGMAS * self.sigma_mm or self.degrees > SIGMAS * self.sigma_deg


@dataclass(frozen=True)
class Drift:
    """What has changed between two rigs.

    Attributes:
        moved: Poses of cameras, sensors and bases.
        boxes_px: {(camera, sensor): median and 95 % distance of box centres}, over joint states in which
            the sensor is seen; pairs that are never seen are left out.
    """

    moved: tuple[Moved, ...]
    boxes_px: dict[tuple[str, str], tuple[float, float]]


def compare_rigs(old: Rig, new: Rig, seed: int = 0) -> Drift:
    """Compare two rigs of the same robot.

    Raises:
        CalibrationError: Cameras, sensors or joints have other names.
    """
    for label, before, after in (
        ("camera", old.cameras, new.cameras),
        ("sensor", old.tactile, new.tactile),
        ("joint", dict.fromkeys(old.state_names), dict.fromkeys(new.state_names)),
    ):
        for name in before:
            if name not in after:
                raise CalibrationError(
                    f"{old.name} against {new.name}: no {label} {name!r}; {did_you_mean(name, after)}"
                )
    return Drift(tuple(_moves(old, new)), _shifts(old, new, seed))


def _moves(old: Rig, new: Rig) -> list[Moved]:
    pairs = [
        (f"cameras.{n}.pose", c.T_parent_camera, new.cameras[n].T_parent_camera)
        for n, c in old.cameras.items()
    ]
    pairs += [
        (f"tactile.{n}.pose", s.T_mount_sensor, new.tactile[n].T_mount_sensor) for n, s in old.tactile.items()
    ]
    pairs += [(f"arms.{n}.base", a.T_world_base, new.arms[n].T_world_base) for n, a in old.arms.items()]
    return [_moved(path, before, after, old, new) for path, before, after in pairs]


def _moved(path: str, before: FloatArray, after: FloatArray, old: Rig, new: Rig) -> Moved:
    apart = pose_error(before, after)
    records = [rig.calibrations.get(path) for rig in (old, new)]
    dates = tuple(record.date if record else "" for record in records)
    sigmas = []
    for kind in ("sigma_mm", "sigma_deg"):
        values = [getattr(record, kind) for record in records if record is not None]
        is_known = len(values) == len(records) and None not in values
        sigmas.append(float(np.linalg.norm(values)) if is_known else None)
    degrees = float(np.rad2deg(apart.rotation))
    return Moved(path, 1e3 * float(apart.translation), degrees, sigmas[0], sigmas[1], (dates[0], dates[1]))


def _shifts(old: Rig, new: Rig, seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    random = np.random.default_rng(seed)
    states = random.uniform(old.limits("lower"), old.limits("upper"), (NUM_STATES, len(old.state_names)))
    before, after = old.geometry.footprint_tracks(states), new.geometry.footprint_tracks(states)
    shifts = {}
    for pair, track in before.items():
        seen = (track.visibility >= VISIBLE) & ((track.flags & INTERSECTS) != 0)
        # Centres, not edges: an edge also moves when a box is cut by the near plane.
        moved = (after[pair].box - track.box)[seen]
        distance = np.linalg.norm((moved[:, :2] + moved[:, 2:]) / 2, axis=1)
        distance = distance[np.isfinite(distance)]
        if len(distance):
            shifts[pair] = float(np.median(distance)), float(np.quantile(distance, 0.95))
    return shifts
