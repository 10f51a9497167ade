"""The only image code: decode, encode and resize, moving pixels and boxes by the same rule.

Recording, training and the policy node all call `ImageTransform`, so a picture and the boxes in
it cannot drift apart, and training sees exactly what the robot will.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.errors import ImageError
from tacit.images.encoded import PictureHeader, is_complete, read_header

MAX_SIDE = 16_384
"""Longest side of a picture [px]."""
MAX_PIXELS = 1 << 25
"""An 8K frame has as many; decoded they are 100 MB. A PNG of 200 KB can state 40,000 x 40,000."""
JPEG_SCAN = (0xFF, 0xDA)
MAX_SCANS = 64
"""A progressive JPEG has about ten; each costs a pass over the picture, however short it is."""
REDUCTIONS = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
"""How many times smaller a JPEG can be decoded: fewer coefficients of each block of 8 x 8 are used."""
MAX_PICTURE_BYTES = 1 << 27
"""Largest picture file; `MAX_PIXELS` as a PNG that does not compress have 100 MB."""
Image = NDArray[np.uint8]
ResizeMode = Literal["squash", "letterbox", "crop"]


def decode_image(data: NDArray[np.uint8] | bytes, reduction: int = 1) -> Image:
    """Return RGB (H, W, 3) uint8 of a JPEG or PNG; an array that is already RGB is passed through.

    Args:
        data: Encoded bytes, or RGB.
        reduction: How many times smaller an encoded picture is decoded: 1, 2, 4 or 8; sides are rounded up.

    Raises:
        ImageError: Empty or damaged data.
    """
    if isinstance(data, np.ndarray) and data.ndim == 3:
        return check_rgb(data)
    buffer = np.frombuffer(data, dtype=np.uint8) if isinstance(data, bytes) else np.asarray(data, np.uint8)
    buffer = buffer.reshape(-1)
    header = read_header(buffer)
    size = REDUCTIONS.get(reduction, cv2.IMREAD_COLOR)
    bgr = decode_pixels(buffer, size | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        cut = header is not None and not is_complete(buffer)
        reason = "its end marker is missing, it was cut off" if cut else "expected JPEG or PNG"
        raise ImageError(f"image of {buffer.size} bytes cannot be decoded; {reason}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def load_image(path: Path) -> Image:
    """Return RGB (H, W, 3) uint8 of a JPEG or PNG file.

    Raises:
        ImageError: It is too large or damaged; the message names it.
    """
    with path.open("rb") as file:
        data = file.read(MAX_PICTURE_BYTES + 1)
    if len(data) > MAX_PICTURE_BYTES:
        raise ImageError(f"{path}: a picture of more than {MAX_PICTURE_BYTES >> 20} MB")
    try:
        return decode_image(data)
    except ImageError as problem:
        raise ImageError(f"{path}: {problem}") from None


def decode_pixels(data: NDArray[np.uint8], flags: int) -> NDArray | None:
    """Return what OpenCV makes of a JPEG or PNG (N,), if it is no larger than any camera's.

    Args:
        data: Encoded bytes.
        flags: `cv2.IMREAD_...`: colour or as it is, how much smaller.

    Returns:
        Pixels in OpenCV's order; None where the picture is damaged, or of a format of which nobody knows what
        decoding it costs.

    Raises:
        ImageError: It states a size, or a number of scans, that no camera writes.
    """
    header = read_header(data)
    if header is None:
        return None
    if header.height * header.width > MAX_PIXELS or max(header.height, header.width) > MAX_SIDE:
        raise ImageError(
            f"image states {header.width}x{header.height} pixels; it is damaged, or larger than the "
            f"{MAX_SIDE} on a side and {MAX_PIXELS} in all that are decoded"
        )
    if header.format == "jpeg" and _num_scans(data) > MAX_SCANS:
        raise ImageError(f"JPEG of more than {MAX_SCANS} scans; no camera writes that: save it again")
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:  # some damage gives nothing, some raises
        return None


def _num_scans(data: NDArray[np.uint8]) -> int:
    """Return how often a scan begins in the bytes of a JPEG (N,); a fifth of the time of `bytes.count`."""
    first, second = JPEG_SCAN
    return int(np.count_nonzero((data[:-1] == first) & (data[1:] == second)))


def as_rgb(value: object) -> Image:
    """Return an image value as RGB (H, W, 3): encoded ones are decoded here, not on arrival.

    Raises:
        ImageError: Damaged bytes, or no picture of colours.
    """
    pixels = np.asarray(value)
    if pixels.dtype != np.uint8:
        raise ImageError(f"picture of type {pixels.dtype} {pixels.shape}, expected uint8 colours")
    return decode_image(pixels) if pixels.ndim == 1 else pixels


def encode_jpeg(image_rgb: Image, quality: int = 90) -> NDArray[np.uint8]:
    """Return JPEG bytes (N,) uint8 of RGB (H, W, 3); quality 1..100."""
    return _encode(".jpg", image_rgb, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])


def encode_png(image_rgb: Image) -> NDArray[np.uint8]:
    """Return PNG bytes (N,) uint8 of RGB (H, W, 3), lossless."""
    return _encode(".png", image_rgb, [])


def check_rgb(image: NDArray[np.uint8]) -> Image:
    """Return `image` if it is RGB uint8 (H, W, 3).

    Raises:
        ImageError: Another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"image of shape {image.shape} {image.dtype}, expected (H, W, 3) uint8 RGB")
    return image


class Size(NamedTuple):
    """Sides of a picture [px]."""

    height: int
    width: int


class Placement(NamedTuple):
    """Where the resized picture stands in the output: its size and its left top corner [px].

    A picture that is cut stands over the edges: its corner is negative and its size larger.
    """

    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True)
class ImageTransform:
    """Resize to a fixed size.

    `squash` fills it; `letterbox` keeps the aspect and pads with black; `crop` keeps the aspect, covers
    the output and cuts what stands over, as much on the left as on the right.

    Raises:
        ValueError: A size is not positive or the mode is unknown.
    """

    source_height: int
    source_width: int
    height: int
    width: int
    mode: ResizeMode = "squash"

    def __post_init__(self) -> None:
        if min(self.source_height, self.source_width, self.height, self.width) < 1:
            raise ValueError(f"{self}: sizes must be at least 1")
        if self.mode not in ("squash", "letterbox", "crop"):
            raise ValueError(f"mode {self.mode!r}; expected squash, letterbox or crop")

    @functools.cached_property
    def placement(self) -> Placement:
        """Where the picture lands in the output."""
        if self.mode == "squash":
            return Placement(self.width, self.height, 0, 0)
        scales = (self.width / self.source_width, self.height / self.source_height)
        if self.mode == "crop":
            width = max(self.width, round(self.source_width * max(scales)))
            height = max(self.height, round(self.source_height * max(scales)))
            return Placement(width, height, -((width - self.width) // 2), -((height - self.height) // 2))
        scale = min(scales)
        width = max(1, min(self.width, round(self.source_width * scale)))
        height = max(1, min(self.height, round(self.source_height * scale)))
        return Placement(width, height, (self.width - width) // 2, (self.height - height) // 2)

    def image(self, image_rgb: Image) -> Image:
        """Return the picture (height, width, 3).

        Raises:
            ImageError: Not RGB of the source size.
        """
        self._check_size(Size(*check_rgb(image_rgb).shape[:2]))
        return self._placed(_resize(image_rgb, self.placement.width, self.placement.height))

    @functools.cached_property
    def reduction(self) -> int:
        """How many times smaller a JPEG of the source may be decoded, and still shrinks to the output."""
        place = self.placement
        for times in REDUCTIONS:
            whole = self.source_width % times == 0 and self.source_height % times == 0
            if (
                whole
                and place.width * times <= self.source_width
                and place.height * times <= self.source_height
            ):
                return times
        return 1

    def decoded(self, data: NDArray[np.uint8]) -> Image:
        """Return the picture (height, width, 3) of a stored one; a JPEG is decoded no larger than needed.

        Pixels are averages over the same squares as those of `image`, from fewer coefficients: on pictures
        of cameras the two differ by less than a grey level in the mean, a third of what JPEG itself loses.

        Raises:
            ImageError: Damaged, or not of the source size.
        """
        header = read_header(data) if data.ndim == 1 else None
        if self.reduction == 1 or header is None or header.format != "jpeg":
            return self.image(decode_image(data))
        self._check_size(header)
        small = decode_image(data, self.reduction)
        return self._placed(_resize(small, self.placement.width, self.placement.height))

    def mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a mask (height, width): each pixel is the nearest one of the source, never a blend.

        Raises:
            ImageError: Not (H, W) of the source size.
        """
        self._check_size(Size(*mask.shape[:2]))
        size = (self.placement.width, self.placement.height)
        return self._placed(np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)))

    def points(self, xy: ArrayLike) -> NDArray[np.float64]:
        """Return pixels (..., 2) of the output for pixels (..., 2) of the source: u' = (u + .5) s - .5."""
        place = self.placement
        scale = np.array([place.width / self.source_width, place.height / self.source_height])
        return (np.asarray(xy, dtype=np.float64) + 0.5) * scale - 0.5 + [place.left, place.top]

    def boxes(self, xyxy: ArrayLike) -> NDArray[np.float64]:
        """Return boxes (..., 4) of the output for boxes (..., 4) of the source; NaN stays NaN."""
        xyxy = np.asarray(xyxy, dtype=np.float64)
        return np.concatenate([self.points(xyxy[..., :2]), self.points(xyxy[..., 2:])], axis=-1)

    def _placed(self, resized: Image) -> Image:
        """Return what is seen of the resized picture in the output, on black where it does not reach."""
        place = self.placement
        if self.mode == "crop":
            resized = resized[-place.top : self.height - place.top, -place.left : self.width - place.left]
        if resized.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(resized)
        output = np.zeros((self.height, self.width, *resized.shape[2:]), dtype=np.uint8)
        output[place.top : place.top + place.height, place.left : place.left + place.width] = resized
        return output

    def _check_size(self, found: Size | PictureHeader) -> None:
        if (found.height, found.width) != (self.source_height, self.source_width):
            raise ImageError(
                f"image is {found.width}x{found.height}, the rig or bundle says "
                f"{self.source_width}x{self.source_height}; fix the camera's size or the rig"
            )


def _resize(image: Image, width: int, height: int) -> Image:
    """Shrink by area averaging, grow linearly (cv2's default); each axis on its own where they differ.

    OpenCV's INTER_AREA on an axis that grows is another filter with other pixel centres, so an
    image that shrinks in one axis and grows in the other takes two steps.
    """
    small = min(width, image.shape[1]), min(height, image.shape[0])
    shrunk = image if small == image.shape[1::-1] else cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    grown = shrunk if small == (width, height) else cv2.resize(shrunk, (width, height))
    return np.ascontiguousarray(grown, dtype=np.uint8)


def _encode(suffix: str, image_rgb: Image, options: list[int]) -> NDArray[np.uint8]:
    ok, buffer = cv2.imencode(suffix, cv2.cvtColor(check_rgb(image_rgb), cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise ImageError(f"image of shape {image_rgb.shape} cannot be encoded as {suffix}")
    return np.asarray(buffer, dtype=np.uint8).reshape(-1)
