"""ROS camera_info, as message fields or calibration YAML, to `tacit.geometry.camera` and back.

Works on plain mappings, so recorder and calibration share it without importing ROS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tacit.errors import CalibrationError, did_you_mean
from tacit.geometry.camera import Camera, FisheyeCamera, PinholeCamera

FISHEYE_NAMES = ("equidistant", "fisheye")
PINHOLE_NAMES = ("plumb_bob", "rational_polynomial", "thin_prism", "tilted", "pinhole", "")


def camera_from_info(info: Mapping[str, Any]) -> Camera:
    """Return the camera of the image that is PUBLISHED with a CameraInfo.

    Args:
        info: Fields of sensor_msgs/CameraInfo: width, height, distortion_model, d, k,
            binning_x, binning_y, roi (x_offset, y_offset, width, height; all 0 = full image).
            K is for the full resolution; binning and ROI say what of it is sent.

    Raises:
        CalibrationError: K is zero (an uncalibrated driver) or the model is unknown.
    """
    width, height = int(info["width"]), int(info["height"])
    K = np.asarray(info["k"], dtype=np.float64).reshape(3, 3)
    if not (K[0, 0] > 0 and K[1, 1] > 0):
        raise CalibrationError(
            f"camera_info: focal lengths are {K[0, 0]:g}, {K[1, 1]:g}; the driver is not calibrated, "
            "run `tacit calibrate intrinsics`"
        )
    kind = _class_of(str(info.get("distortion_model", "")))
    return _published(kind(K, _trimmed(info.get("d", ()), kind), width, height), info)


def camera_to_info(camera: Camera) -> dict[str, Any]:
    """Return the fields of a sensor_msgs/CameraInfo that describe the stored image."""
    P = np.hstack([camera.K, np.zeros((3, 1))])
    return {
        "width": camera.width,
        "height": camera.height,
        "distortion_model": distortion_model(camera),
        "d": _ros_coefficients(camera),
        "k": camera.K.ravel().tolist(),
        "r": np.eye(3).ravel().tolist(),
        "p": P.ravel().tolist(),
        "binning_x": 1,
        "binning_y": 1,
        "roi": {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False},
    }


def camera_to_yaml_dict(camera: Camera, name: str) -> dict[str, Any]:
    """Return the camera in the file form of ROS's camera_calibration (`camera_info` YAML)."""
    info = camera_to_info(camera)
    return {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": name,
        "camera_matrix": _matrix(3, 3, info["k"]),
        "distortion_model": info["distortion_model"],
        "distortion_coefficients": _matrix(1, len(info["d"]), info["d"]),
        "rectification_matrix": _matrix(3, 3, info["r"]),
        "projection_matrix": _matrix(3, 4, info["p"]),
    }


def camera_from_yaml_dict(data: Mapping[str, Any], source: str = "camera_info") -> Camera:
    """Return the camera of a `camera_info` YAML file.

    Raises:
        CalibrationError: A key is missing.
    """
    try:
        info = {
            "width": data["image_width"],
            "height": data["image_height"],
            "distortion_model": data["distortion_model"],
            "d": data["distortion_coefficients"]["data"],
            "k": data["camera_matrix"]["data"],
        }
    except KeyError as problem:
        raise CalibrationError(
            f"{source}: key {problem} is missing; expected a ROS camera_info file"
        ) from None
    return camera_from_info(info)


def distortion_model(camera: Camera) -> str:
    """Return ROS's name of the distortion model."""
    if isinstance(camera, FisheyeCamera):
        return "equidistant"
    return "rational_polynomial" if len(camera.D) > 5 else "plumb_bob"


def _class_of(name: str) -> type[Camera]:
    if name in FISHEYE_NAMES:
        return FisheyeCamera
    if name in PINHOLE_NAMES:
        return PinholeCamera
    known = (*FISHEYE_NAMES, *PINHOLE_NAMES[:-1])
    raise CalibrationError(f"camera_info: distortion_model {name!r}; {did_you_mean(name, known)}")


def _trimmed(values: Sequence[float], kind: type[Camera]) -> tuple[float, ...]:
    """Drop trailing zeros beyond the shortest length that the model knows."""
    values = [float(value) for value in values]
    # Drivers pad D with zeros; the shortest equal form makes two descriptions of one lens compare equal.
    for count in kind.COUNTS:
        if not any(values[count:]):
            return tuple((values + [0.0] * count)[:count])
    return tuple(values)


def _ros_coefficients(camera: Camera) -> list[float]:
    """Pad to the length that ROS nodes expect: 5 for plumb_bob, 8 for rational, 4 for fisheye."""
    wanted = 4 if isinstance(camera, FisheyeCamera) else 5
    wanted = next((n for n in (wanted, 8, 12, 14) if n >= len(camera.D)), 14)
    return [*camera.D, *[0.0] * (wanted - len(camera.D))]


def _published(camera: Camera, info: Mapping[str, Any]) -> Camera:
    """Cut the region of interest out of the full image, then bin it."""
    # In this order, as the message defines it: the region is given in pixels before binning.
    roi = info.get("roi") or {}
    if roi.get("width") and roi.get("height"):
        offsets = int(roi.get("x_offset", 0)), int(roi.get("y_offset", 0))
        camera = camera.cropped(*offsets, int(roi["width"]), int(roi["height"]))
    bins = max(int(info.get("binning_x", 1)), 1), max(int(info.get("binning_y", 1)), 1)
    if bins == (1, 1):
        return camera
    return camera.scaled(camera.width // bins[0], camera.height // bins[1])


def _matrix(rows: int, cols: int, data: Sequence[float]) -> dict[str, Any]:
    return {"rows": rows, "cols": cols, "data": [float(value) for value in data]}
