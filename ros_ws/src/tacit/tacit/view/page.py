"""Build one self-contained HTML page: sections, figures, plots, tables; readable offline and for years.

Used by `tacit view`, `tacit check --html` and the report of the demo.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from tacit.images import encode_jpeg

JPEG_QUALITY = 88
STYLE = Path(__file__).with_name("page.css")


class Link(NamedTuple):
    """Words that open another page; the address is relative to the page."""

    text: str
    address: str


class Tile(NamedTuple):
    """A picture (H, W, 3) RGB uint8 with its words, that opens another page where there is an address."""

    image_rgb: np.ndarray
    caption: str
    address: str = ""


class Judged(NamedTuple):
    """A value, whether it is good, and what is wanted, such as "at least 95 %"."""

    value: str | int | float | None
    good: bool
    wanted: str


Cell = str | int | float | bool | Link | Judged | None
BADGES = {"ok": "ok", "success": "ok", "warning": "warn", "error": "bad", "failure": "bad", "note": "note"}
NUMBER = re.compile(r"[+-]?\d[\d.]*( %)?")
MAX_WORD, WHOLE = 24, 14
"""A column is as wide as its longest word up to the one, and as its longest text up to the other [letters]:
no word of a narrow window is broken, and a hash does not make a table wide."""


class Page:
    """An HTML page that grows from top to bottom; every method returns the page.

    Text is escaped; `code` in backticks is set as code.

    Args:
        title: Heading and title of the window.
        subtitle: One line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._parts = [f"<header><h1>{_text(title)}</h1><p class=lead>{_text(subtitle)}</p></header>"]
        self._sections: list[tuple[str, str]] = []

    def section(self, title: str, text: str = "") -> Page:
        """Start a section; with three or more the page gets a table of contents."""
        anchor = f"s{len(self._sections) + 1}"
        self._sections.append((anchor, title))
        self._parts.append(f'<h2 id="{anchor}">{_text(title)}</h2>')
        return self.paragraph(text) if text else self

    def heading(self, title: str) -> Page:
        """Start a part of a section."""
        self._parts.append(f"<h3>{_text(title)}</h3>")
        return self

    def paragraph(self, text: str) -> Page:
        """Add a paragraph."""
        self._parts.append(f"<p>{_text(text)}</p>")
        return self

    def facts(self, facts: Mapping[str, Cell]) -> Page:
        """Add a row of tiles: a large value over its name, and whether it is good where it is judged."""
        tiles = [_tile(name, value) for name, value in facts.items()]
        self._parts.append(f"<div class=tiles>{''.join(tiles)}</div>")
        return self

    def figure(self, image_rgb: np.ndarray, caption: str = "", *, width: int | None = None) -> Page:
        """Add an image.

        Args:
            image_rgb: (H, W, 3) RGB uint8.
            caption: Below it.
            width: Display width [px]; that of the image when None, never wider than the page.
        """
        return self._figure(_image(image_rgb, caption, width or image_rgb.shape[1]), caption)

    def gallery(self, tiles: Sequence[Tile]) -> Page:
        """Add small pictures side by side, as many in a row as fit."""
        parts = []
        for tile in tiles:
            inside = f"{_image(tile.image_rgb, tile.caption)}<span>{_text(tile.caption)}</span>"
            parts.append(_anchor(inside, tile.address) if tile.address else f"<div>{inside}</div>")
        self._parts.append(f"<div class=gallery>{''.join(parts)}</div>")
        return self

    def block(self, markup: str) -> Page:
        """Add HTML that was built, and escaped, elsewhere."""
        self._parts.append(markup)
        return self

    def plot(self, svg: str, caption: str = "") -> Page:
        """Add an SVG of `tacit.view.plot`."""
        return self._figure(svg, caption, "wide")

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "", *, badges: int = -1
    ) -> Page:
        """Add a table; numbers are set to the right.

        Args:
            headers: One per column; those of numbers, by the first row, stand to the right.
            rows: Cells; floats are shown with four significant digits.
            caption: Above it.
            badges: Column whose words ok, success, warning, error, failure and note become coloured badges;
                -1 for none.
        """
        numeric = [_is_number(cell) for cell in rows[0]] if rows else [False] * len(headers)
        head = "".join(
            _th(name, right, [row[i] for row in rows])
            for i, (name, right) in enumerate(zip(headers, numeric, strict=True))
        )
        body = "".join(
            f"<tr>{''.join(_td(c, i == badges, numeric[i]) for i, c in enumerate(row))}</tr>" for row in rows
        )
        title = f"<caption>{_text(caption)}</caption>" if caption else ""
        table = f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        self._parts.append(f"<div class=scroll>{table}</div>")
        return self

    def details(self, summary: str, text: str) -> Page:
        """Add preformatted text behind a line that opens it."""
        block = f"<summary>{_text(summary)}</summary><pre>{html.escape(text)}</pre>"
        self._parts.append(f"<details>{block}</details>")
        return self

    def html(self) -> str:
        """Return the page as HTML text."""
        contents = ""
        if len(self._sections) >= 3:
            links = "".join(f'<a href="#{anchor}">{_text(title)}</a>' for anchor, title in self._sections)
            contents = f"<nav>{links}</nav>"
        head, *rest = self._parts
        style = STYLE.read_text(encoding="utf-8")
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self._title)}</title><style>{style}</style></head>"
            f"<body><main>{head}{contents}{''.join(rest)}</main></body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the page (through a temporary file, so a reader never sees half of it)."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(self.html(), encoding="utf-8")
        os.replace(temporary, path)
        return path

    def _figure(self, body: str, caption: str, kind: str = "") -> Page:
        text = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure{f' class={kind}' if kind else ''}>{body}{text}</figure>")
        return self


def _text(text: str) -> str:
    """Escape; set `code` in backticks."""
    pieces = html.escape(text).split("`")
    if len(pieces) % 2 == 0:
        return html.escape(text)
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))


def _image(image_rgb: np.ndarray, caption: str, width: int | None = None) -> str:
    text = base64.b64encode(encode_jpeg(image_rgb, JPEG_QUALITY).tobytes()).decode()
    size = "" if width is None else f'width="{width}" '
    return f'<img {size}alt="{html.escape(caption)}" src="data:image/jpeg;base64,{text}">'


def _anchor(inside: str, address: str) -> str:
    return f'<a href="{quote(address)}">{inside}</a>'


def _tile(name: str, value: Cell) -> str:
    if not isinstance(value, Judged):
        return f"<div><b>{_cell(value)}</b><span>{_text(name)}</span></div>"
    return f"<div><b>{_cell(value.value)}</b><span>{_text(name)}</span>{_verdict(value)}</div>"


def _verdict(judged: Judged) -> str:
    """Say it in words too: colours are not seen by all, nor printed by all."""
    kind, word = ("ok", "good") if judged.good else ("bad", "bad")
    return f'<span class="judged {kind}"><em>{word}</em>, wanted: {_text(judged.wanted)}</span>'


def _cell(value: Cell) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, Judged):
        return f"{_cell(value.value)}{_verdict(value)}"
    if isinstance(value, Link):
        return _anchor(_text(value.text), value.address)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "&minus;")
    return _text(str(value))


def _th(name: str, right: bool, cells: Sequence[Cell]) -> str:
    """A head of a column, with the least width of the column."""
    texts = [name, *(_shown(cell) for cell in cells)]
    word = max((len(word) for text in texts for word in text.split()), default=0)
    whole = max((len(text) for text in texts), default=0)
    letters = max(min(word, MAX_WORD), whole if whole <= WHOLE else 0)
    # Padding counts, and a heavy letter is wider than a digit.
    return f'<th{" class=n" if right else ""} style="min-width:{letters + 3}ch">{_text(name)}</th>'


def _shown(value: Cell) -> str:
    if isinstance(value, Judged):
        return _shown(value.value)
    return value.text if isinstance(value, Link) else str(value)


def _td(value: Cell, badge: bool, right: bool) -> str:
    if badge and str(value) in BADGES:
        return f'<td><span class="badge {BADGES[str(value)]}">{_cell(value)}</span></td>'
    is_right = right if value is None else _is_number(value)
    return f"<td class=n>{_cell(value)}</td>" if is_right else f"<td>{_cell(value)}</td>"


def _is_number(value: Cell) -> bool:
    """Whether a cell is set to the right: a number, or words of one, such as `7.10` and `45 %`."""
    if isinstance(value, Judged):
        return _is_number(value.value)
    if isinstance(value, str):
        return NUMBER.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)
