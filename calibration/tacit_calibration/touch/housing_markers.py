"""Gels by ArUco markers on their housings, where drawings say how a marker lies to its gel: `markers.csv`.

A marker's frame: origin in its middle, x to its right and y up as it is read, z out of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tacit.errors import CalibrationError, did_you_mean
from tacit.geometry.camera import Camera
from tacit.geometry.rotations import rotation_from_rpy
from tacit.geometry.transforms import FloatArray, from_rotation, from_translation, invert, transform_points
from tacit.images import Image
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit_calibration.board import DICTIONARIES
from tacit_calibration.estimation.board_pose import rms
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.samples import picture, read_table
from tacit_calibration.touch.sensor_offset import (
    BAD_CLICK_PX,
    HIDDEN_PX,
    MIN_PICTURES,
    UNIT,
    SensorResult,
    robust_minimum,
)
from tacit_calibration.touch.touch_views import TouchView, finger_views

HEADER = ("sensor", "dictionary", "id", "size_mm", "x_mm", "y_mm", "z_mm", "rx_deg", "ry_deg", "rz_deg")
CORNERS = np.array([[-0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.5, -0.5, 0.0], [-0.5, -0.5, 0.0]])
"""In the order in which OpenCV finds them: clockwise as it is read, from the top left."""
MAX_MM = 200.0


@dataclass(frozen=True, eq=False)
class HousingMarker:
    """One printed marker: whose, which, and its corners (4, 3) [m] in the frame of that sensor."""

    sensor: str
    dictionary: str
    number: int
    corners_m: FloatArray


@dataclass(frozen=True, eq=False)
class MarkerSight:
    """One marker in one picture: where its finger was, and its corners (4, 2) [px]."""

    view: TouchView
    marker: HousingMarker
    pixels: FloatArray

    def project(self, lens: Camera, T_mount_sensor: FloatArray) -> FloatArray:
        """Return where its corners should be (4, 2) [px]."""
        T = self.view.T_camera_flange @ from_translation(self.view.opening_m * self.view.slide)
        return lens.project(transform_points(T @ T_mount_sensor, self.marker.corners_m))

    def error(self, lens: Camera, T_mount_sensor: FloatArray) -> FloatArray:
        """Return projected minus seen corners (4, 2) [px]."""
        return np.nan_to_num(self.project(lens, T_mount_sensor) - self.pixels, nan=HIDDEN_PX)

    def mounts(self, lens: Camera) -> list[FloatArray]:
        """Return the poses T_mount_sensor (4, 4) that this picture alone allows: one, or a mirrored pair."""
        rays = lens.rays(self.pixels)
        flat = np.ascontiguousarray(rays[:, :2] / rays[:, 2:])
        T = self.view.T_camera_flange @ from_translation(self.view.opening_m * self.view.slide)
        found = cv2.solvePnPGeneric(self.marker.corners_m, flat, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
        turns = [np.asarray(cv2.Rodrigues(turn)[0], np.float64) for turn in found[1]]
        return [
            np.asarray(invert(T) @ from_rotation(turn, step.ravel()))
            for turn, step in zip(turns, found[2], strict=True)
        ]


def read_markers(path: Path, rig: Rig) -> list[HousingMarker]:
    """Read a file of markers: sizes and places in mm, turns about fixed x, y, z of the sensor in degrees.

    Raises:
        CalibrationError: It is missing or has other columns; an unknown sensor or dictionary; words for
            numbers; a marker twice.
    """
    hint = f"write a CSV with the columns {','.join(HEADER)}; each row says where one marker sits"
    markers = [_marker(row, where, rig) for where, row in read_table(path, HEADER, hint)]
    keys = [(marker.dictionary, marker.number) for marker in markers]
    if not markers or len(set(keys)) < len(keys):
        raise CalibrationError(f"{path}: expected one row per marker, each with a number of its own")
    return markers


def _marker(row: dict[str, str], where: str, rig: Rig) -> HousingMarker:
    for kind, choices in (("sensor", rig.tactile), ("dictionary", DICTIONARIES)):
        if row[kind] not in choices:
            raise CalibrationError(f"{where}: no {kind} {row[kind]!r}; {did_you_mean(row[kind], choices)}")
    try:
        number = int(row["id"])
        size, *values = (float(row[name]) for name in HEADER[3:])
    except (TypeError, ValueError):
        raise CalibrationError(f"{where}: expected numbers after the dictionary") from None
    if not (0 < size < MAX_MM and np.abs(values[:3]).max() < MAX_MM and np.isfinite(values).all()):
        raise CalibrationError(f"{where}: size and place are expected in mm, up to {MAX_MM:g}")
    T = from_rotation(rotation_from_rpy(np.deg2rad(values[3:])), np.array(values[:3]) / 1e3)
    return HousingMarker(row["sensor"], row["dictionary"], number, transform_points(T, CORNERS * size / 1e3))


def find_markers(
    rig: Rig, camera: str, folder: Path, markers: Sequence[HousingMarker]
) -> dict[str, list[MarkerSight]]:
    """Return {sensor: its markers in the samples of a folder}."""
    samples = load_samples(folder).samples
    seen = {sample.image: _seen(picture(folder, sample), markers) for sample in samples}
    found: dict[str, list[MarkerSight]] = {marker.sensor: [] for marker in markers}
    for name, sights in found.items():
        mine = [marker for marker in markers if marker.sensor == name]
        for view in finger_views(rig, camera, folder, name):
            corners = seen[view.click.image]
            sights += [MarkerSight(view, m, corners[id(m)]) for m in mine if id(m) in corners]
    return found


def _seen(image: Image, markers: Sequence[HousingMarker]) -> dict[int, FloatArray]:
    """Return the corners (4, 2) [px] of the markers that a picture shows, by their identity."""
    gray, found = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), {}
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    for dictionary in sorted({marker.dictionary for marker in markers}):
        known = cv2.aruco.getPredefinedDictionary(DICTIONARIES[dictionary])
        corners, ids, _ = cv2.aruco.ArucoDetector(known, parameters).detectMarkers(gray)
        by_number = dict(zip([] if ids is None else np.ravel(ids).tolist(), corners, strict=True))
        for marker in markers:
            if marker.dictionary == dictionary and marker.number in by_number:
                found[id(marker)] = np.asarray(by_number[marker.number], np.float64).reshape(4, 2)
    return found


def solve_markers(rig: Rig, camera: str, name: str, sights: Sequence[MarkerSight]) -> SensorResult:
    """Find the pose of one sensor from the markers on its housing; its size stays.

    Raises:
        CalibrationError: They were seen in fewer than three pictures.
    """
    lens, size = rig.geometry.camera(camera), rig.tactile[name].size_m
    count = len({sight.view.click.image for sight in sights})
    if count < MIN_PICTURES:
        raise CalibrationError(
            f"{name}: its markers show in {count} pictures, expected {MIN_PICTURES} or more"
        )

    def errors(T: FloatArray) -> list[FloatArray]:
        return [sight.error(lens, T) for sight in sights]

    # A small marker seen from afar has a mirrored pose that fits as well; other pictures tell them apart.
    starts = [T for sight in sights for T in sight.mounts(lens)]
    start = min(starts, key=lambda T: float(np.median(np.abs(np.concatenate(errors(T))))))
    x, covariance = robust_minimum(
        lambda x: np.concatenate(errors(start @ small_pose(x * UNIT))).ravel(), len(UNIT)
    )
    T = start @ small_pose(x * UNIT)
    sigma = np.sqrt(np.diag(covariance)) * UNIT
    left = errors(T)
    by_picture = {sight.view.click.name: rms(error) for sight, error in zip(sights, left, strict=True)}
    return SensorResult(
        T_mount_sensor=np.asarray(T),
        size_m=size,
        sigma_m=float(np.linalg.norm(sigma[3:])),
        sigma_rad=float(np.linalg.norm(sigma[:3])),
        sigma_size_m=np.zeros(2),
        rms_px=rms(np.concatenate(left)),
        click_px=by_picture,
        warnings=tuple(
            f"{where}: markers {error:.1f} px off; do they sit as the file says?"
            for where, error in by_picture.items()
            if error > BAD_CLICK_PX
        ),
    )
