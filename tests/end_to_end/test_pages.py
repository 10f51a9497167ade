"""Pages fit a telephone and a desk: nothing sticks out or overlaps at 400 and 1400 px."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_bundles
from browser import chromium, console_errors, layout_faults
from episode_kit import rig, write_episode

from tacit import cli
from tacit.rig import load_rig
from tacit.view.rig_page import rig_page

WIDTHS = (400, 1400)
RIGS = ("ur5e", "xtrainer")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page that is written from recordings and rigs."""
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
    return written


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
    assert found == []


def test_the_checker_sees_what_sticks_out(tmp_path: Path, driver: object) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<table><tr><td style="min-width:900px">wide</td></tr></table><script>fail()</script>')
    driver.get(page.as_uri())  # type: ignore[attr-defined]
    assert layout_faults(driver, 400) and not layout_faults(driver, 1400)
    assert console_errors(driver)
