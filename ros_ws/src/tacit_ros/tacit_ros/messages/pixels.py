"""Raw images of any usual encoding become RGB uint8, or depth in millimetres.

Sizes, `step` and the number of bytes are checked before a pixel is touched: OpenCV ends the process
that hands it an empty or a short image.
"""

from __future__ import annotations

import sys
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from tacit.errors import did_you_mean
from tacit.images.depth import Depth, depth_from_metres
from tacit_ros.messages.images import Rgb
from tacit_ros.messages.stamps import MessageError

LARGEST_SIDE = 16384
"""Twice an 8K camera: a width or height above it is a damaged message, not a picture."""


class Encoding(NamedTuple):
    """How one encoding lies in memory, and how it becomes RGB.

    Attributes:
        channels: Values per pixel in a row.
        to_rgb: OpenCV's conversion; None where the channels are R, G, B already.
        dtype: Of one value; of 16 bits the high byte is kept.
        even: Width (and height, where it is shared there too) has to be even: pixels share their colour.
        rows: Rows of data per row of pixels, as (numerator, denominator).
    """

    channels: int
    to_rgb: int | None = None
    dtype: str = "u1"
    even: bool = False
    rows: tuple[int, int] = (1, 1)


# ROS names a Bayer pattern by the first two pixels of its first two rows. OpenCV's older names (BayerBG for
# rggb) start at the second pixel of the second row; these constants are named as in ROS.
_BAYER = {
    "rggb": cv2.COLOR_BayerRGGB2RGB,
    "bggr": cv2.COLOR_BayerBGGR2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB,
    "grbg": cv2.COLOR_BayerGRBG2RGB,
}
_CHANNELS = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
}
_UYVY = Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=True)
_YUYV = Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=True)
COLOUR_ENCODINGS = {
    **{
        f"{name}{8 * size}": Encoding(*kind, f"u{size}")
        for name, kind in _CHANNELS.items()
        for size in (1, 2)
    },
    **{
        f"bayer_{name}{8 * size}": Encoding(1, code, f"u{size}", True)
        for name, code in _BAYER.items()
        for size in (1, 2)
    },
    # Names of memory alone say nothing about the order of colours: as everywhere in ROS, OpenCV's is meant.
    "8UC1": Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC3": Encoding(3, cv2.COLOR_BGR2RGB),
    "8UC4": Encoding(4, cv2.COLOR_BGRA2RGB),
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
    "nv12": Encoding(1, cv2.COLOR_YUV2RGB_NV12, even=True, rows=(3, 2)),
    "nv21": Encoding(1, cv2.COLOR_YUV2RGB_NV21, even=True, rows=(3, 2)),
}
DEPTH_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
_LOWER = {name.lower(): name for name in (*COLOUR_ENCODINGS, *DEPTH_ENCODINGS)}


def read_image(message: Image) -> Rgb:
    """Return a raw image as RGB (H, W, 3) uint8; rgb8 is a view of the message, not a copy.

    Raises:
        MessageError: The encoding is unknown or holds depth, or sizes and bytes contradict each other.
    """
    name = _encoding_name(message)
    encoding = COLOUR_ENCODINGS.get(name)
    if encoding is None and name in DEPTH_ENCODINGS:
        raise MessageError(
            f"image encoding {name!r} is depth, not colour: give the camera `kind: depth` in the rig, or "
            "name its colour topic there",
            "encoding",
        )
    if encoding is None:
        raise MessageError(
            f"image encoding {name!r} is not known; {did_you_mean(name, COLOUR_ENCODINGS)}", "encoding"
        )
    up, down = encoding.rows
    uneven = message.width % 2 or (message.height % down if down > 1 else 0)
    if encoding.even and uneven:
        raise MessageError(f"image {message.width}x{message.height} {name}: expected even sides", "size")
    rows = _rows(message, encoding.channels, np.dtype(encoding.dtype), message.height * up // down)
    return _to_rgb(rows if rows.shape[2] > 1 else rows[..., 0], encoding)


def read_depth(message: Image) -> Depth:
    """Return a raw depth image (H, W) uint16 [mm]: 16UC1 as it is, 32FC1 from metres, NaN as 0.

    Raises:
        MessageError: Another encoding, or sizes and bytes contradict each other.
    """
    name = _encoding_name(message)
    if name not in DEPTH_ENCODINGS:
        raise MessageError(
            f"image encoding {message.encoding!r} is not depth, and the rig says `kind: depth`; expected "
            "16UC1 [mm] or 32FC1 [m]: name the camera's depth topic in the rig",
            "encoding",
        )
    values = _rows(message, 1, np.dtype(DEPTH_ENCODINGS[name]), message.height)[..., 0]
    return depth_from_metres(values) if values.dtype.kind == "f" else np.ascontiguousarray(values, np.uint16)


def _encoding_name(message: Image) -> str:
    return _LOWER.get(message.encoding.lower(), message.encoding)


def _rows(message: Image, channels: int, dtype: np.dtype, num_rows: int) -> NDArray:
    """Return the values (rows, W, channels), in the byte order of this machine; a view where it can be.

    Raises:
        MessageError: Width, height, `step` or the number of bytes are impossible together.
    """
    height, width, step = message.height, message.width, message.step
    said = f"image {width}x{height} {message.encoding}"
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise MessageError(
            f"{said}: expected sides of 1 to {LARGEST_SIDE} pixels; is the camera streaming?", "size"
        )
    data = np.frombuffer(message.data, np.uint8)
    row_bytes = width * channels * dtype.itemsize
    if step < row_bytes or data.size < num_rows * step:
        raise MessageError(
            f"{said}: {data.size} bytes with step {step}, expected {num_rows} rows of at least {row_bytes}; "
            "the message is cut off, or the driver fills `step` wrongly",
            "size",
        )
    rows = data[: num_rows * step].reshape(num_rows, step)[:, :row_bytes]
    if dtype.itemsize > 1:
        order: Literal["<", ">"] = ">" if message.is_bigendian else "<"
        rows = np.ascontiguousarray(rows).view(dtype.newbyteorder(order))
        rows = rows if order == (">" if sys.byteorder == "big" else "<") else rows.astype(dtype)
    return rows.reshape(num_rows, width, channels)


def _to_rgb(pixels: NDArray, encoding: Encoding) -> Rgb:
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    if encoding.to_rgb is None:
        return pixels
    try:
        return np.asarray(cv2.cvtColor(pixels, encoding.to_rgb), dtype=np.uint8)
    except cv2.error as problem:  # a side too short for the filter of a Bayer pattern, for one
        raise MessageError(
            f"image {pixels.shape[1]}x{pixels.shape[0]} cannot be converted: {problem.err}", "undecodable"
        ) from None
