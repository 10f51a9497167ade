"""Every page that is written fits a telephone and a desk: nothing sticks out, overlaps or is too small.

The pages that are served, the desk and the room of annotations, are tested where they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import drawn_pages
import numpy as np
import pytest
import tiny_bundles
from browser import chromium, console_errors, layout_faults
from episode_kit import rig, write_episode

from tacit import cli
from tacit.rig import load_rig
from tacit.view.page import Page
from tacit.view.player import clip_player
from tacit.view.rig_page import rig_page

WIDTHS = (400, 1400)
RIGS = ("ur5e", "xtrainer")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page."""
    root = tmp_path_factory.mktemp("pages")
    episodes = [write_episode(root / "data", 12, success) for success in (True, False)]
    tiny_bundles.policy_bundle(root, rig())
    written = {
        name: root / f"{name}.html" for name in ("episode", "dataset", "check", "replay", "ur5e", "xtrainer")
    }
    calls = (
        ["view", str(episodes[0]), "--out", str(written["episode"])],
        ["view", str(root / "data"), "--out", str(written["dataset"])],
        ["check", str(root / "data"), "--html", str(written["check"])],
        ["replay", "bundle", str(episodes[0]), str(root / "policy.onnx"), "--out", str(written["replay"])],
    )
    # `check` says 1: both episodes show the same.
    assert [cli.main(words) for words in calls] == [0, 0, 1, 0]
    for name in RIGS:
        rig_page(load_rig(name)).save(written[name])
    with pytest.MonkeyPatch.context() as patch:
        written["touch"] = drawn_pages.touch_page(root, patch)
    for name in ("demo", "vace_e", "study", "control", "corners"):
        (root / name).mkdir()
        written[name] = getattr(drawn_pages, f"{name}_page")(root / name)
    return written | drawn_pages.alignment_pages(root)


@pytest.fixture(scope="module")
def driver() -> Iterator[object]:
    with chromium() as running:
        yield running


def test_no_page_overflows_overlaps_or_fails(pages: dict[str, Path], driver: object) -> None:
    found = []
    for name, path in pages.items():
        driver.get(path.as_uri())  # type: ignore[attr-defined]
        for width in WIDTHS:
            found += [f"{name} at {width} px: {fault}" for fault in layout_faults(driver, width)]
        found += [f"{name}: {error}" for error in console_errors(driver)]
    assert not found, "\n".join(found)


BAD = """<table style="width:200px"><tr><td style="min-width:900px">wide</td></tr>
<tr><td style="padding:0;text-align:right">13</td><td style="padding:0">92 %</td></tr></table>
<table style="width:30px;table-layout:fixed">
<tr><td style="overflow-wrap:anywhere">unbreakable</td></tr></table>
<svg class="plot" viewBox="0 0 800 80" width="320">
<text x="9" y="20">small</text><text x="12" y="22">on it</text><rect x="700" width="400" height="9"/></svg>
<script>fail()</script>"""
FOUND = (
    "wider than the window",
    "13 runs into 92 %",
    "broken in two",
    "px high",
    "lies on",
    "leaves its plot",
)


def test_the_checker_sees_each_fault(tmp_path: Path, driver: object) -> None:
    page = tmp_path / "bad.html"
    page.write_text(BAD)
    driver.get(page.as_uri())  # type: ignore[attr-defined]
    found = "; ".join(layout_faults(driver, 400))
    assert [fault for fault in FOUND if fault not in found] == []
    assert "wider than the window" not in "; ".join(layout_faults(driver, 1400))
    assert console_errors(driver)


def test_the_keys_move_the_player_that_was_clicked(tmp_path: Path, driver: object) -> None:
    films = [clip_player({"film": [np.zeros((9, 12, 3), np.uint8)] * 4}, range(4)) for _ in range(2)]
    page = Page("films").block(films[0]).block(films[1]).save(tmp_path / "films.html")
    driver.get(page.as_uri())  # type: ignore[attr-defined]
    frames = "return [...document.querySelectorAll('.player')].map((one) => Number(one.dataset.frame))"
    press = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));"
    click = "document.querySelectorAll('.player')[1].focus();"
    assert driver.execute_script(press + frames) == [1, 0]  # type: ignore[attr-defined]
    assert driver.execute_script(click + press + press + frames) == [1, 2]  # type: ignore[attr-defined]
