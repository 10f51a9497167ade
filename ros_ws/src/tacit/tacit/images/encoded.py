"""What the bytes of a JPEG or PNG say of the picture without decoding it: size, bits, whether all is there.

Cheap enough for every frame that arrives and for every frame of an episode: the header is a few
bytes at the front, the end marker a few at the back.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
JPEG_HEAD, JPEG_END = b"\xff\xd8", b"\xff\xd9"
NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)
"""Markers in the range of the start-of-frame ones that are tables: Huffman, reserved, arithmetic."""
TAIL = 64
"""An end marker may be followed by a few stray bytes of the camera's buffer, after any zero padding."""


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
    """Tell whether encoded bytes (N,) end with the end marker of their format; zero padding is passed over.

    A JPEG that lost its last bytes still decodes in part in some programs, and not at all in others.
    """
    end = PNG_END if data[:4].tobytes() == PNG_HEAD[:4] else JPEG_END
    tail = data[-1024:].tobytes().rstrip(b"\0") or data.tobytes().rstrip(b"\0")
    return end in tail[-TAIL:]


def _png_header(head: bytes) -> PictureHeader:
    """The first chunk of a PNG is its header, by the standard."""
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(head[25], 0)
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return PictureHeader("png", height, width, head[24], channels)


def _jpeg_header(data: Bytes) -> PictureHeader | None:
    """Walk the segments of a JPEG up to the one that starts the frame."""
    position = 2
    while position + 10 <= data.size and data[position] == 0xFF:
        marker = int(data[position + 1])
        if marker == 0xFF:  # a fill byte, which any marker may have before it
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAME_HEADER:
            bits, h1, h0, w1, w0, channels = data[position + 4 : position + 10].tolist()
            return PictureHeader("jpeg", h1 << 8 | h0, w1 << 8 | w0, bits, channels)
        length = (int(data[position + 2]) << 8) + int(data[position + 3])
        if length < 2:
            return None
        position += 2 + length
    return None
