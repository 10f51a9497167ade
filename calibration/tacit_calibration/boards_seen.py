"""What a picture shows where the board that was asked for is not found: other markers, another layout."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit_calibration.board import DICTIONARIES, Board

FAMILIES = (
    *("DICT_4X4_1000", "DICT_5X5_1000", "DICT_6X6_1000", "DICT_7X7_1000", "DICT_ARUCO_ORIGINAL"),
    *("DICT_APRILTAG_16h5", "DICT_APRILTAG_25h9", "DICT_APRILTAG_36h10", "DICT_APRILTAG_36h11"),
)
"""The largest dictionary of every kind: it holds the smaller ones."""
MIN_MARKERS = 4
"""Small codes turn up by chance, one or two in a picture of a desk; four do not."""
MIN_CORNERS = 8
OTHER_COUNTS = ((1, 1), (1, 0), (0, 1), (-1, -1))
"""Squares more along both sides: inner corners may have been given, or corners for squares."""


def markers_seen(gray: NDArray[np.uint8], board: Board) -> str:
    """Return what else is in a picture without the ChArUco board, as the end of a sentence."""
    ids = _ids(gray, board.dictionary)
    if len(ids) >= MIN_MARKERS:
        return (
            f"; {len(ids)} markers of {board.dictionary} are there, in another layout{_layout(gray, board)}"
        )
    found = {name: _ids(gray, name) for name in FAMILIES}
    best = max(found, key=lambda name: len(found[name]))
    if len(found[best]) >= MIN_MARKERS:
        smallest = _smallest(best, int(found[best].max()))
        return f"; {len(found[best])} markers of {smallest} are there: give --dictionary {smallest}"
    return (
        f"; {len(ids)} of its markers are there" if len(ids) else "; no markers of any dictionary are there"
    )


def checkerboard_seen(gray: NDArray[np.uint8], board: Board) -> str:
    """Return which other checkerboard is in a picture, as the end of a sentence; empty if none is."""
    for more in OTHER_COUNTS:
        columns, rows = board.columns + more[0], board.rows + more[1]
        if min(columns, rows) > 3 and cv2.findChessboardCornersSB(gray, (columns - 1, rows - 1))[0]:
            return (
                f"; one of {columns}x{rows} squares ({columns - 1}x{rows - 1} inner corners) is there: give "
                f"--columns {columns} --rows {rows}, squares and not corners"
            )
    return ""


def _layout(gray: NDArray[np.uint8], board: Board) -> str:
    swapped = replace(board, columns=board.rows, rows=board.columns)
    for layout in (swapped, replace(swapped, legacy=not board.legacy)):
        ids = cv2.aruco.CharucoDetector(layout.aruco).detectBoard(gray)[1]
        if ids is not None and len(ids) >= MIN_CORNERS:
            return f": rows and columns are swapped, give --columns {board.rows} --rows {board.columns}"
    return f" than {board.columns}x{board.rows} squares; count them, the dark ones too"


def _ids(gray: NDArray[np.uint8], dictionary: str) -> NDArray[np.int64]:
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(DICTIONARIES[dictionary]))
    ids = detector.detectMarkers(gray)[1]
    return np.zeros(0, np.int64) if ids is None else np.asarray(ids, np.int64).ravel()


def _smallest(family: str, largest_id: int) -> str:
    """Return the smallest dictionary of a family that holds a marker of this number."""
    kind, _, count = family.rpartition("_")
    if not count.isdigit():
        return family
    sizes = sorted(int(name.rpartition("_")[2]) for name in DICTIONARIES if name.rpartition("_")[0] == kind)
    return f"{kind}_{next(size for size in sizes if size > largest_id)}"
