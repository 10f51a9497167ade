"""From what the camera of a gel takes to the picture that the rig describes: crop, turn, flip, size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import RigError
from tacit.rig import DeviceSpec

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
FLIPS = {"horizontal": 1, "vertical": 0}


def shaped(taken_bgr: NDArray[np.uint8], device: DeviceSpec, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture of a sensor as RGB (height, width, 3).

    Args:
        taken_bgr: As taken (H, W, 3), in OpenCV's order of colours.
        device: Crop in pixels of what was taken, then the turn clockwise, then the flip.
        size: (width, height) of the result [px].

    Raises:
        RigError: The crop lies outside of what was taken.
    """
    picture: NDArray[Any] = taken_bgr
    if device.crop is not None:
        x_min, y_min, x_max, y_max = device.crop
        height, width = picture.shape[:2]
        if x_max > width or y_max > height:
            raise RigError(f"device.crop: {list(device.crop)} of a picture of {width}x{height} px")
        picture = picture[y_min:y_max, x_min:x_max]
    if device.rotate_deg:
        picture = cv2.rotate(picture, TURNS[device.rotate_deg])
    if device.flip != "none":
        picture = cv2.flip(picture, FLIPS[device.flip])
    if (picture.shape[1], picture.shape[0]) != size:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture[:, :, ::-1])
