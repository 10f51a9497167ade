"""The ChArUco board or checkerboard: its size, its black rectangles [mm], its corners [m].

One geometry feeds the printed files (`board_files`) and the detector (`detection`), so what is
printed is what is measured.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError, did_you_mean

DICTIONARIES = {name: getattr(cv2.aruco, name) for name in dir(cv2.aruco) if name.startswith("DICT_")}
"""All that OpenCV has. A smaller one begins the larger ones of its size: DICT_4X4_50 begins DICT_4X4_250."""
MIN_MODULE_MM = 0.5
"""A laser printer's dots are .04 mm and its drift .1 mm: finer marker cells do not survive."""


@dataclass(frozen=True)
class Board:
    """A board of columns x rows squares: ChArUco, or a plain checkerboard that a lab has already.

    The default fills A4 in landscape: 9 x 6 squares of 30 mm, cells of 3.5 mm, 8 x 5 = 40 corners. A
    ChArUco board may be half hidden and knows which way up it is; a checkerboard must be seen whole. With an
    odd and an even number of squares its colours say which way up it is; with two odd or two even numbers it
    looks the same upside down, which does not matter to a lens, and the arm's turns tell `handeye`.

    Attributes:
        columns: Squares along the long side.
        rows: Squares along the short side.
        square_mm: Side of a square as printed [mm].
        marker_mm: Side of a marker as printed [mm].
        dictionary: Marker family, as OpenCV names it, such as DICT_4X4_50 or DICT_APRILTAG_36h11.
        pattern: charuco, or checkerboard (without markers; black in the top left corner).
        legacy: The layout of OpenCV before 4.6 and of calib.io for an even number of rows: white in the top
            left corner. Pictures are searched for both layouts; this one is printed.

    Raises:
        CalibrationError: Sizes that cannot be printed, or too few markers in the dictionary.
    """

    columns: int = 9
    rows: int = 6
    square_mm: float = 30.0
    marker_mm: float = 21.0
    dictionary: str = "DICT_4X4_50"
    pattern: Literal["charuco", "checkerboard"] = "charuco"
    legacy: bool = False

    def __post_init__(self) -> None:
        if self.columns < 3 or self.rows < 3:
            raise CalibrationError(f"board: {self.columns}x{self.rows} squares, expected at least 3x3")
        if self.pattern == "charuco":
            self._check_markers()

    def _check_markers(self) -> None:
        if self.dictionary not in DICTIONARIES:
            raise CalibrationError(
                f"board: no dictionary {self.dictionary!r}; {did_you_mean(self.dictionary, DICTIONARIES)}"
            )
        if not 0 < self.marker_mm < self.square_mm:
            raise CalibrationError(
                f"board: marker {self.marker_mm} mm, square {self.square_mm} mm; the marker must be smaller"
            )
        modules = self._aruco_dictionary.markerSize + 2
        if self.marker_mm / modules < MIN_MODULE_MM:
            raise CalibrationError(f"board: cells of {self.marker_mm / modules:.2f} mm; use larger markers")
        available, needed = len(self._aruco_dictionary.bytesList), self.columns * self.rows // 2
        if available < needed:
            raise CalibrationError(f"board: {needed} markers needed, {self.dictionary} has {available}")

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the pattern [mm]."""
        return self.columns * self.square_mm, self.rows * self.square_mm

    @functools.cached_property
    def corners_m(self) -> NDArray[np.float64]:
        """Inner corners (N, 3) [m] in the board frame: origin top left, x right, y down, z = 0."""
        x, y = np.meshgrid(np.arange(1, self.columns), np.arange(1, self.rows))
        cells = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1)
        return np.asarray(cells * self.square_mm / 1e3, dtype=np.float64)

    @property
    def looks_same_upside_down(self) -> bool:
        """Whether half a turn brings the pattern onto itself."""
        return self.pattern == "checkerboard" and (self.columns + self.rows) % 2 == 0

    def check_direction(self) -> None:
        """Refuse a board that looks the same upside down, where only its pattern can tell.

        Raises:
            CalibrationError: It does.
        """
        if self.looks_same_upside_down:
            raise CalibrationError(
                f"board: {self.name} looks the same upside down, which only `intrinsics` and `handeye` bear; "
                "here take a ChArUco board, or one odd and one even number of squares"
            )

    @property
    def middle_m(self) -> NDArray[np.float64]:
        """Middle of the inner corners (3,) [m], about which it looks the same."""
        return np.asarray(self.corners_m.mean(axis=0), dtype=np.float64)

    @property
    def name(self) -> str:
        """The board in a few words: what must be given again to find it."""
        size = f"{self.columns}x{self.rows}"
        if self.pattern == "checkerboard":
            return f"checkerboard {size}, square {self.square_mm:g} mm"
        return (
            f"ChArUco {size}, square {self.square_mm:g} mm, marker {self.marker_mm:g} mm, {self.dictionary}"
            + (", legacy layout" if self.legacy else "")
        )

    @functools.cached_property
    def aruco(self) -> Any:
        """OpenCV's board, in metres."""
        size = (self.columns, self.rows)
        board = cv2.aruco.CharucoBoard(
            size, self.square_mm / 1e3, self.marker_mm / 1e3, self._aruco_dictionary
        )
        board.setLegacyPattern(self.legacy)
        return board

    def black_rectangles_mm(self) -> NDArray[np.float64]:
        """Return all black parts (M, 4) as x, y, width, height [mm], from the top left corner."""
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
    def _aruco_dictionary(self) -> Any:
        return cv2.aruco.getPredefinedDictionary(DICTIONARIES[self.dictionary])

    def _marker_cells(self, marker_id: int, corner_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the black cells of one marker, joined along rows, as rectangles (M, 4) [mm]."""
        modules = self._aruco_dictionary.markerSize + 2
        black = cv2.aruco.generateImageMarker(self._aruco_dictionary, marker_id, modules) == 0
        cell = self.marker_mm / modules
        runs = []
        # Neighbouring cells as one rectangle: viewers may draw hairlines between two that touch.
        for row, line in enumerate(black):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(int)))
            runs += [(start, row, stop - start, 1) for start, stop in edges.reshape(-1, 2)]
        return np.array(runs, dtype=np.float64) * cell + [*corner_mm, 0, 0]
