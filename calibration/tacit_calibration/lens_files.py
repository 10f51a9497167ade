"""Files that describe a lens, in and out: ROS camera_info and echoed messages, OpenCV's FileStorage, Kalibr.

Which of them a file is, is seen from what it holds. Every reader ends at `tacit.geometry.camera`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from tacit.config.documents import MAX_YAML_BYTES, read_text, yaml_mapping
from tacit.errors import CalibrationError
from tacit.geometry.camera import PINHOLE_COUNTS, Camera, FisheyeCamera, PinholeCamera
from tacit.geometry.camera_info import (
    FISHEYE_NAMES,
    camera_from_info,
    camera_from_yaml_dict,
    camera_to_yaml_dict,
)
from tacit.geometry.transforms import FloatArray
from tacit_calibration.kalibr import camchain_of, camera_of_camchain

OPENCV_MARKS = ("%YAML:1.0", "opencv-matrix", "opencv_storage")
ECHOED_KEYS = {"width", "height", "k", "d"}
END_OF_MESSAGE = "---"
SIZES = ("image_size", "imagesize", "size", "resolution")


def read_lens(path: Path) -> Camera:
    """Read the lens of a file.

    Args:
        path: A camera_info file of ROS, a CameraInfo message as `ros2 topic echo` prints it, a file of
            OpenCV's FileStorage (YAML, XML or JSON, of pinhole or fisheye), or a camchain of Kalibr.

    Raises:
        CalibrationError: No such file, none of these, a key is missing, or several lenses.
    """
    text, source = read_text(path, MAX_YAML_BYTES, "ROS camera_info", CalibrationError), str(path)
    if any(mark in text for mark in OPENCV_MARKS):
        return _lens_of_values(_stored(text, source), source)
    data = yaml_mapping(_first_message(text), source, CalibrationError)
    lowered = {str(key).lower(): value for key, value in data.items()}
    if lowered.keys() >= ECHOED_KEYS:
        return _of_message(lowered, source)
    if any(isinstance(value, Mapping) and "camera_model" in value for value in data.values()):
        return camera_of_camchain(data, source)
    values = {key: _plain(value) for key, value in lowered.items()}
    if any(_is_intrinsic(value) for value in values.values()):
        return _lens_of_values(values, source)
    return camera_from_yaml_dict(data, source)


def write_camera_info(path: Path, camera: Camera, name: str) -> None:
    """Write the file that ROS camera drivers read."""
    _write(path, yaml.safe_dump(camera_to_yaml_dict(camera, name), sort_keys=False))


def write_kalibr(path: Path, camera: Camera, name: str) -> None:
    """Write a camchain of one camera.

    Raises:
        CalibrationError: A lens that Kalibr has no model for.
    """
    _write(path, yaml.safe_dump(camchain_of(camera, name), sort_keys=False, default_flow_style=None))


def write_opencv(path: Path, camera: Camera) -> None:
    """Write the file that OpenCV's calibration sample writes, as YAML, for `cv2.FileStorage` to read."""
    storage = cv2.FileStorage(".yaml", cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    storage.write("image_width", camera.width)
    storage.write("image_height", camera.height)
    storage.write("camera_matrix", np.ascontiguousarray(camera.K))
    storage.write("distortion_coefficients", np.array(camera.D or (0.0,) * 5).reshape(-1, 1))
    # Four coefficients may be of either kind; OpenCV's sample says which by this line.
    storage.write("fisheye_model", int(isinstance(camera, FisheyeCamera)))
    # OpenCV 5 writes another header, which older ones need not know.
    _write(path, storage.releaseAndGetString().replace("%YAML 1.2", OPENCV_MARKS[0], 1))


def _write(path: Path, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


def _first_message(text: str) -> str:
    """Return the first of the messages that `ros2 topic echo` printed one after the other."""
    lines = text.splitlines()
    # What stands before the first value (a directive, a comment, a separator) ends nothing.
    begin = next((i for i, line in enumerate(lines) if line.strip() and line[0] not in "%#-"), 0)
    ends = (i for i, line in enumerate(lines) if i > begin and line.strip() == END_OF_MESSAGE)
    return "\n".join(lines[: next(ends, len(lines))])


def _of_message(data: Mapping[str, Any], source: str) -> Camera:
    try:
        return camera_from_info(data)
    except (TypeError, ValueError, AttributeError):
        raise CalibrationError(
            f"{source}: expected numbers in width, height, k (9) and d of a CameraInfo message"
        ) from None


def _stored(text: str, source: str) -> dict[str, Any]:
    """Return {key in small letters: matrix, list, number or text} of OpenCV's FileStorage."""
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        root = storage.root()  # its nodes live as long as the storage
        return {str(key).lower(): _value(root.getNode(key)) for key in root.keys()}  # noqa: SIM118
    except (cv2.error, SystemError, UnicodeDecodeError):
        raise CalibrationError(f"{source}: not a file that OpenCV's FileStorage can read") from None


def _value(node: Any) -> Any:
    if node.isInt() or node.isReal():
        return float(node.real())
    if node.isString():
        return str(node.string())
    if node.isSeq():
        return _plain([_value(node.at(i)) for i in range(node.size())])
    return node.mat() if node.isMap() and not node.getNode("data").empty() else None


def _plain(value: Any) -> Any:
    """Return lists of numbers as an array, and anything else as it is."""
    if not isinstance(value, list):
        return value
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _lens_of_values(values: Mapping[str, Any], source: str) -> Camera:
    """Return the lens of matrices whose names every program chooses anew: K by its form, D by its length."""
    intrinsics = [key for key, value in values.items() if _is_intrinsic(value)]
    if len(intrinsics) != 1:
        found = f"{len(intrinsics)} ({', '.join(intrinsics)})" if intrinsics else "none"
        raise CalibrationError(
            f"{source}: expected one camera matrix (3x3), found {found} among {', '.join(values)}; leave one "
            "lens in a copy of the file"
        )
    is_fisheye = _says_fisheye(values)
    kind: type[Camera] = FisheyeCamera if is_fisheye else PinholeCamera
    counts = kind.COUNTS if is_fisheye else PINHOLE_COUNTS
    D = _distortion(values, source)
    if len(D) not in counts or not np.isfinite(D).all():
        raise CalibrationError(
            f"{source}: {len(D)} distortion coefficients, expected finite ones, {', '.join(map(str, counts))}"
        )
    width, height = _size(values, source)
    return kind(np.asarray(values[intrinsics[0]], dtype=np.float64), tuple(D.tolist()), width, height)


def _is_intrinsic(value: Any) -> bool:
    # Focal lengths are hundreds of pixels: a rotation, which is 3x3 too, holds nothing above 1.
    if not isinstance(value, np.ndarray) or value.shape != (3, 3) or not np.isfinite(value).all():
        return False
    return bool(value[0, 0] > 2 and value[1, 1] > 2 and (value[2] == [0, 0, 1]).all())


def _says_fisheye(values: Mapping[str, Any]) -> bool:
    for key, value in values.items():
        if isinstance(value, str) and ("model" in key or "type" in key):
            if any(name in value.lower() for name in (*FISHEYE_NAMES, "kannala", "kb4")):
                return True
        elif "fisheye" in key and isinstance(value, int | float) and value:
            return True
    return False


def _distortion(values: Mapping[str, Any], source: str) -> FloatArray:
    named = [
        key
        for key, value in values.items()
        if isinstance(value, np.ndarray) and (key.startswith("d") or "dist" in key)
        if value.ndim == 1 or (value.ndim == 2 and min(value.shape) == 1)
    ]
    if len(named) != 1:
        raise CalibrationError(
            f"{source}: expected one list of distortion coefficients, found {', '.join(named) or 'none'}; "
            "name it distortion_coefficients"
        )
    return np.asarray(values[named[0]], dtype=np.float64).ravel()


def _size(values: Mapping[str, Any], source: str) -> tuple[int, int]:
    sizes = [value for key, value in values.items() if key in SIZES and np.size(value) == 2]
    pair = [*(values.get(f"image_{side}", values.get(side)) for side in ("width", "height"))]
    pair = np.ravel(sizes[0]).tolist() if sizes and None in pair else pair
    try:
        width, height = (int(value) for value in pair)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        width = height = 0
    if min(width, height) < 1:
        raise CalibrationError(
            f"{source}: the size of the pictures is missing; add the lines image_width: and image_height:"
        )
    return width, height
