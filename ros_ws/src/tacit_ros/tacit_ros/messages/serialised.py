"""Reads messages as they come over the wire, in CDR, and makes no more of them than is looked at.

For each picture rclpy makes two copies more and for each joint state some twenty objects: half of what a
message costs. Types that have no reader here, and bytes in another order than those of Fast DDS and
Cyclone DDS on any computer of today, go through rclpy. What is read has the fields of the message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message

from tacit_ros.messages.named import message_class
from tacit_ros.messages.stamps import MessageError

PLAIN_CDR_LE = b"\x00\x01"
"""How the bytes begin: plain CDR, little-endian; two bytes of options follow. Alignment counts from there."""
BODY = 4
Read = Callable[[bytes], object]

_HEADER = struct.Struct("<iII")  # seconds, nanoseconds, length of frame_id
_LENGTH = struct.Struct("<I")
_SIZES = struct.Struct("<III")  # height, width, length of encoding
_TAIL = struct.Struct("<II")  # step, number of bytes


@dataclass(slots=True)
class Stamp:
    """As `builtin_interfaces/Time`."""

    sec: int
    nanosec: int


@dataclass(slots=True)
class Head:
    """As `std_msgs/Header`."""

    stamp: Stamp
    frame_id: str


@dataclass(slots=True)
class ImageRead:
    """As `sensor_msgs/Image`; `data` is a view."""

    header: Head
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


@dataclass(slots=True)
class CompressedRead:
    """As `sensor_msgs/CompressedImage`; `data` is a view."""

    header: Head
    format: str
    data: memoryview


@dataclass(slots=True)
class JointsRead:
    """As `sensor_msgs/JointState`; numbers are views (n,)."""

    header: Head
    name: list[str]
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    effort: NDArray[np.float64]


def reader_of(type_name: str) -> Read:
    """Return what reads serialised messages of a type (`sensor_msgs/msg/Image`), of one stream.

    It raises MessageError where the bytes are not such a message.
    """
    kind = message_class(type_name)
    own: dict[str, Read] = {
        "sensor_msgs/msg/Image": _image,
        "sensor_msgs/msg/CompressedImage": _compressed,
        "sensor_msgs/msg/JointState": _JointReader(),
    }
    quick = own.get(type_name)

    def read(data: bytes) -> object:
        try:
            if quick is not None and data[:2] == PLAIN_CDR_LE:
                return quick(data)
            return deserialize_message(data, kind)
        except (struct.error, ValueError, RuntimeError) as problem:  # rclpy's own are RuntimeErrors
            raise MessageError(
                f"{len(data)} bytes are no {type_name} ({str(problem).splitlines()[0]}); is the sender built "
                "with another version of the type?",
                "truncated",
            ) from None

    return read


def _image(data: bytes) -> ImageRead:
    header, at = _header(data)
    height, width, length = _SIZES.unpack_from(data, at)
    encoding, at = _text(data, at + _SIZES.size, length)
    order, at = data[at : at + 1], _aligned(at + 1)
    step, size = _TAIL.unpack_from(data, at)
    pixels = _view(data, at + _TAIL.size, size)
    return ImageRead(header, height, width, encoding, order[0], step, pixels)


def _compressed(data: bytes) -> CompressedRead:
    header, at = _header(data)
    (length,) = _LENGTH.unpack_from(data, at)
    kind, at = _text(data, at + _LENGTH.size, length)
    at = _aligned(at)
    (size,) = _LENGTH.unpack_from(data, at)
    return CompressedRead(header, kind, _view(data, at + _LENGTH.size, size))


class _JointReader:
    """Reads joint states of one stream; names that are those of the message before are not read again."""

    def __init__(self) -> None:
        self._before, self._names = b"", [""]

    def __call__(self, data: bytes) -> JointsRead:
        header, begin = _header(data)
        if self._before and data.startswith(self._before, begin):
            at = begin + len(self._before)
        else:
            self._names, at = _texts(data, begin)
            self._before = data[begin:at]
        position, at = _numbers(data, at)
        velocity, at = _numbers(data, at)
        effort, at = _numbers(data, at)
        return JointsRead(header, self._names, position, velocity, effort)


def _header(data: bytes) -> tuple[Head, int]:
    """Read the header; returns it and where what follows it begins, aligned to 4 bytes."""
    sec, nanosec, length = _HEADER.unpack_from(data, BODY)
    frame_id, at = _text(data, BODY + _HEADER.size, length)
    return Head(Stamp(sec, nanosec), frame_id), _aligned(at)


def _text(data: bytes, at: int, length: int) -> tuple[str, int]:
    """Read a text of `length` bytes, its final 0 included; as rclpy does, it ends at its first 0."""
    raw = data[at : at + length]
    if len(raw) != length:
        raise ValueError(f"a text of {length} bytes does not end in it")
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace"), at + length


def _texts(data: bytes, at: int) -> tuple[list[str], int]:
    """Read a list of texts; what follows it begins aligned to 4 bytes."""
    (count,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    texts = []
    for _ in range(count):  # one that is not there ends the reading, whatever the count says
        (length,) = _LENGTH.unpack_from(data, at)
        text, at = _text(data, at + _LENGTH.size, length)
        texts.append(text)
        at = _aligned(at)
    return texts, at


def _numbers(data: bytes, at: int) -> tuple[NDArray[np.float64], int]:
    """Read a list of float64; they are aligned to 8 bytes where there are any."""
    (count,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    if not count:
        return np.empty(0), at
    at += (BODY - at) % 8
    if at + 8 * count > len(data):
        raise ValueError(f"{count} numbers do not end in it")
    return np.frombuffer(data, "<f8", count, at), at + 8 * count


def _view(data: bytes, at: int, size: int) -> memoryview:
    view = memoryview(data)[at : at + size]
    if len(view) != size:
        raise ValueError(f"{size} bytes of a picture do not end in it")
    return view


def _aligned(at: int) -> int:
    """Return the next multiple of 4 bytes; `BODY` is one."""
    return at + -at % 4
