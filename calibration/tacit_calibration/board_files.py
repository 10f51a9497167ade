"""A board on paper: PDF and SVG with true millimetres, PNG with its pixel density written inside.

Vector files are a list of rectangles, written by hand: no library, nothing to scale wrongly. A bar
of 100 mm under the pattern shows whether the printer kept the size.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit_calibration.board import Board

MARGIN_MM = 12.0
"""White around the pattern: the detector needs half a square, printers leave 4-5 mm blank."""
BAR_MM = 100.0
BAR_HEIGHT_MM = 1.0
BAR_OFFSET_MM = 8.0
"""Between pattern and bar: far enough not to touch the quiet zone of the outer markers."""
POINTS_PER_MM = 72.0 / 25.4
PIXELS_PER_MM = 20
"""508 dpi: the default board's cells of 3.5 mm and squares of 30 mm fall on whole pixels."""


def write_board(board: Board, folder: Path) -> list[Path]:
    """Write `<pattern>_<columns>x<rows>_<square>mm` as .pdf, .svg and .png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{board.pattern}_{board.columns}x{board.rows}_{board.square_mm:g}mm"
    contents = {".pdf": to_pdf(board), ".svg": to_svg(board).encode(), ".png": to_png(board)}
    paths = []
    for suffix, content in contents.items():
        path = stem.with_name(stem.name + suffix)
        path.write_bytes(content)
        paths.append(path)
    return paths


def page_size_mm(board: Board) -> tuple[float, float]:
    """Return width and height of the page: the pattern and its margins [mm]."""
    width, height = board.size_mm
    return width + 2 * MARGIN_MM, height + 2 * MARGIN_MM


def caption(board: Board) -> str:
    """Return the line that says what the board is and how to print it."""
    return f"{board.name}. Print at 100 %: the bar is {BAR_MM:g} mm."


def to_svg(board: Board) -> str:
    """Return the page as SVG whose user unit is one millimetre."""
    width, height = page_size_mm(board)
    rectangles = "\n".join(
        f'<rect x="{x:.4f}" y="{y:.4f}" width="{w:.4f}" height="{h:.4f}"/>' for x, y, w, h in _page(board)
    )
    left, base = _caption_place(board)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}mm" height="{height:g}mm" '
        f'viewBox="0 0 {width:g} {height:g}" shape-rendering="crispEdges">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n<g fill="black">\n{rectangles}\n</g>\n'
        f'<text x="{left:g}" y="{base:g}" font-family="sans-serif" font-size="3">{caption(board)}</text>\n'
        "</svg>\n"
    )


def to_pdf(board: Board) -> bytes:
    """Return the page as a PDF of one page, in points of exactly 25.4/72 mm."""
    width, height = (side * POINTS_PER_MM for side in page_size_mm(board))
    k = POINTS_PER_MM
    lines = [
        # PDF counts y upwards from the bottom, the board downwards from the top.
        f"{x * k:.5f} {height - (y + h) * k:.5f} {w * k:.5f} {h * k:.5f} re"
        for x, y, w, h in _page(board)
    ]
    left, base = _caption_place(board)
    text = f"BT /F1 8 Tf {left * k:.3f} {height - base * k:.3f} Td ({caption(board)}) Tj ET"
    stream = "\n".join([*lines, "f", text]).encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.5f} {height:.5f}] /Contents 4 0 R "
            "/Resources << /Font << /F1 5 0 R >> >> >>"
        ).encode(),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    return _assemble_pdf(objects)


def to_image(board: Board, pixels_per_mm: int = PIXELS_PER_MM) -> NDArray[np.uint8]:
    """Return the page (H, W) uint8, black on white, without the caption's text."""
    width, height = (round(side * pixels_per_mm) for side in page_size_mm(board))
    image = np.full((height, width), 255, dtype=np.uint8)
    # Both edges are rounded, not edge and size: neighbours then share an edge without gap or overlap.
    for x, y, w, h in _page(board) * pixels_per_mm:
        image[round(y) : round(y + h), round(x) : round(x + w)] = 0
    return image


def to_png(board: Board, pixels_per_mm: int = PIXELS_PER_MM) -> bytes:
    """Return the page as PNG; its pHYs chunk gives the pixels per metre, so it prints to size."""
    data = bytes(cv2.imencode(".png", to_image(board, pixels_per_mm))[1])
    density = struct.pack(">IIB", pixels_per_mm * 1000, pixels_per_mm * 1000, 1)
    header_end = 8 + 25  # signature, then IHDR: 4 length + 4 type + 13 data + 4 checksum
    return data[:header_end] + _chunk(b"pHYs", density) + data[header_end:]


def _page(board: Board) -> NDArray[np.float64]:
    """Return the black rectangles of the page, pattern and bar (M, 4) [mm]."""
    pattern = board.black_rectangles_mm() + [MARGIN_MM, MARGIN_MM, 0, 0]
    bar = [MARGIN_MM, MARGIN_MM + board.size_mm[1] + BAR_OFFSET_MM, BAR_MM, BAR_HEIGHT_MM]
    return np.vstack([pattern, bar]) if board.size_mm[0] >= BAR_MM else pattern


def _caption_place(board: Board) -> tuple[float, float]:
    """Return left edge and base line of the caption [mm], right of the bar."""
    bottom = MARGIN_MM + board.size_mm[1] + BAR_OFFSET_MM + BAR_HEIGHT_MM
    return MARGIN_MM + BAR_MM + 3.0, bottom


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _assemble_pdf(objects: list[bytes]) -> bytes:
    """Return a PDF file of numbered objects with its cross-reference table."""
    output, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(output))
        output += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(output)
    output += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    output += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    output += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(output)
