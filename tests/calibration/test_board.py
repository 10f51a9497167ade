"""The printed board is the board that OpenCV detects, in true millimetres."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tacit.errors import CalibrationError
from tacit_calibration.board import DICTIONARIES, Board
from tacit_calibration.board_files import (
    BAR_MM,
    MARGIN_MM,
    page_size_mm,
    to_image,
    to_pdf,
    to_png,
    to_svg,
    write_board,
)
from tacit_calibration.detection import detect, detect_folder, detect_images, read_picture

BOARDS = [Board(), Board(5, 7, 40.0, 28.0, "DICT_5X5_100"), Board(8, 5, 24.0, 16.0, "DICT_6X6_250")]


@pytest.mark.parametrize("board", BOARDS)
def test_the_pattern_is_opencvs_own(board):
    image = to_image(board, 10)
    margin = round(MARGIN_MM * 10)
    width, height = (round(side * 10) for side in board.size_mm)
    pattern = image[margin : margin + height, margin : margin + width]
    expected = board.aruco.generateImage((width, height), marginSize=0)
    assert np.mean(pattern != expected) < 0.01  # cells that are no whole pixels round by one


@pytest.mark.parametrize("board", BOARDS)
def test_every_corner_is_found_where_the_millimetres_say(board):
    image = to_image(board, 6)
    view = detect("page", np.repeat(image[..., None], 3, axis=-1), board)
    assert view is not None
    assert len(view.corners_px) == len(board.corners_m)
    expected = (view.points_m[:, :2] * 1e3 + MARGIN_MM) * 6 - 0.5  # edges lie between pixel centres
    np.testing.assert_allclose(view.corners_px, expected, atol=0.25)


def test_svg_states_its_size_in_millimetres():
    board = Board()
    root = ElementTree.fromstring(to_svg(board))
    width, height = page_size_mm(board)
    assert (root.get("width"), root.get("height")) == (f"{width:g}mm", f"{height:g}mm")
    assert root.get("viewBox") == f"0 0 {width:g} {height:g}"
    rectangles = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if "%" not in r.get("width", "")]
    widest = max(float(r.get("width", 0)) for r in rectangles)
    assert widest == BAR_MM
    area = sum(float(r.get("width", 0)) * float(r.get("height", 0)) for r in rectangles) - BAR_MM
    assert area == pytest.approx(board.black_rectangles_mm()[:, 2:].prod(axis=1).sum(), rel=1e-6)


def test_pdf_points_are_25_4_over_72_millimetres():
    board = Board()
    text = to_pdf(board).decode("latin-1")
    box = [float(v) for v in re.search(r"/MediaBox \[([^\]]*)\]", text).group(1).split()]
    np.testing.assert_allclose(np.array(box[2:]) * 25.4 / 72, page_size_mm(board), atol=1e-3)
    rectangles = np.array(
        [line.split()[:4] for line in text.splitlines() if line.endswith(" re")], dtype=float
    )
    millimetres = rectangles * 25.4 / 72
    expected = board.black_rectangles_mm()
    np.testing.assert_allclose(millimetres[: len(expected), 2:], expected[:, 2:], atol=1e-4)
    top = page_size_mm(board)[1] - millimetres[: len(expected), 1] - millimetres[: len(expected), 3]
    np.testing.assert_allclose(top - MARGIN_MM, expected[:, 1], atol=1e-3)
    assert millimetres[-1, 2] == pytest.approx(BAR_MM, abs=1e-3)


def test_pdf_objects_stand_where_its_table_says():
    data = to_pdf(Board())
    start = int(re.search(rb"startxref\n(\d+)", data).group(1))
    assert data[start : start + 4] == b"xref"
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n", data), start=1):
        assert data[int(offset) :].startswith(b"%d 0 obj" % number)
    stream = re.search(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", data, re.DOTALL)
    assert int(stream.group(1)) == len(stream.group(2))


def test_png_carries_its_density():
    data = to_png(Board(), 20)
    place = data.index(b"pHYs")
    assert struct.unpack(">IIB", data[place + 4 : place + 13]) == (20_000, 20_000, 1)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(image, to_image(Board(), 20))
    assert image.shape[1] / 20 == page_size_mm(Board())[0]


def test_the_default_page_fits_a4():
    width, height = page_size_mm(Board())
    assert width <= 297
    assert height <= 210


def test_files_are_named_after_the_board(tmp_path):
    names = sorted(path.name for path in write_board(Board(), tmp_path / "new"))
    assert names == ["charuco_9x6_30mm.pdf", "charuco_9x6_30mm.png", "charuco_9x6_30mm.svg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"marker_mm": 30.0}, "must be smaller"),
        ({"square_mm": 3.0, "marker_mm": 2.0}, "larger markers"),
        ({"columns": 2}, "at least 3x3"),
        ({"columns": 20, "rows": 20}, "200 markers needed, DICT_4X4_50 has 50"),
        ({"dictionary": "DICT_4X4_5"}, "did you mean 'DICT_4X4_50'"),
    ],
)
def test_boards_that_cannot_work_are_refused(options, message):
    with pytest.raises(CalibrationError, match=message):
        Board(**options)


@pytest.mark.parametrize("dictionary", DICTIONARIES)
def test_every_offered_dictionary_makes_a_board_that_is_found(dictionary):
    board = Board(5, 4, 30.0, 22.0, dictionary)
    view = detect("page", np.repeat(to_image(board, 5)[..., None], 3, axis=-1), board)
    assert view is not None
    assert len(view.corners_px) == 12


CHECKERBOARDS = [Board(9, 6, 30.0, pattern="checkerboard"), Board(6, 9, 25.0, pattern="checkerboard")]


@pytest.mark.parametrize("board", CHECKERBOARDS)
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_checkerboard_knows_which_way_up_it_is(board, turns):
    """Turned pictures of the printed page give the same corners, turned with it."""
    page = np.rot90(to_image(board, 6), turns)
    view = detect("page", np.ascontiguousarray(np.repeat(page[..., None], 3, axis=-1)), board)
    assert view is not None and len(view.points_m) == len(board.corners_m)
    x, y = ((view.points_m[:, :2] * 1e3 + MARGIN_MM) * 6 - 0.5).T
    height, width = to_image(board, 6).shape
    for _ in range(turns):  # np.rot90 turns counterclockwise
        x, y, width, height = y, width - 1 - x, height, width
    np.testing.assert_allclose(view.corners_px, np.stack([x, y], axis=-1), atol=0.25)


def photo(board: Board, legacy: bool = False) -> np.ndarray:
    """A picture of a board drawn by OpenCV, at an angle."""
    drawn = replace(board, legacy=legacy).aruco.generateImage(
        (board.columns * 90, board.rows * 90), marginSize=60
    )
    H = np.array([[0.9, 0.12, 60], [-0.08, 0.85, 80], [1e-4, 5e-5, 1]])
    return np.repeat(cv2.warpPerspective(drawn, H, (1280, 720), borderValue=200)[..., None], 3, axis=-1)


@pytest.mark.parametrize(("columns", "rows"), [(9, 6), (7, 5), (8, 6)])
def test_both_layouts_of_a_charuco_board_give_the_same_corners(columns, rows):
    board = Board(columns, rows, 30.0, 22.0)
    new, legacy = (detect("page", photo(board, is_legacy), board) for is_legacy in (False, True))
    assert len(new.corners_px) == len(legacy.corners_px) == (columns - 1) * (rows - 1)
    np.testing.assert_array_equal(new.points_m, legacy.points_m)
    np.testing.assert_allclose(new.corners_px, legacy.corners_px, atol=1.0)  # one square is 80 px


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Board(6, 9, 30.0, 22.0), "27 markers of DICT_4X4_50 are there.*rows and columns are swapped"),
        (Board(9, 6, 30.0, 22.0, "DICT_5X5_50"), "27 markers of DICT_4X4_50 are there: give --dictionary"),
        (Board(12, 8, 30.0, 22.0), "in another layout than 12x8 squares"),
    ],
)
def test_a_picture_of_another_board_says_what_is_there(asked, said):
    found = detect_images([("a.png", photo(Board(9, 6, 30.0, 22.0)))], asked)
    assert re.search(said, found.reasons["a.png"])
    grey = np.full((480, 640, 3), 128, np.uint8)
    assert "no markers of any" in detect_images([("b.png", grey)], asked).reasons["b.png"]


def test_inner_corners_given_for_squares_are_named():
    page = np.repeat(to_image(CHECKERBOARDS[0], 6)[..., None], 3, axis=-1)
    found = detect_images([("a.png", page)], Board(8, 5, 30.0, pattern="checkerboard"))
    assert (
        "one of 9x6 squares (8x5 inner corners) is there: give --columns 9 --rows 6" in found.reasons["a.png"]
    )


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("suffix", ["tiff", "pgm", "png"])
def test_pictures_of_more_than_eight_bits_are_as_bright_as_they_were_seen(tmp_path, suffix, bits):
    seen = np.arange(256, dtype=np.uint16).reshape(16, 16)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), seen << (bits - 8))
    np.testing.assert_array_equal(read_picture(tmp_path / f"a.{suffix}")[..., 0], seen)


@pytest.mark.parametrize("suffix", ["bmp", "tiff", "pgm", "png", "jpg"])
def test_pictures_of_every_usual_format_are_read(tmp_path, suffix):
    board = Board()
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), photo(board)[..., 0])  # grey; a PGM can be nothing else
    assert len(detect_folder(tmp_path, board).views[0].corners_px) == 40
    (tmp_path / "b.bmp").write_bytes(b"BM nothing")
    with pytest.raises(CalibrationError, match=r"b\.bmp: a damaged picture"):
        detect_folder(tmp_path, board)


def test_pictures_of_several_sizes_are_named():
    images = [(f"{i}.png", np.zeros((480 + 240 * (i > 4), 640, 3), np.uint8)) for i in range(6)]
    with pytest.raises(CalibrationError, match=r"0\.png, 1\.png, 2\.png and 2 more; 640x720: 5\.png"):
        detect_images(images, Board())


def test_a_checkerboard_half_hidden_is_no_view():
    board = CHECKERBOARDS[0]
    page = np.repeat(to_image(board, 6)[..., None], 3, axis=-1)
    page[:, :500] = 255
    assert detect("page", page, board) is None


def test_a_checkerboard_that_looks_the_same_upside_down_is_found_in_either_order():
    board = Board(8, 6, 30.0, pattern="checkerboard")
    page = np.repeat(to_image(board, 6)[..., None], 3, axis=-1)
    view = detect("page", page, board)
    expected = (board.corners_m[:, :2] * 1e3 + MARGIN_MM) * 6 - 0.5
    off = [np.abs(view.corners_px - order).max() for order in (expected, expected[::-1])]
    assert min(off) < 0.25
    assert board.looks_same_upside_down
    with pytest.raises(CalibrationError, match="upside down"):
        board.check_direction()
    assert not CHECKERBOARDS[0].looks_same_upside_down
    assert not Board(8, 6).looks_same_upside_down  # markers tell


def test_files_of_a_checkerboard_are_named_and_labelled_so(tmp_path):
    paths = write_board(CHECKERBOARDS[0], tmp_path)
    assert {path.stem for path in paths} == {"checkerboard_9x6_30mm"}
    assert "checkerboard 9x6, square 30 mm" in (tmp_path / "checkerboard_9x6_30mm.svg").read_text()
    assert len(CHECKERBOARDS[0].black_rectangles_mm()) == 27
