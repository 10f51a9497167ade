"""Compressed images: their bytes are passed on, once header and end marker say that all is there."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from tacit.errors import ImageError
from tacit.images.depth import Depth, decode_depth, depth_from_metres
from tacit.images.encoded import PictureHeader, is_complete, read_header
from tacit_ros.messages.images import Rgb
from tacit_ros.messages.stamps import MessageError

CONFIG_HEADER = struct.Struct("<iff")
"""What `compressedDepth` puts before its PNG: a format number and two parameters of the quantisation."""
DEPTH_TRANSPORT = "compressedDepth"


def compressed_header(message: CompressedImage) -> PictureHeader:
    """Return the size and kind that the bytes state; a few microseconds.

    Raises:
        MessageError: Neither JPEG nor PNG, or without its end marker.
    """
    data = _picture_bytes(message)
    header = read_header(data)
    if header is None:
        raise MessageError(
            f"compressed image of {data.size} bytes ({message.format or 'no format'}) is neither JPEG nor "
            "PNG; set the format of the camera's image transport to jpeg or png",
            "encoding" if data.size else "truncated",
        )
    if not is_complete(data):
        raise MessageError(
            f"compressed image of {data.size} bytes has no end marker: it was cut off on its way", "truncated"
        )
    return header


def read_compressed(message: CompressedImage, header: PictureHeader | None = None) -> Rgb:
    """Return the encoded bytes of a colour image (1-D uint8), a view of the message.

    Args:
        message: As it came.
        header: What `compressed_header` said of it, where that is known.

    Raises:
        MessageError: As for `compressed_header`, or the picture is depth.
    """
    header = header or compressed_header(message)
    if DEPTH_TRANSPORT in message.format or (header.bits, header.channels) == (16, 1):
        raise MessageError(
            f"compressed image ({message.format}, {header.bits} bits) is depth, not colour: give the camera "
            "`kind: depth` in the rig, or name its colour topic there",
            "encoding",
        )
    return _picture_bytes(message)


def read_compressed_depth(
    message: CompressedImage, header: PictureHeader | None = None
) -> NDArray[np.uint8] | Depth:
    """Return a depth image: the bytes of its 16-bit PNG (1-D, millimetres), or (H, W) uint16 [mm].

    The second is what 32FC1 over `compressedDepth` gives: its PNG holds quantised inverse distances.

    Args:
        message: As it came.
        header: What `compressed_header` said of it, where that is known.

    Raises:
        MessageError: As for `compressed_header`, or the picture is no 16-bit grey PNG.
    """
    header = header or compressed_header(message)
    if (header.format, header.bits, header.channels) != ("png", 16, 1):
        raise MessageError(
            f"compressed image ({message.format}) is a {header.bits}-bit {header.format} of "
            f"{header.channels} channels, and the rig says `kind: depth`; expected a 16-bit PNG: name "
            "the camera's depth topic with the transport compressedDepth (format png), or the raw topic",
            "encoding",
        )
    png = _picture_bytes(message)
    return _from_inverse(png, message) if message.format.startswith("32FC1") else png


def _picture_bytes(message: CompressedImage) -> NDArray[np.uint8]:
    """The bytes of the picture itself, without the header of `compressedDepth`."""
    data = np.frombuffer(message.data, np.uint8)
    if DEPTH_TRANSPORT not in message.format:
        return data
    if "rvl" in message.format.lower():
        raise MessageError(
            "depth compressed as rvl cannot be read; set the format of the compressedDepth transport to png",
            "encoding",
        )
    return data[CONFIG_HEADER.size :]


def _from_inverse(png: NDArray[np.uint8], message: CompressedImage) -> Depth:
    """Undo the quantisation of compressed_depth_image_transport: distance [m] = a / (value - b)."""
    try:
        values = decode_depth(png).astype(np.float64)
    except ImageError as problem:
        raise MessageError(str(problem), "undecodable") from None
    if DEPTH_TRANSPORT not in message.format:
        raise MessageError(
            "32FC1 in a PNG is defined for compressedDepth alone; use that transport", "encoding"
        )
    _, a, b = CONFIG_HEADER.unpack_from(message.data)
    with np.errstate(divide="ignore", invalid="ignore"):
        return depth_from_metres(np.where(values > 0, a / (values - b), np.nan))
