"""Depth images: (H, W) uint16 millimetres, 0 where nothing was measured; kept as 16-bit PNG, never as colour.

To be looked at or learned from, millimetres between two distances become grey levels or colours.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from tacit.errors import ImageError
from tacit.images.colour import Image, as_rgb, decode_pixels
from tacit.images.encoded import read_header

Depth = NDArray[np.uint16]


def _ordered(range_m: tuple[float, float]) -> tuple[float, float]:
    near, far = range_m
    if not 0 <= near < far:
        raise ValueError(f"depth range {near} to {far} m: expected 0 <= near < far")
    return range_m


DepthRange = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Distances (near, far) [m] that are told apart where depth becomes grey levels."""
MM_PER_M = 1000.0
FARTHEST_MM = np.iinfo(np.uint16).max


def depth_from_metres(metres: NDArray[np.floating]) -> Depth:
    """Return millimetres (H, W) of metres (H, W), rounded; 0 for NaN, infinity and beyond 65.5 m."""
    mm = np.rint(np.asarray(metres, dtype=np.float64) * MM_PER_M)
    return np.where((mm > 0) & (mm <= FARTHEST_MM), mm, 0).astype(np.uint16)


def encode_depth(depth_mm: Depth) -> NDArray[np.uint8]:
    """Return PNG bytes (N,) uint8 of depth (H, W) uint16, lossless.

    Raises:
        ImageError: Another shape or type.
    """
    if depth_mm.ndim != 2 or depth_mm.dtype != np.uint16 or not depth_mm.size:
        raise ImageError(
            f"depth image of shape {depth_mm.shape} {depth_mm.dtype}, expected (H, W) uint16 millimetres"
        )
    return np.asarray(cv2.imencode(".png", depth_mm)[1], dtype=np.uint8).reshape(-1)


def is_depth_png(data: NDArray[np.uint8]) -> bool:
    """Tell whether encoded bytes (N,) state to be a 16-bit grey PNG."""
    header = read_header(data)
    return header is not None and (header.format, header.bits, header.channels) == ("png", 16, 1)


def decode_depth(data: NDArray[np.uint8] | bytes) -> Depth:
    """Return depth (H, W) uint16 [mm] of a 16-bit grey PNG.

    Raises:
        ImageError: Damaged data, or a picture of another kind.
    """
    buffer = np.frombuffer(data, dtype=np.uint8) if isinstance(data, bytes) else np.asarray(data, np.uint8)
    header = read_header(buffer)
    if header is None or not is_depth_png(buffer):
        found = f"a {header.bits}-bit {header.format} of {header.channels} channels" if header else "no PNG"
        raise ImageError(f"depth image of {buffer.size} bytes is {found}, expected a 16-bit grey PNG")
    mm = decode_pixels(buffer, cv2.IMREAD_UNCHANGED)
    if mm is None:
        raise ImageError(f"depth image of {buffer.size} bytes cannot be decoded; it is cut off or damaged")
    return np.asarray(mm, dtype=np.uint16)


def depth_levels(depth_mm: Depth, near_m: float, far_m: float) -> Image:
    """Return depth as a picture (H, W, 3) of equal channels, which image encoders take.

    Level 1 is `near_m` or nearer, 255 `far_m` or farther, linear between; 0 is kept for pixels that
    were not measured, so that a hole is not taken for something close.
    """
    share = (depth_mm.astype(np.float32) / MM_PER_M - near_m) / (far_m - near_m)
    levels = np.where(depth_mm > 0, np.rint(1 + 254 * np.clip(share, 0, 1)), 0).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


def depth_colours(depth_mm: Depth) -> Image:
    """Return depth as a picture (H, W, 3) to look at: red is near, blue is far, black was not measured.

    The colours span the picture's own distances, between its 2nd and 98th percentile.
    """
    measured = depth_mm[depth_mm > 0]
    if not measured.size:
        return np.zeros((*depth_mm.shape, 3), dtype=np.uint8)
    near_mm, far_mm = np.percentile(measured, [2, 98])
    levels = depth_levels(depth_mm, near_mm / MM_PER_M, max(far_mm, near_mm + 1) / MM_PER_M)
    bgr = cv2.applyColorMap(255 - levels[..., 0], cv2.COLORMAP_TURBO)
    return np.where(depth_mm[..., None] > 0, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), 0).astype(np.uint8)


def as_depth(value: object) -> Depth:
    """Return a depth value as (H, W) uint16 [mm]: an encoded one (1-D uint8) is decoded here.

    Raises:
        ImageError: Damaged bytes, or no depth image.
    """
    pixels = np.asarray(value)
    if pixels.ndim == 1 and pixels.dtype == np.uint8:
        return decode_depth(pixels)
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise ImageError(f"picture of shape {pixels.shape} {pixels.dtype}, expected depth (H, W) uint16")
    return pixels


def to_look_at(value: object) -> Image:
    """Return any image value, of a colour or a depth camera, as a picture (H, W, 3) for people.

    Raises:
        ImageError: Damaged bytes, or no image.
    """
    pixels = np.asarray(value)
    encoded = pixels.ndim == 1 and pixels.dtype == np.uint8
    depth = is_depth_png(pixels) if encoded else pixels.ndim == 2
    return depth_colours(as_depth(pixels)) if depth else as_rgb(pixels)
