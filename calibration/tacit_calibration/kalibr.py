"""Kalibr's files: the target that its calibration was shown, and the lens that it found (camchain)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tacit.config.documents import MAX_YAML_BYTES, read_text, yaml_mapping
from tacit.errors import CalibrationError, did_you_mean
from tacit.geometry.camera import Camera, FisheyeCamera, PinholeCamera
from tacit_calibration.board import Board, Pattern

TARGETS = ("aprilgrid", "checkerboard", "circlegrid")
APRIL_DICTIONARY = "DICT_APRILTAG_36h11"
SAME_SPACING = 1e-6


def board_of_target(path: Path) -> Board:
    """Return the board of a target file of Kalibr: aprilgrid, checkerboard or circlegrid.

    Raises:
        CalibrationError: No such file, another type, a key is missing, or squares that are not square.
    """
    data = yaml_mapping(
        read_text(path, MAX_YAML_BYTES, "Kalibr target", CalibrationError), str(path), CalibrationError
    )
    kind = str(data.get("target_type", ""))
    if kind not in TARGETS:
        raise CalibrationError(f"{path}: target_type {kind!r}; {did_you_mean(kind, TARGETS)}")
    try:
        return {"aprilgrid": _aprilgrid, "checkerboard": _checkerboard, "circlegrid": _circles}[kind](data)
    except KeyError as problem:
        raise CalibrationError(
            f"{path}: key {problem} is missing; expected a target file of Kalibr"
        ) from None
    except (TypeError, ValueError):
        raise CalibrationError(f"{path}: expected numbers; sizes are in metres") from None


def camera_of_camchain(data: Mapping[str, Any], source: str) -> Camera:
    """Return the camera of a camchain of one.

    Raises:
        CalibrationError: Several cameras, another projection than pinhole, another distortion than radtan
            and equidistant.
    """
    names = [
        str(key) for key, value in data.items() if isinstance(value, Mapping) and "camera_model" in value
    ]
    if len(names) != 1:
        raise CalibrationError(f"{source}: {', '.join(names)} are there; leave one in a copy of the file")
    name, part = names[0], data[names[0]]
    try:
        projection, distortion = str(part["camera_model"]), str(part["distortion_model"])
        fx, fy, cx, cy = (float(value) for value in part["intrinsics"])
        width, height = (int(value) for value in part["resolution"])
        D = tuple(float(value) for value in part["distortion_coeffs"])
    except (KeyError, TypeError, ValueError) as problem:
        raise CalibrationError(
            f"{source}: {name}: {problem}; expected camera_model, distortion_model, distortion_coeffs, "
            "intrinsics (4) and resolution (2), as Kalibr writes them"
        ) from None
    kinds: dict[str, type[Camera]] = {"radtan": PinholeCamera, "equidistant": FisheyeCamera}
    if projection != "pinhole" or distortion not in kinds:
        raise CalibrationError(
            f"{source}: {name}: {projection}-{distortion} is not known here, only pinhole-radtan and "
            "pinhole-equi; calibrate again with one of these"
        )
    return kinds[distortion](np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), D, width, height)


def camchain_of(camera: Camera, name: str) -> dict[str, Any]:
    """Return a camera as a camchain of one.

    Raises:
        CalibrationError: A lens that Kalibr has no model for.
    """
    D, count = np.array(camera.D), 4
    if np.any(D[count:]):
        raise CalibrationError(
            f"Kalibr's radtan has 4 coefficients, this lens {len(D)}; calibrate with --model no_k3 or fisheye"
        )
    K = camera.K
    return {
        "cam0": {
            "camera_model": "pinhole",
            "intrinsics": [float(value) for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])],
            "distortion_model": "equidistant" if isinstance(camera, FisheyeCamera) else "radtan",
            "distortion_coeffs": [*D[:count].tolist(), *[0.0] * (count - len(D))],
            "resolution": [camera.width, camera.height],
            "rostopic": f"/{name}/image_raw",
            "cam_overlaps": [],
        }
    }


def _aprilgrid(data: Mapping[str, Any]) -> Board:
    marker_mm = float(data["tagSize"]) * 1e3
    pitch_mm = marker_mm * (1 + float(data["tagSpacing"]))
    sizes = int(data["tagCols"]), int(data["tagRows"])
    return Board(*sizes, pitch_mm, marker_mm, APRIL_DICTIONARY, "aprilgrid")


def _checkerboard(data: Mapping[str, Any]) -> Board:
    sides = float(data["rowSpacingMeters"]), float(data["colSpacingMeters"])
    if abs(sides[0] - sides[1]) > SAME_SPACING:
        raise CalibrationError(f"board: squares of {sides[1]} x {sides[0]} m; only true squares are known")
    # Kalibr counts inner corners.
    sizes = int(data["targetCols"]) + 1, int(data["targetRows"]) + 1
    return Board(*sizes, sides[0] * 1e3, pattern="checkerboard")


def _circles(data: Mapping[str, Any]) -> Board:
    pattern: Pattern = "asymmetric_circles" if data["asymmetricGrid"] else "circles"
    sizes = int(data["targetCols"]), int(data["targetRows"])
    return Board(*sizes, float(data["spacingMeters"]) * 1e3, pattern=pattern)
