"""Boards that a lab has already: Kalibr's AprilTag grids, circles, single markers, target files."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from tacit.errors import CalibrationError
from tacit_calibration.board import Board
from tacit_calibration.board_files import to_image
from tacit_calibration.boards_seen import board_seen
from tacit_calibration.detection import detect, detect_images
from tacit_calibration.kalibr import board_of_target

APRIL = Board(4, 3, 65.0, 50.0, "DICT_APRILTAG_36h11", "aprilgrid")
CIRCLES = Board(7, 5, 20.0, pattern="circles")
STAGGERED = Board(4, 9, 12.0, pattern="asymmetric_circles")
PX, MARGIN = 4, 60
"""Pixels per mm of a drawn board, and the white around it [px]."""
SPACING = "rowSpacingMeters: {}\ncolSpacingMeters: {}"
TILTED = np.array([[0.78, 0.10, 40], [-0.06, 0.74, 60], [9e-5, 4e-5, 1]])


def kalibr_page(border: int = 2, turned: bool = True) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Kalibr's grid as it prints it, and {tag: its corners [mm] from the lower left, anticlockwise, y up}."""
    family = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    side, gap = 50 * PX, 15 * PX
    height = 3 * (side + gap) + gap
    page = np.full((height + 2 * MARGIN, 4 * (side + gap) + gap + 2 * MARGIN), 255, np.uint8)
    corners = {}
    for tag in range(12):
        column, row = tag % 4, tag // 4
        x = MARGIN + gap + column * (side + gap)
        bottom = MARGIN + height - gap - row * (side + gap)
        cells = 6 + 2 * border
        drawn = cv2.aruco.generateImageMarker(family, tag, cells, borderBits=border)
        drawn = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_NEAREST)
        page[bottom - side : bottom, x : x + side] = np.rot90(drawn, 2) if turned else drawn
        corners[tag] = np.array(
            [[x, bottom], [x + side, bottom], [x + side, bottom - side], [x, bottom - side]]
        )
    for column in range(5):
        for row in range(4):
            x, y = MARGIN + column * (side + gap), MARGIN + row * (side + gap)
            page[y : y + gap, x : x + gap] = 0
    return page, corners


def tilted(page: np.ndarray) -> np.ndarray:
    """The page seen at an angle, softened as by a lens."""
    soft = cv2.GaussianBlur(page, (0, 0), 1.2)
    return np.repeat(cv2.warpPerspective(soft, TILTED, (1000, 800), borderValue=180)[..., None], 3, axis=-1)


def at(pixels: np.ndarray) -> np.ndarray:
    """Where edges of a page (N, 2) lie in the tilted picture; pixel centres are half a pixel off edges."""
    return cv2.perspectiveTransform(np.asarray(pixels, float)[None] - 0.5, TILTED)[0]


@pytest.mark.parametrize(("border", "turned"), [(2, True), (1, False)])
def test_kalibrs_tags_are_counted_from_the_lower_left(border, turned):
    page, corners = kalibr_page(border, turned)
    view = detect("page", tilted(page), APRIL)
    assert view is not None and len(view.points_m) == 48
    lower_left = np.array([MARGIN, page.shape[0] - MARGIN])
    for place, pixel in zip(view.points_m, view.corners_px, strict=True):
        # On the board y points down from the top left, in Kalibr's file up from the lower left.
        on_page = lower_left + [place[0] * 1e3 * PX, -(APRIL.size_mm[1] - place[1] * 1e3) * PX]
        nearest = min(corners.values(), key=lambda quad: np.abs(quad - on_page).sum(axis=1).min())
        assert np.abs(nearest - on_page).sum(axis=1).min() < 1e-6
        np.testing.assert_allclose(pixel, at(on_page[None])[0], atol=0.3)
    zero = view.corners_px[np.isclose(view.points_m[:, 1], view.points_m[:, 1].max())]
    assert zero[:, 1].min() > 500  # tag 0 is in the lowest row


def test_a_tag_of_another_number_in_the_grid_is_left_out():
    page, corners = kalibr_page()
    where = corners[5]
    family = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    wrong = np.rot90(
        cv2.resize(cv2.aruco.generateImageMarker(family, 1, 10, borderBits=2), (200, 200), None, 0, 0, 0), 2
    )
    page[where[2, 1] : where[0, 1], where[0, 0] : where[1, 0]] = wrong
    view = detect("page", tilted(page), APRIL)
    assert len(view.points_m) == 40  # neither the wrong one nor the one whose number it has


def dots(board: Board, dark: int = 0) -> np.ndarray:
    """A page of circles at the board's places, drawn from OpenCV's formula and not from ours."""
    step = board.square_mm * PX
    width, height = (round(side * PX) + 2 * MARGIN for side in board.size_mm)
    page = np.full((height, width), 255 - dark, np.uint8)
    for row in range(board.rows):
        for column in range(board.columns):
            shift = (column + 0.5, row + 0.5)
            if board.pattern == "asymmetric_circles":
                shift = (2 * column + row % 2 + 1, row + 1)
            centre = [round((MARGIN + place * step - 0.5) * 16) for place in shift]
            cv2.circle(page, centre, round(0.3 * step * 16), dark, -1, cv2.LINE_AA, 4)
    return page


@pytest.mark.parametrize("board", [CIRCLES, STAGGERED])
@pytest.mark.parametrize(("turns", "dark"), [(0, 0), (1, 0), (2, 0), (3, 255)])
def test_circles_are_found_in_their_order_whichever_way_the_page_lies(board, turns, dark):
    page = dots(board, dark)
    picture = np.ascontiguousarray(np.repeat(np.rot90(page, turns)[..., None], 3, axis=-1))
    view = detect("page", picture, board)
    x, y = (view.points_m[:, :2] * 1e3 * PX + MARGIN - 0.5).T
    height, width = page.shape
    for _ in range(turns):  # np.rot90 turns counterclockwise
        x, y, width, height = y, width - 1 - x, height, width
    off = [
        np.abs(view.corners_px - order).max() for order in (np.stack([x, y], -1), np.stack([x, y], -1)[::-1])
    ]
    assert min(off) < 0.3
    assert board.looks_same_upside_down or off[0] < 0.3


def test_staggered_circles_say_which_way_up_they_are_with_an_odd_number_of_rows_only():
    assert not STAGGERED.looks_same_upside_down
    assert Board(4, 10, 12.0, pattern="asymmetric_circles").looks_same_upside_down
    assert CIRCLES.looks_same_upside_down


@pytest.mark.parametrize("border", [1, 2])
def test_a_single_tag_is_four_corners_of_known_size(border):
    board = Board(marker_mm=50, dictionary="DICT_APRILTAG_36h11", pattern="marker", marker_id=7)
    page, corners = kalibr_page(border, turned=False)
    view = detect("page", tilted(page), board)
    np.testing.assert_allclose(view.points_m[2], [0.05, 0.05, 0])
    np.testing.assert_allclose(view.corners_px, at(corners[7][[3, 2, 1, 0]]), atol=0.4)
    if border == 1:
        seen = board_seen(tilted(page)[..., 0], replace(board, marker_id=30))
        assert "markers 0, 1, 2, 3, 4" in seen and "give --marker-id" in seen


def test_a_board_of_a_smaller_dictionary_is_found_within_the_larger_one_and_the_other_way_round():
    small, large = (Board(9, 6, 30.0, 22.0, name) for name in ("DICT_4X4_50", "DICT_4X4_250"))
    for drawn, asked in ((small, large), (large, small)):
        page = np.repeat(to_image(drawn, 4)[..., None], 3, axis=-1)
        assert len(detect("page", page, asked).points_m) == 40


def test_what_is_there_instead_is_said_with_the_options_that_find_it():
    april, checkers = tilted(kalibr_page()[0])[::2, ::2, 0], Board(8, 6, 30.0, pattern="checkerboard")
    seen = board_seen(np.ascontiguousarray(april), checkers)
    assert "12 markers of DICT_APRILTAG_36h11 are there: give --pattern aprilgrid" in seen
    page = np.repeat(to_image(checkers, 2)[..., None], 3, axis=-1)
    said = detect_images([("b.png", page)], Board()).reasons["b.png"]
    assert (
        "8x6 squares (7x5 inner corners) is there: give --pattern checkerboard --columns 8 --rows 6" in said
    )
    assert "35 round dots are there" in board_seen(dots(CIRCLES), checkers)
    swapped = Board(5, 7, 20.0, pattern="asymmetric_circles")
    assert "give --pattern circles --columns" in board_seen(dots(CIRCLES), swapped)


@pytest.mark.parametrize(
    ("text", "board"),
    [
        (
            "target_type: 'aprilgrid'\ntagCols: 4\ntagRows: 3\ntagSize: 0.05\ntagSpacing: 0.3\ncodeOffset: 0",
            APRIL,
        ),
        (
            "target_type: checkerboard\ntargetCols: 8\ntargetRows: 5\n" + SPACING.format(0.03, 0.03),
            Board(9, 6, 30.0, pattern="checkerboard"),
        ),
        (
            "target_type: circlegrid\ntargetCols: 4\ntargetRows: 9\nspacingMeters: .012\nasymmetricGrid: yes",
            STAGGERED,
        ),
    ],
)
def test_target_files_of_kalibr_name_the_board(tmp_path, text, board):
    path = tmp_path / "target.yaml"
    path.write_text(text)
    read = board_of_target(path)
    assert (read.pattern, read.columns, read.rows) == (board.pattern, board.columns, board.rows)
    np.testing.assert_allclose(read.corners_m, board.corners_m, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target_type: aprilgird", "did you mean 'aprilgrid'"),
        ("target_type: aprilgrid\ntagCols: 6", "key .* is missing"),
        ("target_type: aprilgrid\ntagCols: 6\ntagRows: 6\ntagSize: big\ntagSpacing: 0.3", "expected numbers"),
        ("target_type: aprilgrid\ntagCols: 0\ntagRows: 6\ntagSize: .1\ntagSpacing: .3", "0x6 tags, expected"),
        (
            "target_type: checkerboard\ntargetCols: 8\ntargetRows: 5\n" + SPACING.format(0.03, 0.02),
            "only true squares",
        ),
    ],
)
def test_target_files_that_say_no_board_are_refused(tmp_path, text, message):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(CalibrationError, match=message):
        board_of_target(tmp_path / "t.yaml")


def test_what_is_found_but_not_printed_says_what_to_print():
    with pytest.raises(CalibrationError, match="print a ChArUco board"):
        to_image(CIRCLES)
