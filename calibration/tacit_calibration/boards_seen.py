"""What a picture shows where the board that was asked for is not found: other markers, another layout."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit_calibration.board import DICTIONARIES, MARKED, ROUND, Board
from tacit_calibration.finders import Gray, blob_detector, find_board, markers

FAMILIES = (
    *("DICT_4X4_1000", "DICT_5X5_1000", "DICT_6X6_1000", "DICT_7X7_1000", "DICT_ARUCO_ORIGINAL"),
    *("DICT_APRILTAG_16h5", "DICT_APRILTAG_25h9", "DICT_APRILTAG_36h10", "DICT_APRILTAG_36h11"),
)
"""The largest dictionary of every kind: it holds the smaller ones."""
MIN_MARKERS = 4
"""Small codes turn up by chance, one or two in a picture of a desk; four do not."""
MIN_DOTS = 12
"""Fewer round dots are screws and lamps; boards begin at 4x3 circles."""
SMALLEST_GRID = (3, 3)
KALIBR_FAMILY, KALIBR_BORDERS = "DICT_APRILTAG_36h11", 2


def board_seen(gray: Gray, board: Board) -> str:
    """Return what else is in a picture without the board, as the end of a sentence; empty if nothing is."""
    own = _own_markers_seen(gray, board) if board.pattern in MARKED else ""
    # The surest first: the squares between AprilTags make a small checkerboard too.
    looks = [_markers_seen, _checkerboard_seen, _circles_seen]
    if board.pattern in ROUND:
        looks.reverse()
    for look in looks:
        own = own or look(gray, board)
    return own or ("; no markers of any dictionary are there" if board.pattern in MARKED else "")


def _own_markers_seen(gray: Gray, board: Board) -> str:
    ids = max((_ids(gray, board.dictionary, borders) for borders in (1, KALIBR_BORDERS)), key=len)
    if board.pattern == "marker":
        numbers = ", ".join(map(str, sorted(ids.tolist())))
        hint = f"give --marker-id, {board.marker_id} is asked for or is there twice"
        return f"; markers {numbers} of {board.dictionary} are there: {hint}" if len(ids) else ""
    if len(ids) < MIN_MARKERS:
        return ""
    return f"; {len(ids)} markers of {board.dictionary} are there, in another layout{_layout(gray, board)}"


def _markers_seen(gray: Gray, board: Board) -> str:
    # Kalibr's tags come first: with wide borders they are often read with narrow ones too, never the reverse.
    looked_for = [(KALIBR_FAMILY, KALIBR_BORDERS), *((name, 1) for name in FAMILIES)]
    found = {key: _ids(gray, *key) for key in looked_for}
    best = max(found, key=lambda key: len(found[key]))
    if len(found[best]) >= MIN_MARKERS:
        name = _smallest(best[0], int(found[best].max()))
        kind = "aprilgrid" if best[1] == KALIBR_BORDERS else "charuco"
        # Markers with one border are on boards of every kind: only where none is asked for, one is guessed.
        is_told = board.pattern == kind or (kind == "charuco" and board.pattern in MARKED)
        pattern = "" if is_told else f"--pattern {kind} "
        return f"; {len(found[best])} markers of {name} are there: give {pattern}--dictionary {name}"
    own = _ids(gray, board.dictionary) if board.pattern in MARKED else np.zeros(0, np.int64)
    return f"; {len(own)} of its markers are there" if len(own) else ""


def _checkerboard_seen(gray: Gray, board: Board) -> str:
    """Name the largest checkerboard, whatever its counts."""
    flags = cv2.CALIB_CB_LARGER | cv2.CALIB_CB_NORMALIZE_IMAGE
    is_found, _, parts = cv2.findChessboardCornersSBWithMeta(gray, SMALLEST_GRID, flags)
    if not is_found or min(parts.shape) < SMALLEST_GRID[0]:
        return ""
    rows, columns = parts.shape
    # The detector may see it lying or standing; what was asked for says which is meant.
    if abs(board.columns - rows) + abs(board.rows - columns) < abs(board.columns - columns) + abs(
        board.rows - rows
    ):
        rows, columns = columns, rows
    pattern = "" if board.pattern == "checkerboard" else "--pattern checkerboard "
    return (
        f"; one of {columns + 1}x{rows + 1} squares ({columns}x{rows} inner corners) is there: give "
        f"{pattern}--columns {columns + 1} --rows {rows + 1}, squares and not corners"
    )


def _circles_seen(gray: Gray, board: Board) -> str:
    if board.pattern in ROUND:
        swapped = {"columns": board.rows, "rows": board.columns}
        for pattern in ROUND:
            for sizes in ({}, swapped):
                other = replace(board, pattern=pattern, **sizes)  # type: ignore[arg-type]
                if other != board and find_board(gray, other) is not None:
                    size = f"--columns {other.columns} --rows {other.rows}"
                    return f"; {other.name} are there: give --pattern {other.pattern} {size}"
    dots = len(blob_detector(gray).detect(gray))
    if dots < MIN_DOTS:
        return ""
    hint = "count them" if board.pattern in ROUND else "give --pattern circles or asymmetric_circles"
    return f"; {dots} round dots are there: {hint}"


def _layout(gray: Gray, board: Board) -> str:
    swapped = replace(board, columns=board.rows, rows=board.columns)
    if find_board(gray, swapped) is not None:
        return f": rows and columns are swapped, give --columns {board.rows} --rows {board.columns}"
    return f" than {board.columns}x{board.rows} {board.parts}; count them, the dark ones too"


def _ids(gray: Gray, dictionary: str, borders: int = 1) -> NDArray[np.int64]:
    family = Board(3, 3, 30.0, 21.0, dictionary, "marker")
    return np.array(sorted(markers(gray, family, borders)), dtype=np.int64)


def _smallest(family: str, largest_id: int) -> str:
    """Return the smallest dictionary of a family that holds a marker of this number."""
    kind, _, count = family.rpartition("_")
    if not count.isdigit():
        return family
    sizes = sorted(int(name.rpartition("_")[2]) for name in DICTIONARIES if name.rpartition("_")[0] == kind)
    return f"{kind}_{next(size for size in sizes if size > largest_id)}"
