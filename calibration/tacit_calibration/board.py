"""A calibration board: its size, its black rectangles [mm], its corners [m].

One geometry feeds the printed files (`board_files`) and the detector (`detection`), so what is
printed is what is measured.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError, did_you_mean

DICTIONARIES = {name: getattr(cv2.aruco, name) for name in dir(cv2.aruco) if name.startswith("DICT_")}
"""All that OpenCV has. A smaller one begins the larger ones of its size: DICT_4X4_50 begins DICT_4X4_250."""
Pattern = Literal["charuco", "checkerboard", "aprilgrid", "circles", "asymmetric_circles", "marker"]
ROUND = ("circles", "asymmetric_circles")
MARKED = ("charuco", "aprilgrid", "marker")
TAG_BORDERS = (2, 1)
"""Cells of black around the code of a tag: Kalibr prints two, everybody else one."""
MIN_CORNERS = 8
"""A pose has 6 unknowns and a corner 2 equations; below 8 corners one bad corner decides a view."""
MARKER_SIDE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
"""Corners of a marker as OpenCV lists them: clockwise from the top left."""
MIN_MODULE_MM = 0.5
"""A laser printer's dots are .04 mm and its drift .1 mm: finer marker cells do not survive."""


@dataclass(frozen=True)
class Board:
    """A board to print, or one that a lab has already.

    The default fills A4 in landscape: 9 x 6 squares of 30 mm, cells of 3.5 mm, 8 x 5 = 40 corners. Boards
    with markers may be half hidden and know which way up they are; others must be seen whole.
    With an odd and an even number of squares the colours of a checkerboard say which way up it is; with two
    odd or two even numbers it looks the same upside down, as circles do, which does not matter to a lens, and
    the arm's turns tell `handeye`.

    Attributes:
        columns: Along x: squares, tags (aprilgrid) or circles; of asymmetric circles those in one row.
        rows: Along y: squares, tags or circles.
        square_mm: Side of a square as printed [mm]; from tag to tag; from circle to circle; of asymmetric
            circles half of that, from row to row, as OpenCV and Kalibr have it.
        marker_mm: Side of a marker as printed, with its black border [mm].
        dictionary: Marker family, as OpenCV names it, such as DICT_4X4_50 or DICT_APRILTAG_36h11.
        pattern: charuco; checkerboard (without markers; black in the top left corner); aprilgrid (Kalibr's:
            tag 0 at the lower left); circles, asymmetric_circles (dark on white); marker (a single one).
        legacy: The layout of OpenCV before 4.6 and of calib.io for an even number of rows: white in the top
            left corner. Pictures are searched for both layouts; this one is printed.
        marker_id: The number of a single marker.

    Raises:
        CalibrationError: Sizes that cannot be printed, or too few markers in the dictionary.
    """

    columns: int = 9
    rows: int = 6
    square_mm: float = 30.0
    marker_mm: float = 21.0
    dictionary: str = "DICT_4X4_50"
    pattern: Pattern = "charuco"
    legacy: bool = False
    marker_id: int = 0

    def __post_init__(self) -> None:
        if self.pattern not in get_args(Pattern):
            raise CalibrationError(
                f"board: no pattern {self.pattern!r}; {did_you_mean(self.pattern, get_args(Pattern))}"
            )
        fewest = {"aprilgrid": 1, "marker": 1}.get(self.pattern, 3)
        if min(self.columns, self.rows) < (2 if self.pattern == "asymmetric_circles" else fewest):
            raise CalibrationError(
                f"board: {self.columns}x{self.rows} {self.parts}, expected at least {fewest}x{fewest}"
            )
        if not (0 < self.square_mm < np.inf and 0 < self.marker_mm < np.inf):
            raise CalibrationError(
                f"board: square {self.square_mm} mm, marker {self.marker_mm} mm; expected more than 0"
            )
        if self.pattern in MARKED:
            self._check_markers()

    def _check_markers(self) -> None:
        if self.dictionary not in DICTIONARIES:
            raise CalibrationError(
                f"board: no dictionary {self.dictionary!r}; {did_you_mean(self.dictionary, DICTIONARIES)}"
            )
        if self.pattern != "marker" and self.marker_mm >= self.square_mm:
            raise CalibrationError(
                f"board: marker {self.marker_mm} mm, square {self.square_mm} mm; the marker must be smaller"
            )
        modules = self.aruco_dictionary.markerSize + 2
        if self.marker_mm / modules < MIN_MODULE_MM:
            raise CalibrationError(f"board: cells of {self.marker_mm / modules:.2f} mm; use larger markers")
        needed = {
            "charuco": self.columns * self.rows // 2,
            "aprilgrid": self.columns * self.rows,
            "marker": self.marker_id + 1,
        }[self.pattern]
        available = len(self.aruco_dictionary.bytesList)
        if available < needed or self.marker_id < 0:
            raise CalibrationError(f"board: {needed} markers needed, {self.dictionary} has {available}")

    @property
    def parts(self) -> str:
        """What `columns` and `rows` count."""
        return {"aprilgrid": "tags", "marker": "markers"}.get(
            self.pattern, "circles" if self.pattern in ROUND else "squares"
        )

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the pattern [mm]."""
        side = self.square_mm
        if self.pattern == "aprilgrid":  # with the black squares in the gaps, which Kalibr prints around too
            gap = side - self.marker_mm
            return self.columns * side + gap, self.rows * side + gap
        if self.pattern == "asymmetric_circles":
            return (2 * self.columns + 1) * side, (self.rows + 1) * side
        if self.pattern == "marker":
            return self.marker_mm, self.marker_mm
        return self.columns * side, self.rows * side

    @functools.cached_property
    def corners_m(self) -> NDArray[np.float64]:
        """Points that are found (N, 3) [m] in the board frame: origin top left, x right, y down, z = 0.

        Inner corners or centres of circles row by row; four corners of each tag, from tag 0 on.
        """
        cells = np.concatenate([self._places_mm() / 1e3, np.zeros((len(self._places_mm()), 1))], axis=-1)
        return np.asarray(cells, dtype=np.float64)

    def _places_mm(self) -> NDArray[np.float64]:
        side = self.square_mm
        if self.pattern == "marker":
            return MARKER_SIDE * self.marker_mm
        if self.pattern in ("charuco", "checkerboard"):
            return _grid(self.columns - 1, self.rows - 1) * side + side
        grid = _grid(self.columns, self.rows)
        if self.pattern == "circles":
            return (grid + 0.5) * side
        if self.pattern == "asymmetric_circles":
            return np.stack([2 * grid[:, 0] + grid[:, 1] % 2 + 1, grid[:, 1] + 1], axis=-1) * side
        # Kalibr counts tags from the lower left, and prints them upside down for OpenCV's dictionary.
        gap, lower_left_first = side - self.marker_mm, grid * [1, -1] + [0, self.rows - 1]
        turned = MARKER_SIDE[[2, 3, 0, 1]] * self.marker_mm
        return ((lower_left_first * side + gap)[:, None] + turned).reshape(-1, 2)

    @property
    def min_corners(self) -> int:
        """Fewest points that make a view."""
        return min(MIN_CORNERS, len(self.corners_m))

    @property
    def patch_mm(self) -> float:
        """Side of the square around a point in which nothing but that point is seen [mm]."""
        if self.pattern == "aprilgrid":  # the gap on one side, the border of the tag's code on the other
            return 2 * min(self.square_mm - self.marker_mm, self.marker_mm / 5)
        if self.pattern == "marker":
            return self.marker_mm / 4
        return self.square_mm * (1.4 if self.pattern in ROUND else 1.0)

    @property
    def looks_same_upside_down(self) -> bool:
        """Whether half a turn brings the pattern onto itself."""
        if self.pattern == "asymmetric_circles":
            return self.rows % 2 == 0
        return self.pattern == "circles" or (
            self.pattern == "checkerboard" and (self.columns + self.rows) % 2 == 0
        )

    def check_direction(self) -> None:
        """Refuse a board that looks the same upside down, where only its pattern can tell.

        Raises:
            CalibrationError: It does.
        """
        if self.looks_same_upside_down:
            raise CalibrationError(
                f"board: {self.name} looks the same upside down, which only `intrinsics` and `handeye` bear; "
                "here take a ChArUco board, an AprilTag grid, or one odd and one even number of squares"
            )

    @property
    def middle_m(self) -> NDArray[np.float64]:
        """Middle of the inner corners (3,) [m], about which it looks the same."""
        return np.asarray((self.corners_m.min(axis=0) + self.corners_m.max(axis=0)) / 2, dtype=np.float64)

    @property
    def name(self) -> str:
        """The board in a few words: what must be given again to find it."""
        size, square = f"{self.columns}x{self.rows}", f"square {self.square_mm:g} mm"
        marker = f"marker {self.marker_mm:g} mm, {self.dictionary}"
        return {
            "charuco": f"ChArUco {size}, {square}, {marker}" + (", legacy layout" if self.legacy else ""),
            "checkerboard": f"checkerboard {size}, {square}",
            "aprilgrid": f"AprilTag grid {size}, {self.square_mm:g} mm apart, {marker}",
            "circles": f"circles {size}, {self.square_mm:g} mm apart",
            "asymmetric_circles": f"asymmetric circles {size}, {self.square_mm:g} mm from row to row",
            "marker": f"number {self.marker_id}, {marker}",
        }[self.pattern]

    @functools.cached_property
    def aruco(self) -> Any:
        """OpenCV's board, in metres."""
        size = (self.columns, self.rows)
        board = cv2.aruco.CharucoBoard(
            size, self.square_mm / 1e3, self.marker_mm / 1e3, self.aruco_dictionary
        )
        board.setLegacyPattern(self.legacy)
        return board

    def black_rectangles_mm(self) -> NDArray[np.float64]:
        """Return all black parts (M, 4) as x, y, width, height [mm], from the top left corner.

        Raises:
            CalibrationError: A pattern that is found but not printed here.
        """
        if self.pattern not in ("charuco", "checkerboard"):
            raise CalibrationError(
                f"board: {self.name} is found in pictures, but not printed; print a ChArUco board "
                "or a checkerboard"
            )
        if self.pattern == "checkerboard":
            row, column = np.nonzero((np.add.outer(np.arange(self.rows), np.arange(self.columns)) % 2) == 0)
            sides = np.full(len(row), self.square_mm)
            return np.stack([column * self.square_mm, row * self.square_mm, sides, sides], axis=-1)
        markers = np.asarray(self.aruco.getObjPoints(), dtype=np.float64)[:, 0, :2] * 1e3
        # Markers sit in the white squares: which ones, and so where black begins, OpenCV decides.
        white = {tuple((corner // self.square_mm).astype(int)) for corner in markers}
        side = self.square_mm
        squares = [
            (column * side, row * side, side, side)
            for row in range(self.rows)
            for column in range(self.columns)
            if (column, row) not in white
        ]
        ids = np.asarray(self.aruco.getIds()).ravel()
        cells = [self._marker_cells(int(i), corner) for i, corner in zip(ids, markers, strict=True)]
        return np.concatenate([np.array(squares), *cells])

    @property
    def aruco_dictionary(self) -> Any:
        """OpenCV's dictionary of the markers."""
        return cv2.aruco.getPredefinedDictionary(DICTIONARIES[self.dictionary])

    def _marker_cells(self, marker_id: int, corner_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the black cells of one marker, joined along rows, as rectangles (M, 4) [mm]."""
        modules = self.aruco_dictionary.markerSize + 2
        black = cv2.aruco.generateImageMarker(self.aruco_dictionary, marker_id, modules) == 0
        cell = self.marker_mm / modules
        runs = []
        # Neighbouring cells as one rectangle: viewers may draw hairlines between two that touch.
        for row, line in enumerate(black):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(int)))
            runs += [(start, row, stop - start, 1) for start, stop in edges.reshape(-1, 2)]
        return np.array(runs, dtype=np.float64) * cell + [*corner_mm, 0, 0]


def _grid(columns: int, rows: int) -> NDArray[np.float64]:
    """Return (column, row) of cells (N, 2), row by row."""
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float64)
