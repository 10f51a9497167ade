"""What the bytes of a JPEG or PNG say of the picture without decoding it: size, bits, whether all is there.

Cheap enough for every frame that arrives and for every frame of an episode: the header is a few
bytes at the front, the end marker a few at the back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
JPEG_HEAD, JPEG_END = b"\xff\xd8", b"\xff\xd9"
NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)
"""Markers in the range of the start-of-frame ones that are tables: Huffman, reserved, arithmetic."""
START_OF_SCAN = 0xDA
TAIL = 64
"""Where the end marker of nearly every picture is found without looking through the whole of it [bytes]."""


class PictureHeader(NamedTuple):
    """What a picture says of itself: bits are those of one channel; a palette PNG counts as 3 channels."""

    format: Literal["jpeg", "png"]
    height: int
    width: int
    bits: int
    channels: int


def read_header(data: Bytes) -> PictureHeader | None:
    """Return the header of encoded bytes (N,); None if they are neither JPEG nor PNG, or end within it."""
    head = data[:26].tobytes()
    if head[:8] == PNG_HEAD:
        return _png_header(head) if len(head) == 26 else None
    return _jpeg_header(data) if head[:2] == JPEG_HEAD else None


def is_complete(data: Bytes) -> bool:
    """Tell whether encoded bytes (N,) hold the end marker of their format, whatever the camera sent after it.

    A picture that lost its last bytes still decodes in part in some programs, and not at all in others.
    """
    if data[:4].tobytes() == PNG_HEAD[:4]:
        return PNG_END in data[-TAIL:].tobytes() or PNG_END in data.tobytes()
    if JPEG_END in data[-TAIL:].tobytes().rstrip(b"\0")[-2:]:
        return True
    # Not at the very end: zeros, or what an earlier frame left in the buffer. Within the picture's own data
    # the marker cannot occur; before it, it can: a small preview has an end of its own.
    scan = next((position for marker, position in _segments(data) if marker == START_OF_SCAN), None)
    return scan is not None and JPEG_END in data[scan:].tobytes()


def _png_header(head: bytes) -> PictureHeader:
    """The first chunk of a PNG is its header, by the standard."""
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(head[25], 0)
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return PictureHeader("png", height, width, head[24], channels)


def _jpeg_header(data: Bytes) -> PictureHeader | None:
    """Walk the segments of a JPEG up to the one that starts the frame."""
    for marker, position in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAME_HEADER:
            bits, h1, h0, w1, w0, channels = data[position + 4 : position + 10].tolist()
            return PictureHeader("jpeg", h1 << 8 | h0, w1 << 8 | w0, bits, channels)
    return None


def _segments(data: Bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, position) of each segment of a JPEG that stands there with ten bytes or more."""
    position = 2
    view = np.ascontiguousarray(data).data  # its elements are plain integers
    while position + 10 <= data.size and view[position] == 0xFF:
        marker = view[position + 1]
        if marker == 0xFF:  # a fill byte, which any marker may have before it
            position += 1
            continue
        yield marker, position
        length = (view[position + 2] << 8) + view[position + 3]
        if length < 2:
            return
        position += 2 + length
