"""Pictures of a board to corners: read a folder of images, find the corners of the board in each.

A picture that would harm more than help is turned away with its reason: no board, a mirrored one, blur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.images import MAX_PICTURE_BYTES, Image, load_image
from tacit_calibration.board import MARKED, ROUND, Board
from tacit_calibration.boards_seen import board_seen
from tacit_calibration.finders import Gray, find_board

PLAIN_SUFFIXES = (".bmp", ".tif", ".tiff", ".pgm", ".ppm")
SUFFIXES = (".png", ".jpg", ".jpeg", *PLAIN_SUFFIXES)
DEPTH_OFFSET, DEEP = 24, 16
"""Byte of a PNG that says how many bits a colour has."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras measure; a file of 16 bits holds any of them."""
MAX_NAMED, MAX_LOOKED_AT = 3, 3
"""Names in one message; pictures without board that are searched for another one, a second each."""
MIN_WIDTH = 0.05
"""Ratio of the second to the first extent of the corners on the board: below, they lie on one line."""
MAX_BLUR_PX, MAX_BLUR_SQUARES = 1.9, 0.05
"""Edges that spread wider (one sigma) than 1.9 px and than a twentieth of a square hide where corners
are: about 5 px of motion. A focused picture has .8 to 1.2 px."""
PATCH = 0.35
"""Half of what is looked at around a corner, in its patch: edges of both directions, no neighbour."""
MIN_PATCH_PX = 4


Track = Callable[[list[tuple[str, Image]]], Iterable[tuple[str, Image]]]
"""What shows progress: returns what it is given, item by item."""


@dataclass(frozen=True, eq=False)
class View:
    """One picture of the board: corners (N, 2) [px] and where they are on the board (N, 3) [m].

    `blur_px` is the width of its edges as one sigma [px], NaN where no picture was seen.
    """

    name: str
    corners_px: NDArray[np.float64]
    points_m: NDArray[np.float64]
    blur_px: float = float("nan")


@dataclass(frozen=True, eq=False)
class Detections:
    """What a folder of pictures gave: usable views, names of the others, and the image size.

    `reasons` says for each of the others why it was turned away.
    """

    views: tuple[View, ...]
    without_board: tuple[str, ...]
    width: int
    height: int
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def num_pictures(self) -> int:
        """How many pictures there were."""
        return len(self.views) + len(self.without_board)


def detect_folder(folder: Path, board: Board, track: Track = list) -> Detections:
    """Find the board in every picture of a folder: PNG, JPEG, BMP, TIFF, PGM.

    Raises:
        CalibrationError: No pictures, pictures of different sizes, or mirrored ones.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise CalibrationError(f"{folder}: no {', '.join(SUFFIXES)} files; give the folder with the pictures")
    return detect_images([(path.name, read_picture(path)) for path in paths], board, track)


def read_picture(path: Path) -> Image:
    """Return RGB (H, W, 3) uint8 of a picture: PNG, JPEG, or BMP, TIFF, PGM as industrial cameras write.

    Raises:
        CalibrationError: Larger than any camera's picture, or of another format than its name says.
        ImageError: A damaged PNG or JPEG.
    """
    if path.suffix.lower() not in PLAIN_SUFFIXES and not _is_deep_png(path):
        return load_image(path)
    with path.open("rb") as file:
        data = file.read(MAX_PICTURE_BYTES + 1)
    if len(data) > MAX_PICTURE_BYTES:
        raise CalibrationError(f"{path}: a picture of more than {MAX_PICTURE_BYTES >> 20} MB")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if bgr is None or bgr.dtype not in (np.uint8, np.uint16):
        raise CalibrationError(
            f"{path}: a damaged picture, another format than its name says, or not of 8 or 16 bits"
        )
    if bgr.dtype == np.uint16:
        # Cameras of 10, 12 and 14 bits leave the upper ones at zero: their pictures would be black.
        deep = bgr.astype(np.uint16)
        bgr = deep >> next(bits - 8 for bits in DEPTHS if int(deep.max()) < 1 << bits)
    return np.asarray(cv2.cvtColor(bgr.astype(np.uint8), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _is_deep_png(path: Path) -> bool:
    """Return whether a file is a PNG of 16 bits for each colour."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(DEPTH_OFFSET + 1)
    return head.startswith(b"\x89PNG") and head[DEPTH_OFFSET:] == bytes([DEEP])


def detect_images(images: list[tuple[str, Image]], board: Board, track: Track = list) -> Detections:
    """Find the board in named RGB images (H, W, 3), all of one size; `track` shows how far it is.

    Raises:
        CalibrationError: Different sizes, or pictures that show the board mirrored.
    """
    sizes: dict[tuple[int, ...], list[str]] = {}
    for name, image in images:
        sizes.setdefault(image.shape[:2], []).append(name)
    if len(sizes) != 1:
        listed = "; ".join(f"{w}x{h}: {_listed(names)}" for (h, w), names in sorted(sizes.items()))
        raise CalibrationError(f"pictures of sizes {listed}; calibrate one camera and one size at a time")
    views: list[View] = []
    reasons: dict[str, str] = {}
    for name, image in track(images):
        view = detect(name, image, board)
        if view is None:
            reasons[name] = _why_not(name, image, board, len(reasons) < MAX_LOOKED_AT)
        elif view.blur_px > _blur_limit(view):
            limit = _blur_limit(view)
            reasons[name] = (
                f"blurred, out of focus or moving: edges spread over {view.blur_px:.1f} px, "
                f"expected at most {limit:.1f}"
            )
        else:
            views.append(view)
    height, width = next(iter(sizes))
    return Detections(tuple(views), tuple(reasons), width, height, reasons)


def gray_of(image_rgb: Image) -> Gray:
    """Return the grey picture (H, W) of an RGB one."""
    return np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def detect(name: str, image_rgb: Image, board: Board) -> View | None:
    """Return the view of one picture, or None when too few points, or one row, are found."""
    gray = gray_of(image_rgb)
    found = find_board(gray, board)
    if found is None:
        return None
    pixels, points = found
    extent = np.linalg.svd((points - points.mean(axis=0))[:, :2], compute_uv=False)
    if len(points) < board.min_corners or extent[1] < MIN_WIDTH * extent[0]:
        return None
    return View(name, pixels, points, blur(gray, pixels, points, board.patch_mm / 1e3))


def blur(
    gray: NDArray[np.uint8], corners_px: NDArray[np.float64], points_m: NDArray[np.float64], patch_m: float
) -> float:
    """Return how widely edges spread around the corners, as one sigma [px]; about .9 is sharp.

    An ideal edge blurred by a Gaussian has its contrast over its steepest gradient = sqrt(2 pi) sigma.
    Edges of both directions of the board are measured, and the worse one counts: an arm that moves
    smears only the edges across its path. Includes .7 px of the gradient filter.
    """
    H = np.asarray(cv2.findHomography(points_m[:, :2], corners_px)[0], dtype=np.float64)
    gx, gy = (cv2.Sobel(gray, cv2.CV_64F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    widths = []
    for corner, point in zip(corners_px, points_m, strict=True):
        along = _directions(H, point, patch_m)
        reach = max(int(PATCH * np.linalg.norm(along, axis=1).min()), MIN_PATCH_PX)
        x, y = np.round(corner).astype(int)
        window = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
        # Percentiles, not extremes: one hot pixel must not set the contrast or the steepest gradient.
        low, high = np.percentile(gray[window], [5, 95])
        normals = np.column_stack([-along[:, 1], along[:, 0]]) / np.linalg.norm(along, axis=1)[:, None]
        steepest = [np.percentile(np.abs(n[0] * gx[window] + n[1] * gy[window]), 98) for n in normals]
        widths.append([(high - low) / max(slope, 1e-6) / np.sqrt(2 * np.pi) for slope in steepest])
    return float(np.median(widths, axis=0).max())


def _blur_limit(view: View) -> float:
    apart = np.linalg.norm(view.corners_px[:, None] - view.corners_px, axis=-1)
    square_px = float(np.median(np.sort(apart, axis=1)[:, 1]))
    return max(MAX_BLUR_PX, MAX_BLUR_SQUARES * square_px)


def _directions(H: NDArray[np.float64], point: NDArray[np.float64], patch_m: float) -> NDArray[np.float64]:
    """Return how far a patch along x and along y is in the picture at a corner (2, 2) [px]."""
    around = point[:2] + patch_m / 2 * np.array([[-1, 0], [1, 0], [0, -1], [0, 1.0]])
    pixels = cv2.perspectiveTransform(around[None], H)[0]
    return np.array([pixels[1] - pixels[0], pixels[3] - pixels[2]])


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _why_not(name: str, image_rgb: Image, board: Board, look: bool = True) -> str:
    """Return why no view came of a picture, and what of another board is there, where `look` says to.

    Raises:
        CalibrationError: Its mirror image shows the board.
    """
    seen = board_seen(gray_of(image_rgb), board) if look else ""
    if board.pattern not in MARKED:
        kind = "grid of circles" if board.pattern in ROUND else "checkerboard"
        return f"no whole {kind} found; it must be seen with all its {len(board.corners_m)} points{seen}"
    if detect(name, np.ascontiguousarray(image_rgb[:, ::-1]), board) is not None:
        raise CalibrationError(
            f"{name}: mirrored board; markers read only in the mirror image. Switch off the driver's flip, "
            "or print the board again if it was printed mirrored"
        )
    return f"fewer than {board.min_corners} corners found, or all on one line{seen}"
