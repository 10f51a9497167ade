"""Pictures to look at: sensor boxes, labels and film strips drawn on images, depth in colours.

RGB uint8 in, new RGB uint8 out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.episode import EpisodeReader
from tacit.geometry.footprint import FACES, INTERSECTS, Footprint
from tacit.images.depth import depth_colours
from tacit.images.taxels import taxel_colours

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

COLORS: tuple[Color, ...] = ((255, 159, 28), (64, 196, 255), (124, 224, 92), (255, 99, 146), (190, 140, 255))
COLOR_NAMES = ("orange", "blue", "green", "pink", "violet")
"""Box colours by sensor: bright on dark and on light, and apart for the colour blind."""
GROUND: Color = (24, 26, 30)
GAP_PX = 4
HIDDEN: Color = (128, 128, 128)
_SHIFT = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def picture(reader: EpisodeReader, camera: str, tick: int) -> Image:
    """Return a camera image to look at: depth by colours, red is near, blue is far, black not measured."""
    if camera in reader.depth_cameras:
        return depth_colours(reader.depth(camera, tick))
    return reader.image(camera, tick)


def touch_picture(reader: EpisodeReader, sensor: str, tick: int) -> Image:
    """Return what a touch sensor felt, to look at: the picture of a gel, or taxels in colours."""
    if sensor not in reader.taxels:
        return reader.touch(sensor, tick)
    array = reader.rig.taxels[sensor].array
    return taxel_colours(reader.readings(sensor, tick), array.low, array.high, reader.reference(sensor))


def enlarge(image: Image, factor: int) -> Image:
    """Repeat pixels `factor` times: small images become visible, and no pixel is invented."""
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def draw_box(
    image: Image, box: ArrayLike, color: Color = COLORS[0], label: str = "", *, factor: int = 1
) -> Image:
    """Draw a box with an optional label.

    Args:
        image: (H, W, 3), already enlarged by `factor`.
        box: xyxy [px] of the original image (pixel centres at integers), clipped or not; NaN draws
            nothing.
        color: RGB.
        label: Text above the box, inside the image.
        factor: Enlargement of `image` over the pixels of `box`.

    Returns:
        A copy with the box.
    """
    image = image.copy()
    box = np.asarray(box, dtype=np.float64)
    if not np.isfinite(box).all():
        return image
    x0, y0, x1, y1 = _scaled(box, factor)
    _outline(image, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), color, round(len(image) / 200))
    height, width = image.shape[:2]
    if label and x0 < width and x1 > 0 and y0 < height and y1 > 0:
        image = draw_label(image, label, (int(max(x0, 0)), int(np.clip(y0, 0, height)) - 4), color)
    return image


def draw_quad(image: Image, corners: ArrayLike, color: Color = COLORS[0], *, factor: int = 1) -> Image:
    """Draw the outline of a sensing face (4, 2) [px]; NaN draws nothing."""
    image = image.copy()
    points = np.asarray(corners, dtype=np.float64)
    if np.isfinite(points).all():
        _outline(image, _scaled(points, factor), color)
    return image


def draw_footprints(image: Image, footprints: Mapping[str, Footprint]) -> Image:
    """Return a copy of `image` with the box, the face and the name of every sensor in it.

    Shows at a glance whether a calibration is right. A sensor that does not meet the image draws
    nothing; one whose gel faces away is grey, for the box is still where the finger is.

    Args:
        image: (H, W, 3).
        footprints: By sensor; the order decides the colours.
    """
    image = image.copy()
    for index, (name, footprint) in enumerate(footprints.items()):
        if footprint.flags & INTERSECTS:
            color = COLORS[index % len(COLORS)] if footprint.flags & FACES else HIDDEN
            image = draw_quad(image, footprint.corners, color)
            image = draw_box(image, footprint.box, color, f"{name} {footprint.visibility:.2f}")
    return image


def difference(image: Image, reference: Image, gain: float = 4.0) -> Image:
    """Return the change from `reference`, amplified around mid grey: contact on a tactile image."""
    change = image.astype(np.float32) - reference.astype(np.float32)
    return np.clip(128.0 + gain * change, 0, 255).astype(np.uint8)


def draw_label(image: Image, text: str, origin: tuple[int, int], color: Color = (255, 255, 255)) -> Image:
    """Write text with its baseline near `origin` (x, y), inside the image, on a dark ground."""
    image = image.copy()
    scale = float(np.clip(image.shape[1] / 640, 0.34, 1.2))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    x = max(0, min(origin[0], image.shape[1] - width - 6))
    y = max(height + 4, min(origin[1], image.shape[0] - below))
    cv2.rectangle(image, (x, y - height - 4), (x + width + 6, y + below), GROUND, cv2.FILLED)
    cv2.putText(image, text, (x + 3, y), _FONT, scale, color, 1, cv2.LINE_AA)
    return image


def film_strip(images: Sequence[Image], columns: int = 0, labels: Sequence[str] = ()) -> Image:
    """Put images side by side in rows.

    Args:
        images: (H, W, 3) each; smaller ones are padded to the largest.
        columns: Images per row; all in one row when 0.
        labels: Text in the upper left corner of each image.

    Raises:
        ValueError: No image.
    """
    if not images:
        raise ValueError("a film strip needs at least one image")
    columns = columns or len(images)
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    rows = -(-len(images) // columns)
    size = (rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 3)
    sheet = np.full(size, GROUND, dtype=np.uint8)
    for i, image in enumerate(images):
        if i < len(labels) and labels[i]:
            image = draw_label(image, labels[i], (2, 13))
        y, x = (i // columns) * (height + GAP_PX), (i % columns) * (width + GAP_PX)
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet


def frames_of_strip(sheet: Image, columns: int, rows: int) -> list[list[Image]]:
    """Return the images of a film strip, row by row: what `film_strip` put side by side."""
    height, width = (sheet.shape[0] + GAP_PX) // rows, (sheet.shape[1] + GAP_PX) // columns
    return [
        [sheet[y : y + height - GAP_PX, x : x + width - GAP_PX] for x in range(0, columns * width, width)]
        for y in range(0, rows * height, height)
    ]


def _scaled(pixels: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Pixel coordinates in the enlarged image: pixel centres are at integers in both."""
    return (pixels + 0.5) * factor - 0.5


def _outline(image: Image, points: NDArray[np.float64], color: Color, thickness: int = 1) -> None:
    """Draw a closed line through points (N, 2) [px] into the image, to a sixteenth of a pixel."""
    limit = 4.0 * max(image.shape[:2])  # cv2 overflows far outside
    fixed = np.round(np.clip(points, -limit, limit) * 2**_SHIFT).astype(np.int32)
    cv2.polylines(image, [fixed.reshape(-1, 1, 2)], True, color, max(1, thickness), cv2.LINE_AA, _SHIFT)
