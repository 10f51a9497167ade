"""Images: raw and compressed messages to and from RGB uint8 arrays, copying as little as can be."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from tacit.errors import did_you_mean
from tacit_ros.messages.stamps import MessageError, header, time_from_ns

ENCODINGS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "8UC1": 1, "8UC3": 3}  # channels; 8UC3 is taken as bgr8
Rgb = NDArray[np.uint8]


class ImageBuilder:
    """Builds raw images of one size over one reused buffer (15 us instead of 500 us at VGA).

    The message is valid until the next `build`; publishing copies it, so that is enough.
    """

    def __init__(self, frame_id: str = "") -> None:
        self._message = Image(header=Header(frame_id=str(frame_id)), encoding="rgb8")

    def build(self, rgb: Rgb, stamp_ns: int) -> Image:
        """Fill the message with `rgb` (H, W, 3) uint8."""
        message = self._message
        _require_rgb(rgb)
        if len(message.data) != rgb.size:
            message.data = array("B", bytes(rgb.size))
        message.height, message.width = int(rgb.shape[0]), int(rgb.shape[1])
        message.step = int(rgb.shape[1]) * 3
        np.copyto(np.frombuffer(message.data, np.uint8).reshape(rgb.shape), rgb)
        message.header.stamp = time_from_ns(stamp_ns)
        return message


def image(rgb: Rgb, stamp_ns: int, frame_id: str = "") -> Image:
    """Return a new raw rgb8 image of `rgb` (H, W, 3) uint8."""
    return ImageBuilder(frame_id).build(rgb, stamp_ns)


def compressed_image(
    data: bytes | Rgb, stamp_ns: int, frame_id: str = "", format: str = "jpeg"
) -> CompressedImage:
    """Return a compressed image of encoded bytes (1-D)."""
    message = CompressedImage(header=header(stamp_ns, frame_id), format=str(format))
    message.data = array("B", bytes(data))
    return message


def read_image(message: Image) -> Rgb:
    """Return a raw image as RGB (H, W, 3) uint8; rgb8 is a view of the message, not a copy.

    Raises:
        MessageError: The encoding is not one of rgb8, bgr8, mono8, or `data` is too short.
    """
    channels = ENCODINGS.get(message.encoding)
    if channels is None:
        raise MessageError(
            f"image encoding {message.encoding!r} is not supported; "
            f"{did_you_mean(message.encoding, ENCODINGS)} Set the camera driver to rgb8."
        )
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    if step < width * channels or data.size < height * step:
        raise MessageError(
            f"image {width}x{height} {message.encoding}: {data.size} bytes with step {step}, "
            f"expected {height} rows of at least {width * channels}; the driver fills `step` wrongly"
        )
    rows = data[: height * step].reshape(height, step)[:, : width * channels]
    return _to_rgb(rows.reshape(height, width, channels), message.encoding)


def read_compressed(message: CompressedImage) -> Rgb:
    """Return the encoded bytes of a compressed image (1-D uint8), a view of the message."""
    return np.frombuffer(message.data, np.uint8)


def encoded_size(data: Rgb) -> tuple[int, int] | None:
    """Return (height, width) that a JPEG or PNG states in its header; None if it is neither.

    Args:
        data: Encoded bytes (1-D).
    """
    head = data[:24].tobytes()
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    if head[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 < data.size and data[position] == 0xFF:
        marker = int(data[position + 1])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start-of-frame segment
            size = data[position + 5 : position + 9].tobytes()
            return int.from_bytes(size[:2], "big"), int.from_bytes(size[2:], "big")
        position += 2 + (int(data[position + 2]) << 8) + int(data[position + 3])
    return None


def _to_rgb(pixels: Rgb, encoding: str) -> Rgb:
    if encoding == "rgb8":
        return pixels
    code = cv2.COLOR_GRAY2RGB if pixels.shape[2] == 1 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


def _require_rgb(rgb: Rgb) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"image of shape {rgb.shape} {rgb.dtype}, expected (H, W, 3) uint8 RGB")
